"""What counts against a limit, and what still fits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.budget import Held, Limit, Scope, fits, held, month_of

NOW = datetime(2026, 11, 24, tzinfo=UTC)
AMOUNTS = st.none() | st.decimals(0, 1000, places=9)


@dataclass(frozen=True)
class Entry:
    reserved: Decimal | None = None
    cost: Decimal | None = None
    settled_at: datetime | None = None


ENTRIES = st.lists(st.builds(Entry, AMOUNTS, AMOUNTS, st.none() | st.just(NOW)))
LIMITS = st.builds(Limit, st.sampled_from(Scope), st.decimals(0, 1000, places=9))


def test_what_ended_counts_with_its_cost_and_what_is_under_way_with_its_worst() -> None:
    entries = [
        Entry(Decimal(5), Decimal(2), NOW),
        Entry(Decimal(7)),
        Entry(None, None, None),
        Entry(Decimal(1), None, NOW),
    ]
    assert held(entries) == Held(spent=Decimal(2), under_way=Decimal(7), unbounded=1, unpriced=1)


def test_equal_is_within_the_limit_to_the_last_digit() -> None:
    limit, so_far = Limit(Scope.JOB, Decimal(10)), Held(spent=Decimal(4), under_way=Decimal(5))
    assert fits(limit, so_far, Decimal(1))
    assert not fits(limit, so_far, Decimal("1.000000001"))


@given(LIMITS, ENTRIES)
def test_what_is_free_always_fits_and_what_has_no_end_never(limit: Limit, entries: list[Entry]) -> None:
    assert fits(limit, held(entries), Decimal(0))
    assert not fits(limit, held(entries), None)


@given(LIMITS, ENTRIES, st.decimals(0, 1000, places=9), ENTRIES)
def test_more_under_way_never_makes_room(
    limit: Limit, entries: list[Entry], wanted: Decimal, more: list[Entry]
) -> None:
    if wanted and fits(limit, held(entries + more), wanted):
        assert fits(limit, held(entries), wanted)
        assert held(entries).amount + wanted <= limit.amount


def test_months_change_at_midnight_utc() -> None:
    assert month_of(datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=2)))) == "2026-11"
    assert month_of(datetime(2026, 12, 1, tzinfo=UTC)) == "2026-12"
