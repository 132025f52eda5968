"""What a plan says of a job: lengths, costs on a lane, and the chance of being late."""

from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.usage import Usage
from bulkrate.pricing.forecast import forecast_by_others
from bulkrate.pricing.lengths import Lengths
from bulkrate.pricing.pilot import sort_into_strata, stratify
from bulkrate.pricing.plan import OutputForecast, Retries, cost_on
from bulkrate.pricing.rates import Rate, Step, price
from bulkrate.pricing.turnaround import STUCK, Seen, chance_late, chance_missed

RATE = Rate(
    provider="maker",
    model="large",
    lane="batch",
    input_mtok=Decimal(2),
    cached_mtok=None,
    cache_write_mtok=None,
    output_mtok=Decimal(10),
    currency="USD",
    dated=date(2026, 11, 1),
    source="a price list",
    published=True,
    steps=(Step(1000, Decimal(4), None, None, Decimal(15)),),
)
FLAT = Rate(**{name: getattr(RATE, name) for name in RATE.__slots__} | {"steps": ()})
lengths = st.lists(st.integers(0, 3000), min_size=1, max_size=60)


@given(lengths, st.integers(0, 50))
def test_the_cost_of_lengths_is_that_of_the_rows_one_by_one(tokens: list[int], answer: int) -> None:
    found = Lengths(Counter(tokens)).cost(RATE, answer * len(tokens))
    assert found == sum(price(RATE, Usage(length, answer)) for length in tokens)


@given(lengths)
def test_a_histogram_has_every_row_once(tokens: list[int]) -> None:
    buckets = Lengths(Counter(tokens)).histogram()
    for bucket in buckets:
        within = [n for n in tokens if bucket["from_tokens"] <= n <= bucket["to_tokens"]]
        assert len(within) == bucket["rows"]
    assert sum(bucket["rows"] for bucket in buckets) == len(tokens)


@given(lengths, st.integers(1, 6))
def test_strata_of_lengths_are_those_of_rows(tokens: list[int], strata: int) -> None:
    drawn = {row: float(row) for row in range(0, len(tokens), 2)}
    by_length = sort_into_strata(
        Counter(tokens), [(tokens[row], value) for row, value in drawn.items()], strata=strata
    )
    assert by_length == stratify(tokens, drawn, strata=strata)


def test_without_a_forecast_the_upper_end_is_the_ceiling() -> None:
    rows = Lengths({100: 1_000_000})
    unknown = OutputForecast.unknown(10_000_000)
    found = cost_on("batch", FLAT, rows, output=unknown, cap=10, retries=Retries())
    assert (found.low, found.expected, found.high, found.ceiling) == (200, None, 300, 300)
    uncapped = cost_on("batch", FLAT, rows, output=OutputForecast.unknown(None), cap=None, retries=Retries())
    assert (uncapped.low, uncapped.high, uncapped.ceiling) == (200, None, None)


def test_measured_retries_multiply_the_forecast_but_not_the_ceiling() -> None:
    rows, known = (
        Lengths({100: 1_000_000}),
        OutputForecast(basis="pilot", low=0, expected=10**6, high=2 * 10**6),
    )
    retries = Retries(factor=Decimal("1.5"), most=Decimal(2), requests=9)
    found = cost_on("batch", FLAT, rows, output=known, cap=10, retries=retries)
    assert (found.low, found.expected, found.high, found.ceiling) == (200, 315, 440, 300)


def test_few_requests_say_little_of_how_often_they_fail() -> None:
    none = Retries.measured(paid=Decimal(5), kept=Decimal(5), wasted=0, requests=100)
    assert (none.factor, none.most) == (1, Decimal("1.0370"))
    some = {"paid": Decimal(11), "kept": Decimal(10)}
    few = Retries.measured(**some, wasted=5, requests=100)
    many = Retries.measured(**some, wasted=5_000, requests=100_000)
    assert few.factor == many.factor == Decimal("1.1")
    assert few.most is not None
    assert many.most is not None
    assert Decimal("1.1") < many.most < Decimal("1.11") < Decimal("1.2") < few.most


def test_what_no_request_explains_is_within_the_upper_end() -> None:
    unexplained = Retries.measured(paid=Decimal(15), kept=Decimal(10), wasted=0, requests=100)
    assert (unexplained.factor, unexplained.most) == (Decimal("1.5"), Decimal("1.5370"))


def test_other_rows_predict_with_a_wider_band_than_drawn_ones() -> None:
    others = [(100, float(value)) for value in range(50)]
    found = forecast_by_others({100: 1_000}, others, seed="a")
    assert found.expected == pytest.approx(24_500)
    assert found.low < 24_500 < found.high
    assert (found.rows, found.drawn, found.assumed) == (1_000, 50, True)
    assert forecast_by_others({100: 1_000}, [(100, 7.0)] * 50, seed="a").high == pytest.approx(7_000)


def test_the_prior_has_the_median_and_the_ninth_decile_of_its_source() -> None:
    assert chance_late(7 * 60) == 0.5
    assert chance_late(3600) == pytest.approx(0.10, abs=0.001)
    assert chance_late(86_400) == pytest.approx(0.0007, abs=0.0001)
    assert chance_late(0) == 1.0


def test_own_batches_move_the_prior() -> None:
    prior = chance_missed(3600, 1)
    assert chance_missed(3600, 1, Seen(100, 0)) < prior < chance_missed(3600, 1, Seen(100, 50))
    assert prior < chance_missed(3600, 4) < 4 * prior
    assert chance_missed(1e12, 1000) == pytest.approx(STUCK)
    assert chance_missed(3600, 0) == 0
