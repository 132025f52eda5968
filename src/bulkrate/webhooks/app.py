"""`POST /webhooks/PROVIDER`: a genuine message about a batch becomes a hint in the ledger, once.

2xx says that it need not come again: new, heard before, about a batch that is not ours, or about something
else. Nothing of a message that is not genuine is read, kept or written anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from bulkrate.errors import LedgerError
from bulkrate.providers.webhook import NotGenuine

if TYPE_CHECKING:
    from starlette.requests import Request

    from bulkrate.ledger.ledger import Ledger
    from bulkrate.webhooks.receivers import Receiver

# A message about a batch has some 200 bytes.
MAX_BODY_BYTES = 1 << 16
# Whoever takes longer to say that little is not the provider.
BODY_TIMEOUT_S = 10.0


def make_app(
    receivers: Mapping[str, Receiver],
    ledger: Ledger,
    *,
    now: Callable[[], datetime],
    on_hint: Callable[[], object] = lambda: None,
) -> Starlette:
    """The ASGI application. `on_hint` is called after a hint that was not there before was recorded."""

    async def receive(request: Request) -> Response:
        provider = request.path_params["provider"]
        receiver = receivers.get(provider)
        if receiver is None:
            return _answer(404, f"no webhooks of {provider!r} are received here")
        try:
            with anyio.fail_after(BODY_TIMEOUT_S):
                body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            return _answer(408, "the body did not come")
        if body is None:
            return _answer(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
        try:
            message_id = receiver.signature.check(request.headers, body, now())
        except NotGenuine as error:
            return _answer(401, str(error))
        try:
            batch_id = receiver.format.batch_of(body)
        except ValueError:
            return _answer(400, "the body is not an event")
        if batch_id is None:
            return _answer(200, "not about a batch")
        try:
            with ledger.transaction("hint") as tx:
                new = tx.add_hint(provider, message_id, batch_id, now())
        except LedgerError:
            return _answer(503, "the ledger cannot be written now")
        if new:
            on_hint()
        return _answer(200, "thank you" if new else "heard before")

    return Starlette(routes=[Route("/webhooks/{provider}", receive, methods=["POST"])])


async def _body(request: Request) -> bytes | None:
    """The body; None if it is too long, whatever length it was said to have."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return body


def _answer(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status)
