"""Ctrl-C and SIGTERM: the first stops the waiting in an orderly way, the second stops everything.

Both are safe at any moment, because the ledger is written before and after each effect; the first merely
leaves less to find out afterwards.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anyio

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def treat_sigterm_as_ctrl_c() -> None:
    """SIGTERM ends as Ctrl-C does: state saved, exit code 130."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, interrupt)


@contextmanager
def cancelled_by_signals(scope: anyio.CancelScope) -> Iterator[None]:
    """Within the running event loop, cancel `scope` at the first signal."""
    import asyncio  # not for --help

    loop = asyncio.get_running_loop()
    seen = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            raise KeyboardInterrupt
        seen = True
        loop.call_soon_threadsafe(scope.cancel)

    # A signal that is ignored stays so: that is how shells protect background jobs.
    before = {number: signal.getsignal(number) for number in SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
