"""One line of a result file into an outcome. Never raises: a line that cannot be read is the row's problem.

Two-step success test: `error` is null and the status code is 2xx; a rejected request may sit in
`response` with status 400 and a null `error` (observed 2026-03 and 2026-09). Codes outside 2xx, even in the
output file and even 0, are failures (observed 2025-11).

A line was paid for. The typed decoder reads it fast; whatever it will not take (a number too large, a field
of another type, damaged UTF-8) goes through `read` and `lenient`, which keep everything that can be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal

import msgspec
from msgspec.structs import replace

from bulkrate.core.json_value import json_of
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.usage import NONE, Usage
from bulkrate.providers.labels import unwrapped
from bulkrate.providers.openai.result_line import (
    Body,
    Error,
    Line,
    Message,
    UsageCounts,
    lenient,
    typed,
)
from bulkrate.providers.provider import Decoded
from bulkrate.providers.result_json import read, tokens, trusted

# Error codes that say more than their status. Sources: batch guide and SDK types, 2026.
_BY_CODE = {
    "batch_expired": ErrorClass.EXPIRED,
    "batch_cancelled": ErrorClass.CANCELLED,
    "context_length_exceeded": ErrorClass.TOO_LONG,
    "string_above_max_length": ErrorClass.TOO_LONG,
    "content_filter": ErrorClass.REFUSED,
    "content_policy_violation": ErrorClass.REFUSED,
    "rate_limit_exceeded": ErrorClass.TRANSIENT,
    "server_error": ErrorClass.TRANSIENT,
}
_NO_CODES: Mapping[str, ErrorClass] = {}

# The fields of an answer's usage that tell its cost. Sources: openrouter.ai docs (in USD), xAI's SDK 1.21.0
# (in ticks of 1e-10 USD), copies of 2026.
CostField = Literal["none", "cost", "cost_in_usd_ticks"]
UNITS_OF_A_DOLLAR = {"cost": 1, "cost_in_usd_ticks": 10**10}
# No answer costs this much: a number beyond is an error of its writer.
MOST_COST = {name: 10**6 * units for name, units in UNITS_OF_A_DOLLAR.items()}


def decode_line(
    line: bytes,
    *,
    label: str | None = None,
    codes: Mapping[str, ErrorClass] = _NO_CODES,
    cost_field: CostField = "none",
) -> Decoded | None:
    """Read one line; None when not even its custom_id can be read.

    `label` names the JSON property that wraps a choice's answer; it is unwrapped here, so that the answer
    is the label whatever the dialect needed around it. `codes` are error codes of the server's own,
    `cost_field` where it says what a request cost.
    """
    try:
        parsed = typed(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _slowly(line, label, codes, cost_field)
    return Decoded(parsed.custom_id, _with_cost(outcome_of(parsed, label, codes), parsed, cost_field))


def _slowly(
    line: bytes, label: str | None, codes: Mapping[str, ErrorClass], cost_field: CostField
) -> Decoded | None:
    parsed = lenient(read(line))
    if parsed is None:
        return None
    outcome = trusted(outcome_of(parsed, label, codes), line)
    return Decoded(parsed.custom_id, _with_cost(outcome, parsed, cost_field))


def _with_cost(outcome: Outcome, line: Line, cost_field: CostField) -> Outcome:
    """The outcome with what the server says that it cost."""
    body = None if line.response is None else line.response.body
    if cost_field == "none" or not isinstance(body, Body) or body.usage is None:
        return outcome
    said = getattr(body.usage, cost_field)
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said < MOST_COST[cost_field]:
        return outcome
    # By its shortest decimal: the number that was written.
    return replace(outcome, reported_cost=Decimal(str(said)) / UNITS_OF_A_DOLLAR[cost_field])


def outcome_of(line: Line, label: str | None, codes: Mapping[str, ErrorClass]) -> Outcome:
    """How a row ended that has this line."""
    status = None if line.response is None else line.response.status_code or 0
    succeeded = status is not None and 200 <= status <= 299
    if _says_something(line.error):
        # Beside a response of 4xx the error is that response's; beside one of 2xx it speaks for itself.
        return _failure(line.error, None if succeeded else status, codes)
    if line.response is None:
        return Outcome(ErrorClass.TRANSIENT, "the result line has neither response nor error")
    body = line.response.body
    if not succeeded:
        error = body.error if isinstance(body, Body) else body
        return _failure(error, status, codes)
    if not isinstance(body, Body):
        # Status 200 with an empty body was seen by a gateway (2026): nothing was answered.
        return Outcome(ErrorClass.TRANSIENT, f"status {status} with an empty body")
    return _answer(body, label)


def _says_something(error: Error | str | None) -> bool:
    """Whether there is an error: some servers write `""` or `{}` for none."""
    if isinstance(error, Error):
        return bool(error.message or error.code or error.type)
    return bool(error)


def _failure(error: Error | str | None, status: int | None, codes: Mapping[str, ErrorClass]) -> Outcome:
    if isinstance(error, Error):
        code, kind, message = str(error.code or error.type or ""), error.type or "", error.message or ""
    else:
        code, kind, message = "", "", error or ""
    known = codes.get(code) or _BY_CODE.get(code) or _BY_CODE.get(kind)
    if known is None:
        passing = status is None or status in (408, 409, 429) or not 400 <= status <= 499
        known = ErrorClass.TRANSIENT if passing else ErrorClass.BAD_REQUEST
    said = ": ".join(part for part in (code, message) if part)
    if status is not None:
        said = f"{status} {said}".rstrip()
    return Outcome(known, said or "the provider gave no reason")


def _usage(usage: UsageCounts | None) -> Usage:
    if usage is None:
        return NONE
    given, made = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=tokens(usage.prompt_tokens),
        output_tokens=tokens(usage.completion_tokens),
        cached_tokens=tokens(given.cached_tokens) if given else 0,
        cache_write_tokens=tokens(given.cache_write_tokens) if given else 0,
        reasoning_tokens=tokens(made.reasoning_tokens) if made else 0,
    )


def _answer(body: Body, label: str | None) -> Outcome:
    usage = _usage(body.usage)
    if not body.choices:
        vectors = bytes(body.data).strip()
        if vectors.startswith(b"[") and vectors[1:-1].strip():
            return Outcome(text=vectors.decode(), model=body.model, usage=usage)
        return Outcome(ErrorClass.TRANSIENT, "the answer has no choices", model=body.model, usage=usage)
    choice = body.choices[0]
    message = choice.message or Message()
    text = message.content
    calls = message.tool_calls or message.function_call
    if not text and calls:
        text = json_of(calls)
    if text is not None and label is not None:
        text = unwrapped(text, label)
    error, reason = None, None
    if message.refusal:
        error, reason = ErrorClass.REFUSED, "the model refused"
    elif choice.finish_reason == "content_filter":
        error, reason = ErrorClass.REFUSED, "a content filter stopped the answer"
    elif choice.finish_reason == "length":
        error, reason = ErrorClass.TRUNCATED, "the answer hit the output cap"
    elif text is None:
        error, reason = ErrorClass.INVALID_OUTPUT, "the answer has no content"
    return Outcome(error, reason, text, choice.finish_reason, body.model, usage)
