"""Webhooks beside a loop: heard in a thread, recorded in the ledger, and the loop is woken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from bulkrate.webhooks.app import make_app
from bulkrate.webhooks.listen import listening
from bulkrate.webhooks.receivers import receivers_of

if TYPE_CHECKING:
    from bulkrate.ledger.ledger import Ledger
    from bulkrate.pipeline.hints import Bell


@contextmanager
def hearing(
    env: Mapping[str, str],
    ledger: Ledger,
    bell: Bell,
    *,
    host: str,
    port: int,
    now: Callable[[], datetime],
) -> Iterator[dict[str, str]]:
    """Hear webhooks until the block ends, inside the event loop of the bell; gives a URL for each provider.

    Raises ConfigError when no secret is set, or the address cannot be had.
    """
    loop = asyncio.get_running_loop()
    receivers = receivers_of(env)
    app = make_app(receivers, ledger, now=now, on_hint=lambda: loop.call_soon_threadsafe(bell.ring))
    with listening(app, host, port) as taken:
        shown = f"[{host}]" if ":" in host else host
        yield {provider: f"http://{shown}:{taken}/webhooks/{provider}" for provider in receivers}
