"""A clock that tests move, for code that is handed its clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""Where a fake clock starts: a Monday morning, so that nothing depends on today."""


class FakeClock:
    """Time that passes only when somebody sleeps on it or moves it.

    Has the two members of the pipeline's ``Clock`` (``now`` and ``sleep``) without importing it, and
    ``monotonic`` for durations. One clock belongs to one event loop or thread.
    """

    def __init__(self, start: datetime = EPOCH) -> None:
        """Start at ``start``, which must be timezone-aware (``ValueError`` if it is not)."""
        if start.tzinfo is None:
            raise ValueError("FakeClock needs a timezone-aware start")
        self._start = start.astimezone(UTC)
        self._elapsed = timedelta()
        self.sleeps_s: list[float] = []

    def now(self) -> datetime:
        """The time of day, in UTC."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Seconds since this clock started; never runs backwards."""
        return self._elapsed.total_seconds()

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass (``ValueError`` if negative: use ``step_back`` to model skew)."""
        if seconds < 0:
            raise ValueError("time does not pass backwards")
        self._elapsed += timedelta(seconds=seconds)

    def step_back(self, seconds: float) -> None:
        """Set the time of day back, as a clock correction does; ``monotonic`` keeps its value."""
        self._start -= timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        """Let ``seconds`` pass at once, and give every other task that is ready a turn."""
        self.sleeps_s.append(seconds)
        self.advance(max(0.0, seconds))
        await asyncio.sleep(0)
