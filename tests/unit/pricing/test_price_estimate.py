"""The estimate of a load that does not exist yet."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from bulkrate.pricing.estimate import Workload, estimate

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _lanes(model: str, load: Workload) -> dict[str, Decimal]:
    found = estimate(model, load, NOW)
    assert found is not None
    return {lane: each.cost for lane, each in found.lanes.items()}


def test_a_million_tickets() -> None:
    # live: 350M tokens at 0.25 and 8M at 2 a million; half of that by batch and flex
    assert _lanes("openai/gpt-5-mini", Workload(1_000_000, 350, 8)) == {
        "batch": Decimal("51.75"),
        "flex": Decimal("51.75"),
        "live": Decimal("103.5"),
    }


def test_cached_input_costs_what_cached_input_costs() -> None:
    # four fifths of 350M read at 0.025 instead of 0.25
    assert _lanes("openai/gpt-5-mini", Workload(1_000_000, 350, 8, cached=Decimal("0.8"))) == {
        "batch": Decimal("20.25"),
        "flex": Decimal("20.25"),
        "live": Decimal("40.5"),
    }
    # the batch price of o3's cached input is the plain one's, the flex price is not
    assert _lanes("openai/o3", Workload(1_000_000, 1_000, 0, cached=Decimal(1))) == {
        "batch": Decimal("500"),
        "flex": Decimal("250"),
        "live": Decimal("500"),
    }


def test_twelve_months_that_grow() -> None:
    monthly = Workload(100, 10, 10, every="month", growth=Decimal("0.1"))
    assert monthly.times_a_year == sum(Decimal("1.1") ** month for month in range(12))
    weekly = Workload(100, 10, 10, every="week")
    assert weekly.times_a_year is not None
    assert round(weekly.times_a_year, 6) == round(Decimal("365.25") / 7, 6)
    once = estimate("openai/gpt-5-mini", Workload(100, 10, 10), NOW)
    assert once is not None
    assert once.lanes["live"].year is None


def test_what_is_left_out_or_taken_from_elsewhere_is_said() -> None:
    def notes(model: str, load: Workload) -> tuple[str, ...]:
        found = estimate(model, load, NOW)
        assert found is not None
        return found.notes

    some = Workload(10, 1_000, 10, cached=Decimal("0.5"))
    assert notes("openai/gpt-5-mini", some) == ()
    assert notes("groq/llama-3.3-70b-versatile", some) == (
        "no published batch rate: the live price stands in",
        "no price for cached input: it is taken to cost what other input does",
    )
    assert notes("openai/gpt-6-sol", Workload(1, 300_000, 1)) == (
        "rows of 300,000 input tokens pay the long-context price",
        "what is written to the prompt cache costs more, and is not in here",
    )
    assert notes("openai/gpt-5-mini-2025-08-07", some) == ("priced as openai/gpt-5-mini",)
    assert notes("local/any", some)[0].startswith("no price per token")


def test_no_price_no_estimate() -> None:
    assert estimate("openai/foo", Workload(1, 1, 1), NOW) is None


def test_output_without_a_price_is_told() -> None:
    found = estimate("openai/text-embedding-3-small", Workload(1_000, 350, 8), NOW)
    assert found is not None
    assert "no price for output tokens: they are in no figure" in found.notes


def test_rows_that_all_go_away_are_paid_for_one_month() -> None:
    gone = Workload(100, 10, 10, every="month", growth=Decimal(-1))
    assert gone.times_a_year == 1
    assert Workload(100, 10, 10, every="month").times_a_year == 12
