"""What happens to a row after a failed attempt: the error class decides."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bulkrate.core.outcome import ErrorClass


class SendReason(StrEnum):
    """Why a shard's rows are sent."""

    FIRST = "first"
    RESEND = "resend"  # the same request again
    LARGER_CAP = "larger_cap"  # truncated: the same request with more room
    RESCUE = "rescue"  # the deadline is near: the same request on a faster lane
    REPAIR = "repair"  # not the asked-for JSON or label: once more


# Failures of the way, not of the row: the same request may well succeed.
# A batch that somebody else cancelled is one of them; a run that is cancelled ends its rows by itself.
PASSING = frozenset({ErrorClass.TRANSIENT, ErrorClass.MISSING, ErrorClass.EXPIRED, ErrorClass.CANCELLED})

# A truncated row gets this many times its cap, once, and never less than the floor: a cap derived from the
# longest label was wrong about what the model says around it, and four times very little is still little.
CAP_FACTOR = 4
CAP_FLOOR = 1_024


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` is the most times a row is sent, the first included."""

    attempts: int = 3


def resend_reason(
    error: ErrorClass,
    *,
    attempts: int,
    sent_for: SendReason,
    capped: bool,
    policy: RetryPolicy,
    rescuing: bool = False,
) -> SendReason | None:
    """Why to send the row again, or None to give it up.

    `attempts` counts the one that just failed, `sent_for` is why that one was sent, `capped` whether it had
    an output cap that can be raised. With `rescuing`, the batch was cancelled for the deadline's sake: a row
    that had not had its turn has used up no attempt.
    """
    if rescuing and error is ErrorClass.CANCELLED:
        return SendReason.RESCUE
    if attempts >= policy.attempts:
        return None
    if error in PASSING:
        return SendReason.RESEND
    if error is ErrorClass.TRUNCATED and capped and sent_for is not SendReason.LARGER_CAP:
        return SendReason.LARGER_CAP
    if error is ErrorClass.INVALID_OUTPUT and sent_for is not SendReason.REPAIR:
        return SendReason.REPAIR
    return None


def larger_cap(cap: int) -> int:
    """The output cap, in tokens, for a row that `cap` cut short."""
    return max(cap * CAP_FACTOR, CAP_FLOOR)


def reason_for_pending(error: ErrorClass | None) -> SendReason:
    """Why a pending row will be sent, from the class of its last failure (it was not given up)."""
    match error:
        case None:
            return SendReason.FIRST
        case ErrorClass.TRUNCATED:
            return SendReason.LARGER_CAP
        case ErrorClass.INVALID_OUTPUT:
            return SendReason.REPAIR
        case _:
            return SendReason.RESEND
