"""How a row ends."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from bulkrate.core.usage import NONE, Usage


class ErrorClass(StrEnum):
    """Why a row has no answer; the class decides what happens next (`core.retry`)."""

    TRANSIENT = "transient"  # the provider failed, not the row
    MISSING = "missing"  # in neither result file of an ended batch
    EXPIRED = "expired"  # the provider's window closed before its turn
    CANCELLED = "cancelled"  # the batch was cancelled before its turn
    TRUNCATED = "truncated"  # the answer hit the output cap
    INVALID_OUTPUT = "invalid_output"  # not the JSON or label that was asked for
    REFUSED = "refused"  # the model or a content filter declined
    BAD_REQUEST = "bad_request"  # the provider rejects this request as such
    TOO_LONG = "too_long"  # over the model's context window
    SOURCE_CHANGED = "source_changed"  # answered, but the source row is not the one that was asked about


# One byte per class in the resolution vector: numbers are for ever, append only.
ERROR_CODES: dict[ErrorClass, int] = {
    ErrorClass.TRANSIENT: 1,
    ErrorClass.MISSING: 2,
    ErrorClass.EXPIRED: 3,
    ErrorClass.CANCELLED: 4,
    ErrorClass.TRUNCATED: 5,
    ErrorClass.INVALID_OUTPUT: 6,
    ErrorClass.REFUSED: 7,
    ErrorClass.BAD_REQUEST: 8,
    ErrorClass.TOO_LONG: 9,
    ErrorClass.SOURCE_CHANGED: 10,
}
CLASS_OF_CODE: dict[int, ErrorClass] = {code: name for name, code in ERROR_CODES.items()}


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One row's end in one attempt: an answer (`error` is None) or a class and the provider's reason.

    `text` is the answer as the model wrote it, kept even when it fails a check (it was paid for);
    `embedding` the packed numbers of a text's vector (`core.embedding`), in its place. `reported_cost` is
    what the provider itself says that it cost (USD), where it does.
    """

    error: ErrorClass | None = None
    message: str | None = None
    text: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    usage: Usage = NONE
    embedding: bytes | None = None
    reported_cost: Decimal | None = None

    @property
    def succeeded(self) -> bool:
        return self.error is None
