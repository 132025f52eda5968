"""One line of results into an outcome. Never raises: a line that cannot be read is the row's problem.

A result is of one of four types; those that errored, were canceled or have expired are not billed (guide,
2026-08). An answer was paid for: whatever can be kept of a damaged one is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from bulkrate.core.json_value import json_of, mapping, words
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.usage import Usage
from bulkrate.providers.anthropic.batches import plain_id
from bulkrate.providers.labels import unwrapped
from bulkrate.providers.provider import Decoded
from bulkrate.providers.result_json import function_call, read, tokens, trusted

# Types of errors (SDK 2.12.0, `shared/error_object.py`); their messages may change and are not read. Money or
# rights that are missing are the account's fault: nothing was billed, and the next create call will say so
# loudly, while a row that is given up for them would have to be found again.
_BY_TYPE = {
    "invalid_request_error": ErrorClass.BAD_REQUEST,
    "request_too_large": ErrorClass.BAD_REQUEST,
    "not_found_error": ErrorClass.BAD_REQUEST,
    "permission_error": ErrorClass.BAD_REQUEST,
    "authentication_error": ErrorClass.TRANSIENT,
    "billing_error": ErrorClass.TRANSIENT,
    "rate_limit_error": ErrorClass.TRANSIENT,
    "timeout_error": ErrorClass.TRANSIENT,
    "api_error": ErrorClass.TRANSIENT,
    "overloaded_error": ErrorClass.TRANSIENT,
}
_UNRUN = {
    "expired": Outcome(ErrorClass.EXPIRED, "the batch expired before this row's turn"),
    "canceled": Outcome(ErrorClass.CANCELLED, "the batch was cancelled before this row's turn"),
}


def decode_line(line: bytes, *, label: str | None = None) -> Decoded | None:
    """Read one line of results or of single answers; None when not even its custom_id can be read.

    `label` names the property that wraps a choice's answer; it is unwrapped here.
    """
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = read(line)
    custom_id = mapping(fields).get("custom_id")
    if not isinstance(custom_id, str):
        return None
    return Decoded(plain_id(custom_id), trusted(_outcome(fields, label), line))


def _outcome(line: Mapping[str, Any], label: str | None) -> Outcome:
    if "result" not in line:
        return _single(line, label)
    result = mapping(line["result"])
    kind = result.get("type")
    if kind == "succeeded":
        return _answer(mapping(result.get("message")), label)
    if kind == "errored":
        # The error sits inside an error.
        outer = mapping(result.get("error"))
        return _failure(mapping(outer.get("error")) or outer, None)
    unrun = _UNRUN.get(kind) if isinstance(kind, str) else None
    return unrun or Outcome(ErrorClass.TRANSIENT, "the result has no type that is known")


def _single(line: Mapping[str, Any], label: str | None) -> Outcome:
    """A request of the live lane, as the pipeline keeps it."""
    response = mapping(line.get("response"))
    status, body = response.get("status_code"), mapping(response.get("body"))
    if isinstance(status, int) and 200 <= status <= 299:
        return _answer(body, label)
    error = mapping(body.get("error")) or mapping(line.get("error"))
    return _failure(error, status if isinstance(status, int) else None)


def _failure(error: Mapping[str, Any], status: int | None) -> Outcome:
    kind = words(error.get("type")) or words(error.get("code")) or ""
    known = _BY_TYPE.get(kind)
    if known is None:
        lasting = status is not None and 400 <= status <= 499 and status not in (408, 409, 429)
        known = ErrorClass.BAD_REQUEST if lasting else ErrorClass.TRANSIENT
    said = ": ".join(part for part in (kind, words(error.get("message"))) if part)
    if status is not None:
        said = f"{status} {said}".rstrip()
    return Outcome(known, said or "the provider gave no reason")


@dataclass(frozen=True, slots=True)
class _Content:
    """What an answer's blocks say: its texts in a row, and the calls of tools it makes."""

    text: str | None
    calls: list[Any]


def _answer(message: Mapping[str, Any], label: str | None) -> Outcome:
    content = _content(message.get("content"))
    text = content.text
    if not text and content.calls:
        text = json_of(content.calls)
    if text is not None and label is not None:
        text = unwrapped(text, label)
    error, reason = _verdict(message, text)
    return Outcome(
        error,
        reason,
        text,
        words(message.get("stop_reason")),
        words(message.get("model")),
        _usage(mapping(message.get("usage"))),
    )


def _content(blocks: Any) -> _Content:
    texts: list[str] = []
    calls: list[Any] = []
    for block in blocks if isinstance(blocks, list) else ():
        if not isinstance(block, Mapping):
            continue
        if block.get("type") == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif block.get("type") == "tool_use":
            calls.append(function_call(block.get("id"), block.get("name"), block.get("input")))
    return _Content("".join(texts) if texts else None, calls)


def _verdict(message: Mapping[str, Any], text: str | None) -> tuple[ErrorClass | None, str | None]:
    match message.get("stop_reason"):
        case "refusal":
            return ErrorClass.REFUSED, _refusal(mapping(message.get("stop_details")))
        case "max_tokens":
            return ErrorClass.TRUNCATED, "the answer hit the output cap"
        case "model_context_window_exceeded":
            return ErrorClass.TOO_LONG, "prompt and answer together fill the model's context window"
        case "pause_turn":
            # A loop of the provider's own tools that was stopped half-way. There is text, but no answer yet,
            # and it is billed. Once more may end; three times, as for a passing failure, would be three
            # loops paid for; a larger cap changes nothing.
            return ErrorClass.INVALID_OUTPUT, "the model paused its turn before it had an answer"
    if text is None:
        # Nothing at all, not even a model's name: seen of a gateway (2026). Nothing was answered.
        empty = not message.get("content") and not message.get("stop_reason")
        error = ErrorClass.TRANSIENT if empty else ErrorClass.INVALID_OUTPUT
        return error, "the answer has no content"
    return None, None


def _refusal(details: Mapping[str, Any]) -> str:
    why = [words(details.get(name)) for name in ("category", "explanation")]
    return ": ".join(["the model refused", *(part for part in why if part)])


def _usage(usage: Mapping[str, Any]) -> Usage:
    """`input_tokens` are only those that no cache had a part in: the prompt is the sum of three."""
    cached = tokens(usage.get("cache_read_input_tokens"))
    written = tokens(usage.get("cache_creation_input_tokens"))
    return Usage(
        input_tokens=tokens(usage.get("input_tokens")) + cached + written,
        output_tokens=tokens(usage.get("output_tokens")),
        cached_tokens=cached,
        cache_write_tokens=written,
        reasoning_tokens=tokens(mapping(usage.get("output_tokens_details")).get("thinking_tokens")),
    )
