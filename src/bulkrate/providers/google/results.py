"""One line of a responses file into an outcome. Never raises: a line no one can read is the row's problem.

A line has `key`, and `response` or an error (`error`, or `status` in older files; `""` beside a response is
none). An inline result has its key in `metadata`, a single answer is wrapped with its HTTP status. A prompt
that was blocked has no candidates, only `promptFeedback`; an answer that was stopped has a `finishReason`.
Shapes: google-genai 3.4.0, `types.GenerateContentResponse`, and the batch-api page, copy of 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from bulkrate.core.json_value import count, json_of, mapping, text_of
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.usage import NONE, Usage
from bulkrate.providers.failures import ROW_FAULTS
from bulkrate.providers.google.codes import code_name, whole
from bulkrate.providers.provider import Decoded
from bulkrate.providers.result_json import function_call, read, tokens, trusted

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


def decode_line(line: bytes, *, quoted: bool = False) -> Decoded | None:
    """Read one line; None when not even its key can be read.

    `quoted`: the answer is one JSON text, and the outcome's text is what it holds.
    """
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = read(line)
    key = _key(mapping(fields))
    return None if key is None else Decoded(key, trusted(_outcome(fields, quoted), line))


def _key(fields: Mapping[str, Any]) -> str | None:
    """The line's id: of a file, of an inline result, of a single answer, in this order."""
    return next(
        (
            key
            for key in (
                text_of(fields.get("key")),
                text_of(mapping(fields.get("metadata")).get("key")),
                text_of(fields.get("custom_id")),
            )
            if key
        ),
        None,
    )


def _outcome(fields: Mapping[str, Any], quoted: bool) -> Outcome:
    response = mapping(fields.get("response"))
    if "status_code" in response:  # a single answer
        status = count(response["status_code"]) or 0
        response = mapping(response.get("body"))
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
        code, message = code_name(error), text_of(error.get("message")) or ""
    else:
        code, message = "", text_of(error) or ""
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


def _answer(response: Mapping[str, Any], quoted: bool) -> Outcome:
    usage, model = _usage(mapping(response.get("usageMetadata"))), text_of(response.get("modelVersion"))
    candidates = response.get("candidates")
    candidate = mapping(candidates[0]) if isinstance(candidates, list) and candidates else None
    if candidate is None:
        blocked = text_of(mapping(response.get("promptFeedback")).get("blockReason"))
        if blocked:
            return Outcome(
                ErrorClass.REFUSED, f"the prompt was blocked: {blocked}", None, blocked, model, usage
            )
        return Outcome(ErrorClass.TRANSIENT, "the answer has no candidates", None, None, model, usage)
    parts = mapping(candidate.get("content")).get("parts")
    text = _said(parts if isinstance(parts, list) else [])
    if text is not None and quoted:
        text = _unquoted(text)
    finish = text_of(candidate.get("finishReason"))
    error, reason = _STOPPED.get((finish or "").upper()), None
    if error is ErrorClass.TRUNCATED:
        reason = "the answer hit the output cap"
    elif error is not None:
        reason = ": ".join(
            part
            for part in (f"the answer was stopped: {finish}", text_of(candidate.get("finishMessage")))
            if part
        )
    elif text is None:
        error, reason = ErrorClass.INVALID_OUTPUT, "the answer has no content"
    return Outcome(error, reason, text, finish, model, usage)


def _said(parts: list[Any]) -> str | None:
    """The answer's text without its thoughts; calls of functions where there is none."""
    spoken = [part for part in parts if isinstance(part, dict) and not part.get("thought")]
    texts = [text for part in spoken if (text := text_of(part.get("text"))) is not None]
    if any(texts):
        return "".join(texts)
    calls = [part["functionCall"] for part in spoken if isinstance(part.get("functionCall"), dict)]
    if calls:
        return json_of([function_call(call.get("id"), call.get("name"), call.get("args")) for call in calls])
    return "" if texts else None


def _embedding(response: Mapping[str, Any]) -> Outcome:
    values = mapping(response["embedding"]).get("values")
    counts = mapping(response.get("usageMetadata"))
    used = _tokens(response.get("tokenCount")) or _tokens(counts.get("promptTokenCount"))
    usage, model = Usage(input_tokens=used), text_of(response.get("modelVersion"))
    if not isinstance(values, list) or not values:
        return Outcome(ErrorClass.TRANSIENT, "the answer has no vector", None, None, model, usage)
    text = json_of([{"object": "embedding", "index": 0, "embedding": values}]) or ""
    return Outcome(text=text, model=model, usage=usage)


def _usage(counts: Mapping[str, Any]) -> Usage:
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
    return tokens(whole(value))


def _unquoted(text: str) -> str:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if isinstance(value, str) else text
