"""One line of results into an outcome. Never raises: a line that cannot be read is the row's problem.

A line was paid for: what can be kept of a damaged one is kept. Requests that errored, were canceled or have
expired are not billed (guide, 2026-08).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

from bulkrate.core.identity import CUSTOM_ID_LENGTH
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.usage import Usage
from bulkrate.providers.provider import Decoded

# Types of errors (SDK 2.12.0). Messages may change and are not looked at.
_BY_TYPE = {
    "invalid_request_error": ErrorClass.BAD_REQUEST,
    "request_too_large": ErrorClass.TOO_LONG,
    "authentication_error": ErrorClass.BAD_REQUEST,
    "permission_error": ErrorClass.BAD_REQUEST,
    "billing_error": ErrorClass.BAD_REQUEST,
    "not_found_error": ErrorClass.BAD_REQUEST,
}
_UNRUN = {
    "expired": Outcome(ErrorClass.EXPIRED, "the batch expired before this request had its turn"),
    "canceled": Outcome(ErrorClass.CANCELLED, "the batch was cancelled before this request had its turn"),
}


def decode_line(line: bytes, *, label: str | None = None) -> Decoded | None:
    """Read one line of results, or of single answers; None when not even its custom_id can be read.

    `label` names the JSON property that wraps a choice's answer; it is unwrapped here.
    """
    damaged = False
    try:
        parsed = orjson.loads(line)
    except orjson.JSONDecodeError:
        damaged = not _is_utf8(line)
        try:
            parsed = json.loads(line.decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("custom_id"), str):
        return None
    outcome = _outcome(parsed, label)
    if damaged and outcome.succeeded:
        outcome = _failed(ErrorClass.TRANSIENT, "the result line is not valid UTF-8", outcome)
    return Decoded(parsed["custom_id"][:CUSTOM_ID_LENGTH], outcome)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _outcome(line: Mapping[str, Any], label: str | None) -> Outcome:
    if "result" not in line:
        return _single(line, label)
    result = _mapping(line["result"])
    kind = result.get("type")
    if kind == "succeeded":
        return _answer(_mapping(result.get("message")), label)
    if kind == "errored":
        # The error sits inside an error.
        outer = _mapping(result.get("error"))
        return _error(_mapping(outer.get("error")) or outer, None)
    known = _UNRUN.get(kind) if isinstance(kind, str) else None
    return known or Outcome(ErrorClass.TRANSIENT, f"the result is of no known type: {str(kind)[:40]}")


def _single(line: Mapping[str, Any], label: str | None) -> Outcome:
    """A request of the live lane, as the pipeline keeps it."""
    response = _mapping(line.get("response"))
    status, body = response.get("status_code"), _mapping(response.get("body"))
    if isinstance(status, int) and 200 <= status <= 299:
        return _answer(body, label)
    error = _mapping(body.get("error")) or _mapping(line.get("error"))
    return _error(error, status if isinstance(status, int) else None)


def _error(error: Mapping[str, Any], status: int | None) -> Outcome:
    kind = str(error.get("type") or error.get("code") or "")
    said = ": ".join(part for part in (kind, str(error.get("message") or "")) if part)
    said = f"{status} {said}" if status is not None else said
    return Outcome(_BY_TYPE.get(kind, ErrorClass.TRANSIENT), said.strip() or "the provider gave no reason")


def _answer(message: Mapping[str, Any], label: str | None) -> Outcome:
    blocks = message.get("content")
    blocks = [block for block in blocks if isinstance(block, dict)] if isinstance(blocks, list) else []
    texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
    text = "".join(texts) if texts else None
    calls = [block for block in blocks if block.get("type") == "tool_use"]
    if not text and calls:
        text = orjson.dumps(calls).decode()
    if text is not None and label is not None:
        text = _unwrap(text, label)
    reason = message.get("stop_reason")
    model = message.get("model")
    error, why = _verdict(reason, text)
    return Outcome(
        error,
        why,
        text,
        reason if isinstance(reason, str) else None,
        model if isinstance(model, str) else None,
        _usage(_mapping(message.get("usage"))),
    )


def _verdict(reason: Any, text: str | None) -> tuple[ErrorClass | None, str | None]:
    match reason:
        case "refusal":
            return ErrorClass.REFUSED, "the model refused"
        case "max_tokens":
            return ErrorClass.TRUNCATED, "the answer hit the output cap"
        case "model_context_window_exceeded":
            return ErrorClass.TOO_LONG, "prompt and answer together are over the context window"
        case "pause_turn":
            # A loop of server tools that is not at its end: no answer, and asking again may end otherwise.
            return ErrorClass.INVALID_OUTPUT, "the model paused its turn before it had an answer"
    if text is None:
        return ErrorClass.INVALID_OUTPUT, "the answer has no content"
    return None, None


def _usage(usage: Mapping[str, Any]) -> Usage:
    """`input_tokens` are those that no cache was asked for: the prompt is the sum of three."""
    read, written = _count(usage, "cache_read_input_tokens"), _count(usage, "cache_creation_input_tokens")
    return Usage(
        input_tokens=_count(usage, "input_tokens") + read + written,
        output_tokens=_count(usage, "output_tokens"),
        cached_tokens=read,
        cache_write_tokens=written,
        reasoning_tokens=_count(_mapping(usage.get("output_tokens_details")), "thinking_tokens"),
    )


def _unwrap(text: str, label: str) -> str:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    inner = value.get(label) if isinstance(value, dict) else None
    return inner if isinstance(inner, str) else text


def _failed(error: ErrorClass, message: str, outcome: Outcome) -> Outcome:
    return Outcome(error, message, outcome.text, outcome.finish_reason, outcome.model, outcome.usage)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        return 0
    return value if 0 <= value < 1 << 53 else 0
