"""One line of a responses file into an outcome. Never raises: a line no one can read is the row's problem.

A line has `key`, and `response` or an error (`error`, or `status` in older files; `""` beside a response is
none). An inline result has its key in `metadata`, a single answer is wrapped with its HTTP status. A prompt
that was blocked has no candidates, only `promptFeedback`; an answer that was stopped has a `finishReason`.
Shapes: google-genai 3.4.0, `types.GenerateContentResponse`, and the batch-api page, copy of 2026.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from bulkrate.core.json_value import json_of
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.usage import MOST_TOKENS, NONE, Usage
from bulkrate.providers.failures import ROW_FAULTS
from bulkrate.providers.google.codes import code_name
from bulkrate.providers.provider import Decoded

# Why a model stopped, where it was not at the end of its answer (`types.FinishReason`). Words that are not
# here leave the answer as it is: it was paid for, and is held against the job's own check.
_STOPPED = {
    "MAX_TOKENS": ErrorClass.TRUNCATED,
    "CONTINUATION": ErrorClass.TRUNCATED,
    "MALFORMED_FUNCTION_CALL": ErrorClass.INVALID_OUTPUT,
    "MALFORMED_RESPONSE": ErrorClass.INVALID_OUTPUT,
    "UNEXPECTED_TOOL_CALL": ErrorClass.INVALID_OUTPUT,
    "TOO_MANY_TOOL_CALLS": ErrorClass.INVALID_OUTPUT,
    "NO_IMAGE": ErrorClass.INVALID_OUTPUT,
    "MISSING_THOUGHT_SIGNATURE": ErrorClass.BAD_REQUEST,
    "OTHER": ErrorClass.TRANSIENT,
    "IMAGE_OTHER": ErrorClass.TRANSIENT,
    **dict.fromkeys(
        (
            *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
            *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "ESCALATION"),
            "PUP_LIMITED_DISABLED",
        ),
        ErrorClass.REFUSED,
    ),
}
# What only the request itself can be at fault for; everything else may pass.
_AT_FAULT = frozenset(
    {
        *("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE", "UNIMPLEMENTED", "NOT_FOUND"),
        *("ALREADY_EXISTS", "PERMISSION_DENIED", "UNAUTHENTICATED"),
    }
)
_TOO_LONG = re.compile(r"token count .{0,60}exceeds", re.IGNORECASE)
_SURROGATE = re.compile("[\ud800-\udfff]")
_BOM = b"\xef\xbb\xbf"


def decode_line(line: bytes, *, quoted: bool = False) -> Decoded | None:
    """Read one line; None when not even its key can be read.

    `quoted`: the answer is one JSON text, and the outcome's text is what it holds.
    """
    damaged = False
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        text = line.removeprefix(_BOM).decode("utf-8", "replace")
        damaged = "\ufffd" in text and not _is_utf8(line)
        try:
            fields = json.loads(text, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            return None
    key = _key(fields) if isinstance(fields, dict) else None
    if key is None:
        return None
    outcome = _outcome(fields, quoted)
    if damaged and outcome.succeeded:
        # The way damaged it: nobody knows what else is wrong with the answer. Its cost is known.
        outcome = _failed(ErrorClass.TRANSIENT, "the result line is not valid UTF-8", outcome)
    return Decoded(key, outcome)


def _failed(error: ErrorClass, message: str, seen: Outcome) -> Outcome:
    return Outcome(error, message, seen.text, seen.finish_reason, seen.model, seen.usage)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _key(fields: dict[str, Any]) -> str | None:
    """The line's id: of a file, of an inline result, of a single answer, in this order."""
    return next(
        (
            key
            for key in (
                _text(fields.get("key")),
                _text(_mapping(fields.get("metadata")).get("key")),
                _text(fields.get("custom_id")),
            )
            if key
        ),
        None,
    )


def _outcome(fields: dict[str, Any], quoted: bool) -> Outcome:
    response = _mapping(fields.get("response"))
    if "status_code" in response:  # a single answer
        status = _count(response["status_code"])
        response = _mapping(response.get("body"))
        if not 200 <= status <= 299:
            return _failure(response.get("error"), status)
    if fields.get("error"):
        return _failure(fields["error"])
    if not response and fields.get("status"):
        return _failure(fields["status"])
    if not response:
        return Outcome(ErrorClass.TRANSIENT, "the result line has neither response nor error")
    return _embedding(response) if "embedding" in response else _answer(response, quoted)


def _failure(error: Any, status: int | None = None) -> Outcome:
    """An error of this row: a `google.rpc.Status`, or the words of one."""
    if isinstance(error, dict):
        code, message = code_name(error), _text(error.get("message")) or ""
    else:
        code, message = "", _text(error) or ""
    if _TOO_LONG.search(message):
        kind = ErrorClass.TOO_LONG
    elif code == "CANCELLED":
        kind = ErrorClass.CANCELLED
    elif code in _AT_FAULT or (not code and status in ROW_FAULTS):
        kind = ErrorClass.BAD_REQUEST
    else:
        kind = ErrorClass.TRANSIENT
    said = ": ".join(part for part in (code, message) if part)
    return Outcome(kind, said or "the provider gave no reason")


def _answer(response: dict[str, Any], quoted: bool) -> Outcome:
    usage, model = _usage(_mapping(response.get("usageMetadata"))), _text(response.get("modelVersion"))
    candidates = response.get("candidates")
    candidate = _mapping(candidates[0]) if isinstance(candidates, list) and candidates else None
    if candidate is None:
        blocked = _text(_mapping(response.get("promptFeedback")).get("blockReason"))
        if blocked:
            return Outcome(
                ErrorClass.REFUSED, f"the prompt was blocked: {blocked}", None, blocked, model, usage
            )
        return Outcome(ErrorClass.TRANSIENT, "the answer has no candidates", None, None, model, usage)
    parts = _mapping(candidate.get("content")).get("parts")
    text = _said(parts if isinstance(parts, list) else [])
    if text is not None and quoted:
        text = _unquoted(text)
    finish = _text(candidate.get("finishReason"))
    error, reason = _STOPPED.get((finish or "").upper()), None
    if error is ErrorClass.TRUNCATED:
        reason = "the answer hit the output cap"
    elif error is not None:
        reason = ": ".join(
            part
            for part in (f"the answer was stopped: {finish}", _text(candidate.get("finishMessage")))
            if part
        )
    elif text is None:
        error, reason = ErrorClass.INVALID_OUTPUT, "the answer has no content"
    return Outcome(error, reason, text, finish, model, usage)


def _said(parts: list[Any]) -> str | None:
    """The answer's text without its thoughts; calls of functions where there is none."""
    spoken = [part for part in parts if isinstance(part, dict) and not part.get("thought")]
    texts = [text for part in spoken if (text := _text(part.get("text"))) is not None]
    if any(texts):
        return "".join(texts)
    calls = [_call(part["functionCall"]) for part in spoken if isinstance(part.get("functionCall"), dict)]
    return json_of(calls) if calls else ("" if texts else None)


def _call(call: dict[str, Any]) -> dict[str, Any]:
    """A call in the shape that answers with calls have in every dialect."""
    named = {"name": call.get("name"), "arguments": json_of(call.get("args") or {})}
    told = {"id": call["id"]} if call.get("id") else {}
    return {**told, "type": "function", "function": named}


def _embedding(response: dict[str, Any]) -> Outcome:
    values = _mapping(response["embedding"]).get("values")
    counts = _mapping(response.get("usageMetadata"))
    tokens = _tokens(response.get("tokenCount")) or _tokens(counts.get("promptTokenCount"))
    usage, model = Usage(input_tokens=tokens), _text(response.get("modelVersion"))
    if not isinstance(values, list) or not values:
        return Outcome(ErrorClass.TRANSIENT, "the answer has no vector", None, None, model, usage)
    text = json_of([{"object": "embedding", "index": 0, "embedding": values}]) or ""
    return Outcome(text=text, model=model, usage=usage)


def _usage(counts: dict[str, Any]) -> Usage:
    """The prompt's count has the cached tokens in it; the candidates' has not the thoughts."""
    if not counts:
        return NONE
    thoughts = _tokens(counts.get("thoughtsTokenCount"))
    return Usage(
        input_tokens=_tokens(counts.get("promptTokenCount")) + _tokens(counts.get("toolUsePromptTokenCount")),
        output_tokens=_tokens(counts.get("candidatesTokenCount")) + thoughts,
        cached_tokens=_tokens(counts.get("cachedContentTokenCount")),
        reasoning_tokens=thoughts,
    )


def _tokens(value: Any) -> int:
    count = _count(value)
    return count if 0 <= count <= MOST_TOKENS else 0


def _count(value: Any) -> int:
    """A whole number, also as text, which is how Google writes those of 64 bits; 0 for anything else."""
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, float) and abs(value) <= MOST_TOKENS:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _unquoted(text: str) -> str:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, str) else text


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else None
