"""The pilot, the band and the hard bound: what must hold for any answers at all."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkrate.pricing.forecast import forecast, reforecast
from bulkrate.pricing.hard_bound import hard_bound
from bulkrate.pricing.pilot import Stratum, draw, stratify

values = st.lists(st.integers(0, 1000).map(float), min_size=1, max_size=40)
strata_lists = st.lists(
    st.builds(lambda drawn, more: Stratum(len(drawn) + more, tuple(drawn)), values, st.integers(0, 5000)),
    min_size=1,
    max_size=5,
)


# -- the pilot -------------------------------------------------------------------------------------------


def test_a_draw_is_distinct_repeatable_and_never_the_first_rows() -> None:
    drawn = draw(10_000, 100, "run a")
    assert len(set(drawn)) == 100
    assert drawn == draw(10_000, 100, "run a") != draw(10_000, 100, "run b")
    assert max(drawn) > 5_000
    assert sorted(draw(7, 100, 1)) == list(range(7))


def test_every_row_is_as_likely_as_any_other() -> None:
    times = Counter(row for seed in range(4_000) for row in draw(20, 5, seed))
    # 1,000 each; the standard deviation is 27.
    assert all(880 < times[row] < 1_120 for row in range(20))


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=300),
    count=st.integers(1, 60),
    seed=st.integers(0, 99),
)
def test_strata_hold_every_row_once_and_part_no_length(lengths: list[int], count: int, seed: int) -> None:
    drawn = {row: float(row) for row in draw(len(lengths), count, seed)}
    strata = stratify(lengths, drawn)
    assert sum(stratum.rows for stratum in strata) == len(lengths)
    assert sorted(value for stratum in strata for value in stratum.values) == sorted(drawn.values())
    assert all(len(stratum.values) <= stratum.rows for stratum in strata)
    where: dict[int, int] = {}
    for number, stratum in enumerate(strata):
        for row in stratum.values:
            assert where.setdefault(lengths[int(row)], number) == number


def test_strata_are_about_equal() -> None:
    lengths = list(range(1_000))
    strata = stratify(lengths, dict.fromkeys(draw(1_000, 200, 0), 1.0))
    assert [stratum.rows for stratum in strata] == [201, 200, 200, 200, 199]


# -- the band --------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(strata=strata_lists, seed=st.integers(0, 9), room=st.floats(0, 3))
def test_the_band_is_round_the_estimate_and_within_what_is_possible(
    strata: list[Stratum], seed: int, room: float
) -> None:
    plain = forecast(strata, seed=seed, resamples=99)
    most = plain.expected * (1 + room)
    bounded = forecast(strata, seed=seed, most=most, resamples=99)
    seen = sum(sum(stratum.values) for stratum in strata)
    assert seen - 1e-6 <= plain.low <= plain.expected <= plain.high
    assert bounded.high <= max(most, bounded.expected)
    assert (bounded.low, bounded.expected) == (plain.low, plain.expected)
    assert plain == forecast(strata, seed=seed, resamples=99)


@settings(max_examples=30)
@given(strata=strata_lists, factor=st.sampled_from([0.5, 2.0, 1024.0]))
def test_the_band_is_in_the_unit_of_its_values(strata: list[Stratum], factor: float) -> None:
    one = forecast(strata, seed=1, resamples=99)
    many = forecast(
        [Stratum(each.rows, tuple(value * factor for value in each.values)) for each in strata],
        seed=1,
        resamples=99,
    )
    assert many.expected == pytest.approx(one.expected * factor)
    assert many.low == pytest.approx(one.low * factor)
    assert many.high == pytest.approx(one.high * factor)


@given(values)
def test_nothing_is_left_to_guess_when_every_row_was_drawn(drawn: list[float]) -> None:
    found = forecast([Stratum(len(drawn), tuple(drawn))], seed=0, resamples=9)
    assert found.low == found.high == found.expected == pytest.approx(sum(drawn))


def test_a_stratum_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(ValueError, match="without a drawn row"):
        forecast([Stratum(10, (1.0,)), Stratum(5, ())], seed=0)


def test_the_band_holds_about_as_often_as_it_says() -> None:
    chance = random.Random(7)
    rows = [chance.expovariate(0.01) for _ in range(2_000)]
    lengths = [chance.randrange(1_000) for _ in rows]
    held = 0
    for seed in range(200):
        drawn = {row: rows[row] for row in draw(len(rows), 60, seed)}
        found = forecast(stratify(lengths, drawn), seed=seed, resamples=199)
        held += found.low <= sum(rows) <= found.high
    assert 178 <= held <= 199  # 95 % of 200 is 190, give or take 3 to each standard deviation


def test_long_tails_are_noticed() -> None:
    even = forecast([Stratum(5_000, tuple(float(n) for n in range(100)))], seed=0)
    tail = forecast([Stratum(5_000, (*[10.0] * 97, 900.0, 1_500.0, 2_000.0))], seed=0)
    assert (even.skewed, tail.skewed) == (False, True)
    assert tail.high - tail.expected > tail.expected - tail.low


# -- after more is known ---------------------------------------------------------------------------------


def _job(seed: int) -> tuple[list[int], list[float]]:
    """A file sorted by customer: the second half's answers are three times as long."""
    chance = random.Random(seed)
    lengths = [chance.randrange(100, 2_000) for _ in range(1_000)]
    return lengths, [chance.expovariate(0.01) * (1 if row < 500 else 3) for row in range(1_000)]


def test_what_finished_first_is_not_taken_for_what_is_to_come() -> None:
    held = narrower = 0
    for seed in range(25):
        lengths, answers = _job(seed)
        drawn = {row: answers[row] for row in draw(1_000, 100, seed)}
        first = reforecast(lengths, drawn, {}, seed=seed)
        later = reforecast(lengths, drawn, dict(enumerate(answers[:500])), seed=seed)
        held += later.low <= sum(answers) <= later.high
        narrower += later.high - later.low < first.high - first.low
        assert not later.assumed
        assert later.low >= sum(answers[:500])
    assert held >= 21
    assert narrower >= 20


def test_a_finished_job_is_known() -> None:
    lengths, answers = _job(1)
    done = reforecast(lengths, {}, dict(enumerate(answers)), seed=1)
    assert done.low == done.high == done.expected == sum(answers)


def test_with_hardly_a_drawn_row_left_the_finished_ones_stand_in_and_it_says_so() -> None:
    lengths, answers = _job(1)
    drawn = {row: answers[row] for row in draw(1_000, 50, 1)}
    nearly = reforecast(lengths, drawn, dict(enumerate(answers[:960])), seed=1, most=10**9)
    assert nearly.assumed
    assert nearly.drawn < 10
    assert sum(answers[:960]) <= nearly.low <= nearly.expected <= nearly.high


# -- the hard bound --------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    population=st.lists(st.integers(0, 10), min_size=3, max_size=6),
    count=st.integers(1, 4),
    risk=st.sampled_from([0.05, 0.2, 0.5]),
)
def test_the_bound_holds_over_every_order_in_which_rows_can_be_drawn(
    population: list[int], count: int, risk: float
) -> None:
    count = min(count, len(population))
    orders = list(permutations(population, count))
    exceeded = sum(
        hard_bound(order, rows=len(population), cap=10, risk=risk) < sum(population) - 1e-6
        for order in orders
    )
    assert exceeded <= risk * len(orders)


@pytest.mark.parametrize("long_share", [0.01, 0.05, 0.3])
def test_the_bound_holds_where_the_band_does_not(long_share: float) -> None:
    # The worst there is: answers are short, or as long as the cap, and rarely so.
    chance = random.Random(3)
    rows = [1_000.0 if chance.random() < long_share else 1.0 for _ in range(2_000)]
    exceeded = sum(
        hard_bound([rows[row] for row in draw(2_000, 40, seed)], rows=2_000, cap=1_000) < sum(rows)
        for seed in range(300)
    )
    assert exceeded <= 15 + 3 * math.sqrt(300 * 0.05 * 0.95)


@given(drawn=st.lists(st.floats(0, 100), min_size=1, max_size=30), more=st.integers(0, 1_000))
def test_the_bound_is_within_what_is_possible(drawn: list[float], more: int) -> None:
    rows = len(drawn) + more
    found = hard_bound(drawn, rows=rows, cap=100)
    seen = sum(drawn)
    assert seen - 1e-6 <= found <= seen + 100 * more + 1e-6
    assert hard_bound(drawn, rows=rows, cap=100, risk=0.01) >= found - 1e-6
    if not more:
        assert found == pytest.approx(seen)


def test_more_rows_and_a_lower_cap_make_it_tighter() -> None:
    chance = random.Random(5)
    drawn = [chance.uniform(50, 150) for _ in range(400)]
    bounds = [hard_bound(drawn[:n], rows=10_000, cap=1_024) / 1_000_000 for n in (25, 100, 400)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[-1] < 1.1
    assert hard_bound(drawn[:100], rows=10_000, cap=32_768) > 5 * hard_bound(
        drawn[:100], rows=10_000, cap=1_024
    )


@pytest.mark.parametrize(
    ("drawn", "rows", "risk"), [([-1.0], 5, 0.05), ([11.0], 5, 0.05), ([1.0] * 6, 5, 0.05), ([1.0], 5, 0.0)]
)
def test_what_it_cannot_hold_for_is_refused(drawn: list[float], rows: int, risk: float) -> None:
    with pytest.raises(ValueError, match=r"outside|values of|risk"):
        hard_bound(drawn, rows=rows, cap=10, risk=risk)
