"""Virtual time: an event loop that never waits. When nothing is ready, the clock jumps to the next timer.

Every timeout of the code under test (`anyio.fail_after`, `asyncio.sleep`, the pipeline's `Clock`) runs on
it, so a day of polling takes milliseconds, and the order of events is the same for the same seed.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import anyio

EPOCH = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)

T = TypeVar("T")


class Stalled(BaseException):
    """Nothing is ready and no timer is set: the code under test waits for something that never comes."""


class VirtualClock:
    """Time of a simulated world; it outlives the event loops (one per simulated process) that move it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        """The time of day, UTC."""
        return EPOCH + timedelta(seconds=self.seconds)

    async def sleep(self, seconds: float) -> None:
        """Wait, in virtual time."""
        await asyncio.sleep(seconds)

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """`anyio.run` on a loop that lives in this clock's time."""
        return anyio.run(main, backend_options={"loop_factory": lambda: _Loop(self)})


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._virtual.seconds

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """At once, in this thread: virtual time does not wait for another."""
        future: asyncio.Future[T] = self.create_future()
        future.set_result(func(*args))
        return future


class _Selector(selectors.SelectSelector):
    """Where the loop would wait, time passes instead."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._virtual = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise Stalled("every task waits, and nothing will wake one")
        if timeout > 0:
            self._virtual.seconds += timeout
        return super().select(0)
