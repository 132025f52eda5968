"""What a model answered, in each of Bedrock's shapes, into an outcome. Pure; never raises.

Which shape it is, the answer itself tells: Converse and Nova say `output.message`, Claude `content`, Titan
`embedding`. Shapes: botocore 1.44.5 (`ConverseResponse`), Bedrock and Nova user guides, copies of 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bulkrate.core.json_value import json_of, mapping, text_of
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.usage import NONE, Usage
from bulkrate.providers.bedrock.parts import TOOL
from bulkrate.providers.labels import unwrapped
from bulkrate.providers.result_json import function_call, tokens

# Why an answer ended, where it was not at its end. Words that are not here leave the answer as it is: it was
# paid for, and is held against the job's own check.
_STOPPED = {
    "max_tokens": (ErrorClass.TRUNCATED, "the answer hit the output cap"),
    "model_context_window_exceeded": (
        ErrorClass.TOO_LONG,
        "the answer ran out of the model's context window",
    ),
    "guardrail_intervened": (ErrorClass.REFUSED, "a guardrail stopped the answer"),
    "content_filtered": (ErrorClass.REFUSED, "a content filter stopped the answer"),
    "refusal": (ErrorClass.REFUSED, "the model refused"),
    "malformed_model_output": (ErrorClass.INVALID_OUTPUT, "the model's output was malformed"),
    "malformed_tool_use": (ErrorClass.INVALID_OUTPUT, "the model's tool call was malformed"),
}
_FENCED = re.compile(r"\s*```[a-z]*\n(.*?)\n?```\s*", re.DOTALL)


def outcome_of(answer: Any, *, model: str | None, label: str | None, formed: bool) -> Outcome:
    """The outcome of a model's answer.

    `model` is Bedrock's name of it, which has a price; Claude signs with a shorter one. `formed`: a label or
    JSON was asked for, so a fence around it is taken off; `label` names the property that wraps it.
    """
    fields = mapping(answer)
    if "embedding" in fields or "embeddingsByType" in fields:
        return _embedding(fields, model)
    message = mapping(mapping(fields.get("output")).get("message"))
    blocks = message.get("content") if message else fields.get("content")
    stop = text_of(fields.get("stopReason")) or text_of(fields.get("stop_reason"))
    usage = _usage(mapping(fields.get("usage")))
    if not isinstance(blocks, list):
        known = _STOPPED.get(stop or "", (ErrorClass.TRANSIENT, "the answer has no content"))
        return Outcome(*known, None, stop, model, usage)
    text = _said([block for block in blocks if isinstance(block, dict)], formed=formed)
    if text is not None and formed:
        text = _plain(text, label)
    error, reason = _STOPPED.get(stop or "", (None, None))
    if error is None and text is None:
        error, reason = ErrorClass.INVALID_OUTPUT, "the answer has no content"
    return Outcome(error, reason, text, stop, model, usage)


def _said(blocks: list[dict[str, Any]], *, formed: bool) -> str | None:
    """The answer's text without its thoughts; the input of the tool that carries an answer, or calls of
    other tools, where there is none."""
    calls = [call for block in blocks if (call := _call(block)) is not None]
    if formed:
        for call in calls:
            if call.get("name") == TOOL:
                return json_of(call.get("input"))
    texts = [text for block in blocks if (text := text_of(block.get("text"))) is not None]
    if any(texts):
        return "".join(texts)
    if calls:
        return json_of(
            [
                function_call(call.get("id") or call.get("toolUseId"), call.get("name"), call.get("input"))
                for call in calls
            ]
        )
    return "" if texts else None


def _call(block: dict[str, Any]) -> dict[str, Any] | None:
    if block.get("type") == "tool_use":
        return block
    call = block.get("toolUse")
    return call if isinstance(call, dict) else None


def _plain(text: str, label: str | None) -> str:
    """What was asked for, without a fence around it."""
    fenced = _FENCED.fullmatch(text)
    text = fenced[1] if fenced else text.strip()
    return text if label is None else unwrapped(text, label)


def _embedding(fields: Mapping[str, Any], model: str | None) -> Outcome:
    values = fields.get("embedding") or mapping(fields.get("embeddingsByType")).get("float")
    usage = Usage(input_tokens=_tokens(fields, "inputTextTokenCount"))
    if not isinstance(values, list) or not values:
        return Outcome(ErrorClass.TRANSIENT, "the answer has no vector", None, None, model, usage)
    text = json_of([{"object": "embedding", "index": 0, "embedding": values}]) or ""
    return Outcome(text=text, model=model, usage=usage)


def _usage(counts: Mapping[str, Any]) -> Usage:
    """All spellings; what a cache was read or written for is beside the input tokens, never in them."""
    if not counts:
        return NONE
    read = _tokens(counts, "cacheReadInputTokens", "cacheReadInputTokenCount", "cache_read_input_tokens")
    written = _tokens(
        counts, "cacheWriteInputTokens", "cacheWriteInputTokenCount", "cache_creation_input_tokens"
    )
    return Usage(
        input_tokens=_tokens(counts, "inputTokens", "input_tokens") + read + written,
        output_tokens=_tokens(counts, "outputTokens", "output_tokens"),
        cached_tokens=read,
        cache_write_tokens=written,
    )


def _tokens(counts: Mapping[str, Any], *names: str) -> int:
    return next((tokens(counts[name]) for name in names if counts.get(name)), 0)
