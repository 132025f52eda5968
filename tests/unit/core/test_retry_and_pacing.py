"""What is sent again and when: the whole table, class by class."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.outcome import ErrorClass
from bulkrate.core.pacing import Pacing
from bulkrate.core.retry import (
    CAP_FACTOR,
    CAP_FLOOR,
    RetryPolicy,
    SendReason,
    larger_cap,
    reason_for_pending,
    resend_reason,
)

AGAIN, CAP, REPAIR = SendReason.RESEND, SendReason.LARGER_CAP, SendReason.REPAIR
NEVER = {
    ErrorClass.REFUSED,
    ErrorClass.BAD_REQUEST,
    ErrorClass.TOO_LONG,
    ErrorClass.SOURCE_CHANGED,
}


@pytest.mark.parametrize(
    ("error", "attempts", "sent_for", "capped"),
    list(product(ErrorClass, range(1, 5), SendReason, [True, False])),
)
def test_every_case(error: ErrorClass, attempts: int, sent_for: SendReason, capped: bool) -> None:
    expected: SendReason | None
    if attempts >= 3 or error in NEVER:
        expected = None
    elif error is ErrorClass.TRUNCATED:
        expected = CAP if capped and sent_for is not CAP else None
    elif error is ErrorClass.INVALID_OUTPUT:
        expected = REPAIR if sent_for is not REPAIR else None
    else:
        passing = {ErrorClass.TRANSIENT, ErrorClass.MISSING, ErrorClass.EXPIRED, ErrorClass.CANCELLED}
        assert error in passing
        expected = AGAIN
    policy = RetryPolicy(attempts=3)
    found = resend_reason(error, attempts=attempts, sent_for=sent_for, capped=capped, policy=policy)
    assert found == expected
    if found is not None:
        assert reason_for_pending(error) is found, "the next shard is packed for the same reason"


@pytest.mark.parametrize("attempts", [1, 3, 200])
def test_a_row_that_its_rescue_kept_from_its_turn_goes_on_the_faster_lane(attempts: int) -> None:
    reason = resend_reason(
        ErrorClass.CANCELLED,
        attempts=attempts,
        sent_for=SendReason.FIRST,
        capped=True,
        policy=RetryPolicy(attempts=3),
        rescuing=True,
    )
    assert reason is SendReason.RESCUE


def test_one_attempt_means_one() -> None:
    for error in ErrorClass:
        reason = resend_reason(
            error, attempts=1, sent_for=SendReason.FIRST, capped=True, policy=RetryPolicy(attempts=1)
        )
        assert reason is None


def test_a_row_that_was_never_sent_is_sent_first() -> None:
    assert reason_for_pending(None) is SendReason.FIRST


@given(st.integers(1, 10**6))
def test_a_larger_cap_is_larger(cap: int) -> None:
    assert larger_cap(cap) > cap
    assert larger_cap(cap) in (CAP_FACTOR * cap, CAP_FLOOR)


@pytest.mark.parametrize(
    ("age_s", "delay_s"), [(0, 2.0), (-5, 2.0), (40, 2.0), (600, 30.0), (1_200, 60.0), (10**9, 60.0)]
)
def test_polls_grow_with_age(age_s: float, delay_s: float) -> None:
    assert Pacing().poll_delay_s(age_s) == delay_s
    assert Pacing().poll_delay_s(age_s, jitter=1.0) == delay_s * 1.1
    assert Pacing(poll_s=0.2).poll_delay_s(age_s, jitter=1.0) == 0.2


@pytest.mark.parametrize(
    ("failures", "retry_after_s", "delay_s"),
    [
        (0, None, 2.0),
        (1, None, 2.0),
        (2, None, 4.0),
        (5, None, 32.0),
        (50, None, 300.0),
        (1, 17.0, 17.0),
        (9, 1.0, 300.0),
    ],
)
def test_retries_back_off(failures: int, retry_after_s: float | None, delay_s: float) -> None:
    assert Pacing().retry_delay_s(failures, retry_after_s) == delay_s


@given(st.integers(0, 10**6), st.none() | st.floats(0, 1e5), st.none() | st.floats(0.001, 1e4))
def test_a_delay_is_finite_and_long_enough(
    failures: int, retry_after_s: float | None, poll_s: float | None
) -> None:
    pacing = Pacing(poll_s=poll_s)
    delay_s = pacing.retry_delay_s(failures, retry_after_s)
    assert (retry_after_s or 0.0) <= delay_s < 1e6
    assert delay_s > 0
