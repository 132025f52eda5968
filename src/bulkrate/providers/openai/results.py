"""One line of a result file into an outcome. Never raises: a line that cannot be read is the row's problem.

Two-step success test: `error` is null and the status code is 2xx; a rejected request may sit in
`response` with status 400 and a null `error` (observed 2026-03 and 2026-09). Codes outside 2xx, even in the
output file and even 0, are failures (observed 2025-11).
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.usage import NONE, Usage
from bulkrate.providers.provider import Decoded


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


class _Message(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    tool_calls: Any = None


class _Choice(msgspec.Struct, gc=False):
    message: _Message | None = None
    finish_reason: str | None = None


class _Error(msgspec.Struct, gc=False):
    message: str | None = None
    code: str | int | None = None
    type: str | None = None


class _Body(msgspec.Struct, gc=False):
    model: str | None = None
    choices: list[_Choice] | None = None
    data: msgspec.Raw = msgspec.Raw()
    usage: _Usage | None = None
    error: _Error | str | None = None


class _Response(msgspec.Struct, gc=False):
    status_code: int | None = None
    body: _Body | str | None = None


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    response: _Response | None = None
    error: _Error | str | None = None


class _Custom(msgspec.Struct, gc=False):
    custom_id: str


_decoder = msgspec.json.Decoder(_Line)
_custom_decoder = msgspec.json.Decoder(_Custom)

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


def decode_line(line: bytes, *, label: str | None = None) -> Decoded | None:
    """Read one line; None when not even its custom_id can be read.

    `label` names the JSON property that wraps a choice's answer; it is unwrapped here, so that the answer
    is the label whatever the dialect needed around it.
    """
    try:
        parsed = _decoder.decode(line)
    except msgspec.MsgspecError:
        return _misshapen(line)
    except UnicodeDecodeError:
        return None
    return Decoded(parsed.custom_id, _outcome(parsed, label))


def _misshapen(line: bytes) -> Decoded | None:
    """Valid JSON of another shape still belongs to its row; anything else belongs to nobody."""
    try:
        custom_id = _custom_decoder.decode(line).custom_id
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return Decoded(custom_id, Outcome(ErrorClass.TRANSIENT, "the result line has an unknown shape"))


def _outcome(line: _Line, label: str | None) -> Outcome:
    if line.error is not None:
        return _failure(line.error, None)
    if line.response is None:
        return Outcome(ErrorClass.TRANSIENT, "the result line has neither response nor error")
    status, body = line.response.status_code or 0, line.response.body
    if not 200 <= status <= 299:
        error = body.error if isinstance(body, _Body) else body
        return _failure(error, status)
    if not isinstance(body, _Body):
        # Status 200 with an empty body was seen by a gateway (2026): nothing was answered.
        return Outcome(ErrorClass.TRANSIENT, f"status {status} with an empty body")
    return _answer(body, label)


def _failure(error: _Error | str | None, status: int | None) -> Outcome:
    if isinstance(error, _Error):
        code, message = str(error.code or error.type or ""), error.message or ""
    else:
        code, message = "", error or ""
    known = _BY_CODE.get(code)
    if known is None:
        passing = status is None or status in (408, 409, 429) or not 400 <= status <= 499
        known = ErrorClass.TRANSIENT if passing else ErrorClass.BAD_REQUEST
    said = ": ".join(part for part in (code, message) if part)
    if status is not None:
        said = f"{status} {said}".rstrip()
    return Outcome(known, said or "the provider gave no reason")


def _usage(usage: _Usage | None) -> Usage:
    if usage is None:
        return NONE
    given, made = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=usage.prompt_tokens or 0,
        output_tokens=usage.completion_tokens or 0,
        cached_tokens=(given.cached_tokens or 0) if given else 0,
        cache_write_tokens=(given.cache_write_tokens or 0) if given else 0,
        reasoning_tokens=(made.reasoning_tokens or 0) if made else 0,
    )


def _answer(body: _Body, label: str | None) -> Outcome:
    usage = _usage(body.usage)
    if not body.choices:
        if body.data:
            return Outcome(text=bytes(body.data).decode(), model=body.model, usage=usage)
        return Outcome(ErrorClass.TRANSIENT, "the answer has no choices", model=body.model, usage=usage)
    choice = body.choices[0]
    message = choice.message or _Message()
    text = message.content
    if text is None and message.tool_calls:
        text = orjson.dumps(message.tool_calls).decode()
    if text is not None and label is not None:
        text = _unwrap(text, label)
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


def _unwrap(text: str, label: str) -> str:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    inner = value.get(label) if isinstance(value, dict) else None
    return inner if isinstance(inner, str) else text
