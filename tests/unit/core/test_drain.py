"""The pace of single calls: configured, measured, and bounded by what the provider allows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.drain import FEWEST_ANSWERS, Drained, RateLimits, Stretch, drain_rate, drained

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
UNKNOWN = RateLimits(None, None, 500)


def stretch(begin_s: float, end_s: float, answers: int) -> Stretch:
    return Stretch(NOON + timedelta(seconds=begin_s), NOON + timedelta(seconds=end_s), answers)


def test_nothing_seen_leaves_what_is_configured() -> None:
    assert drained([]) is None
    assert drain_rate(5, None, UNKNOWN) == 5


def test_a_few_answers_tell_nothing() -> None:
    assert drained([stretch(0, 90, FEWEST_ANSWERS - 1)]) is None
    assert drained([stretch(0, 90, FEWEST_ANSWERS - 1), stretch(100, 101, 1)]) == Drained(FEWEST_ANSWERS, 91)


def test_shards_that_were_sent_at_the_same_time_took_that_time_once() -> None:
    sent = [stretch(0, 100, 300), stretch(20, 60, 100), stretch(90, 120, 80), stretch(500, 530, 20)]
    assert drained(reversed(sent)) == Drained(500, 150)


def test_a_clock_that_was_set_back_takes_no_time_away() -> None:
    assert drained([stretch(0, -50, 100), stretch(0, 100, 100)]) == Drained(200, 100)


@pytest.mark.parametrize("rate", [0.2, 40])
def test_a_minute_of_answers_is_believed_slow_or_fast(rate: float) -> None:
    assert drain_rate(5, Drained(round(rate * 1000), 1000), UNKNOWN) == pytest.approx(rate)


def test_a_burst_is_no_proof_of_a_pace_above_the_configured_one() -> None:
    assert drain_rate(5, Drained(200, 2), UNKNOWN) == 5
    assert drain_rate(5, Drained(200, 0), UNKNOWN) == 5
    # Unless it is more than the configured one makes in a minute: the rest of that can take nothing away.
    assert drain_rate(5, Drained(600, 20), UNKNOWN) == 10
    # Slower than configured is slower, however short.
    assert drain_rate(5, Drained(100, 50), UNKNOWN) == 2


def test_known_limits_bound_what_is_measured_and_what_is_configured() -> None:
    limits = RateLimits(requests_per_minute=60, tokens_per_minute=None, tokens_per_request=500)
    assert drain_rate(5, None, limits) == 1
    assert drain_rate(5, Drained(4000, 100), limits) == 1
    by_tokens = RateLimits(requests_per_minute=600, tokens_per_minute=60_000, tokens_per_request=500)
    assert drain_rate(50, None, by_tokens) == 2


@given(
    st.floats(0.01, 100),
    st.integers(FEWEST_ANSWERS, 10**6),
    st.floats(0, 10**6),
    st.floats(1, 10**5),
    st.floats(1, 10**8),
)
def test_never_faster_than_what_was_seen_or_allowed(
    configured: float, answers: int, took_s: float, rpm: float, tpm: float
) -> None:
    limits = RateLimits(rpm, tpm, 250)
    rate = drain_rate(configured, Drained(answers, took_s), limits)
    assert 0 < rate <= limits.most_per_s
    assert rate * took_s <= answers * (1 + 1e-9)
