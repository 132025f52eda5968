"""The provider's webhooks: a signed POST to one URL when a batch has ended (Standard Webhooks 1.0.0).

One try each; a real provider tries for days. The order is that of the ends, but for what a fault holds back.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson
from standardwebhooks import Webhook

if TYPE_CHECKING:
    from bulkrate.testing.gates import Gates
    from bulkrate.testing.provider_state import ProviderState
    from bulkrate.testing.records import Batch

WEBHOOK_SECRET: Final = "whsec_" + base64.b64encode(b"of-a-misbehaving-provider").decode()
"""What messages are signed with unless another secret is given."""

STALE_S: Final = 600
TIMEOUT_S: Final = 5.0


class Webhooks:
    """Tells of ends. Counts ``webhook_accepted`` (2xx) and ``webhook_refused`` (anything else) as events."""

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        state: ProviderState,
        gates: Gates,
        event: Callable[[Batch], dict[str, Any]],
    ) -> None:
        """``event``: the message about a batch. ``ValueError`` for what is no URL or no secret."""
        self._where = urlsplit(url)
        if self._where.scheme != "http" or not self._where.hostname:
            raise ValueError(f"webhooks go to http://HOST:PORT/PATH, not to {url!r}")
        self._webhook, self._forger = Webhook(secret), Webhook(b"somebody else's secret")
        self._state, self._gates, self._event = state, gates, event
        self._in_order = asyncio.Lock()
        self._sending: set[asyncio.Task[None]] = set()

    def ended(self, batch: Batch) -> None:
        """A batch has ended: tell, from the loop that serves. A provider that is stopped tells nobody."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        task = loop.create_task(self._tell(batch))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _tell(self, batch: Batch) -> None:
        def fault(name: str) -> Any:
            return self._state.faults.on_batch(f"webhook_{name}", batch)

        if fault("lost"):
            return
        if late := fault("late"):
            calls = late.number("calls")
            await self._gates.wait("call_arrived", self._gates.events["call_arrived"] + calls)
        body = orjson.dumps(self._event(batch))
        message_id = batch.id.replace("batch_", "wh_", 1)
        sent_at = datetime.fromtimestamp(self._state.at() - (STALE_S if fault("stale") else 0), UTC)
        signer = self._forger if fault("forged") else self._webhook
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": signer.sign(message_id, sent_at, body.decode()),
        }
        for _ in range(2 if fault("twice") else 1):
            async with self._in_order:
                status = await asyncio.to_thread(self._post, body, headers)
            self._gates.happened("webhook_accepted" if 200 <= status < 300 else "webhook_refused")

    def _post(self, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer; 0 if there was none."""
        where = self._where
        connection = HTTPConnection(where.hostname or "", where.port, timeout=TIMEOUT_S)
        try:
            connection.request("POST", where.path or "/", body, dict(headers))
            return connection.getresponse().status
        except (OSError, HTTPException):
            return 0
        finally:
            connection.close()
