"""A clock that tests move."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from bulkrate.testing import FakeClock


def test_sleeping_passes_the_time_and_lets_others_run() -> None:
    clock, seen = FakeClock(), list[str]()

    async def main() -> None:
        async def other() -> None:
            seen.append("other")

        task = asyncio.create_task(other())
        await clock.sleep(3_600)
        seen.append("slept")
        await task

    start = clock.now()
    asyncio.run(main())
    assert seen == ["other", "slept"]
    assert clock.now() - start == timedelta(hours=1)
    assert clock.monotonic() == 3_600
    assert clock.sleeps_s == [3_600]


def test_a_correction_moves_the_time_of_day_only() -> None:
    clock = FakeClock(datetime(2026, 3, 1, tzinfo=UTC))
    clock.advance(10)
    clock.step_back(60)
    assert clock.now() == datetime(2026, 2, 28, 23, 59, 10, tzinfo=UTC)
    assert clock.monotonic() == 10


def test_it_refuses_what_a_clock_cannot_do() -> None:
    with pytest.raises(ValueError, match="aware"):
        FakeClock(datetime(2026, 3, 1))
    with pytest.raises(ValueError, match="backwards"):
        FakeClock().advance(-1)
