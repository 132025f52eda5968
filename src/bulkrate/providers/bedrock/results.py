"""One line of a job's output file into an outcome. Never raises: a line that no one can read is the row's
problem.

A line is `{"recordId", "modelInput", "modelOutput"}`, or has `error` in the place of the output:
`{"errorCode", "errorMessage"}` (user guide, copy of 2026). A single answer is wrapped with its HTTP status.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from bulkrate.core.json_value import mapping, text_of
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.providers.bedrock.answers import outcome_of
from bulkrate.providers.provider import Decoded
from bulkrate.providers.result_json import read, trusted

# Refusals that are the way's, not the row's, whatever status they come with.
_PASSING = re.compile(
    r"Throttling|TooManyRequests|ServiceQuota|ServiceUnavailable|InternalServer|ModelTimeout|ModelNotReady"
    r"|ModelError|ExpiredToken",
)
_TOO_LONG = re.compile(
    r"prompt is too long|input is too long|(?:maximum|max) (?:context|input|token)|context (?:length|window)"
    r"|too many input tokens|exceeds? the (?:model'?s )?(?:maximum|limit of)",
    re.IGNORECASE,
)
_EXPIRED = re.compile(r"expired|timed? ?out before|not processed", re.IGNORECASE)


class Line(msgspec.Struct, gc=False):
    """What is read of a line: the model's input, which comes back with it, is passed over."""

    recordId: str | None = None  # noqa: N815 - Bedrock's name
    custom_id: str | None = None
    modelOutput: Any = None  # noqa: N815
    error: Any = None
    response: Any = None


_typed = msgspec.json.Decoder(Line).decode


def decode_line(
    line: bytes, *, model: str | None = None, label: str | None = None, formed: bool = False
) -> Decoded | None:
    """Read one line; None when not even its id can be read.

    `model`, `label` and `formed` are those of `outcome_of`.
    """
    try:
        parsed = _typed(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        fields = mapping(read(line))
        parsed = Line(*(fields.get(name) for name in Line.__struct_fields__))
    name = text_of(parsed.recordId) or text_of(parsed.custom_id)
    return Decoded(name, trusted(_outcome(parsed, model, label, formed), line)) if name else None


def _outcome(line: Line, model: str | None, label: str | None, formed: bool) -> Outcome:
    answer = line.modelOutput
    if answer is None and isinstance(line.response, dict):  # a single answer
        status, answer = line.response.get("status_code"), line.response.get("body")
        if not (isinstance(status, int) and 200 <= status <= 299):
            said = mapping(answer)
            return _failure(status, text_of(said.get("code")), text_of(said.get("message")))
    if line.error:
        said = mapping(line.error)
        code = said.get("errorCode", said.get("code"))
        message = said.get("errorMessage", said.get("message", line.error))
        return _failure(code, text_of(code), text_of(message))
    if not answer:
        return Outcome(ErrorClass.TRANSIENT, "the result line has neither an answer nor an error")
    return outcome_of(answer, model=model, label=label, formed=formed)


def _failure(status: Any, code: str | None, message: str | None) -> Outcome:
    """An error of this row: an HTTP status, a name of Bedrock's, or both, and what it says."""
    if code is not None and code.isdecimal() and len(code) == 3:
        status, code = int(code), None
    status = status if isinstance(status, int) and not isinstance(status, bool) else None
    said = " ".join(str(part) for part in (status, code) if part is not None)
    said = ": ".join(part for part in (said, message) if part) or "the provider gave no reason"
    if message and _TOO_LONG.search(message):
        return Outcome(ErrorClass.TOO_LONG, said)
    if _EXPIRED.search(f"{code} {message}") and (status is None or status >= 500):
        return Outcome(ErrorClass.EXPIRED, said)
    own_fault = status is not None and 400 <= status <= 499 and status not in (408, 409, 424, 429)
    own_fault = own_fault or (status is None and bool(code) and str(code).startswith("Validation"))
    if own_fault and not _PASSING.search(f"{code} {message}"):
        return Outcome(ErrorClass.BAD_REQUEST, said)
    return Outcome(ErrorClass.TRANSIENT, said)
