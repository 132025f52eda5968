"""Virtual time: an event loop that never waits. When nothing is ready, the clock jumps to the next timer.

Every timeout of the code under test (`anyio.fail_after`, `asyncio.sleep`, the pipeline's `Clock`) runs on
it, so a day of polling takes milliseconds, and the order of events is the same for the same seed.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

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
        """Run to the end on a loop that lives in this clock's time."""
        process = Process(self, main)
        try:
            process.go_on()
            return process.result()
        finally:
            process.close()


class Process(Generic[T]):
    """A simulated process: it can be stopped between two steps and go on later, as by SIGSTOP and SIGCONT."""

    def __init__(self, clock: VirtualClock, main: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._loop = _Loop(clock)
        self._task = self._loop.create_task(main())
        self._task.add_done_callback(self._ended)

    def go_on(self) -> bool:
        """Run until it ends (True) or is stopped (False). Timers that ran out meanwhile fire first."""
        self._loop.run_forever()
        return self._task.done()

    def stop(self) -> None:
        """Stop at the next point where it waits; for the process itself to call."""
        self._loop.stop()

    def _ended(self, _: asyncio.Task[T]) -> None:
        self._loop.stop()

    def result(self) -> T:
        """What it returned; raises what it raised."""
        return self._task.result()

    def close(self) -> None:
        """End it."""
        self._task.remove_done_callback(self._ended)
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self, clock: VirtualClock) -> None:
        self._virtual = clock
        super().__init__(_Selector(clock))

    def time(self) -> float:
        return self._virtual.seconds

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:
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
