"""Anthropic's requests and results: what makes a create fail, what makes a row fail, and the four results.

Facts: SDK anthropic 2.12.0 and the batch guide, copies of 2026-08.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from bulkrate.testing import answers
from bulkrate.testing.answers import TokenCounter
from bulkrate.testing.faults import Fate
from bulkrate.testing.records import JobError, Limits, RowContext, Scan, Usage

CUSTOM_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_UNRUN: Final = {Fate.EXPIRED: "expired", Fate.CANCELLED: "canceled"}
_STOPS: Final = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


class AnthropicCodec:
    """Reads the requests of a create call, one a line, and writes result lines."""

    def scan(
        self,
        lines: Iterable[bytes],
        *,
        endpoint: str,
        limits: Limits,
        models: Sequence[str] | None,
        count_tokens: TokenCounter,
    ) -> Scan:
        """Look at every request; the errors are those that refuse the whole create call."""
        scan, seen = Scan(), set[str]()
        for number, line in enumerate(lines, 1):
            request = orjson.loads(line)
            custom_id = request.get("custom_id") if isinstance(request, dict) else None
            if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
                message = (
                    f"requests.{number - 1}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
                )
                scan.errors.append(JobError("invalid_request_error", message, number))
                return scan
            if custom_id in seen:
                message = f"requests: custom_id {custom_id!r} is used more than once"
                scan.errors.append(JobError("invalid_request_error", message, number))
                return scan
            seen.add(custom_id)
            asked = as_asked(request.get("params") or {})
            scan.model = scan.model or str(asked.get("model"))
            scan.prompt_tokens += count_tokens(asked)
            scan.custom_ids.append(custom_id)
            scan.contents.append(answers.content_key(asked))
            cap = answers.output_cap(asked)
            scan.caps.append(-1 if cap is None else cap)
            scan.structured.append(answers.is_structured(asked))
            # Each `params` is looked at only while the batch runs.
            if refusal(asked, models) is not None:
                scan.refused.add(scan.rows)
            scan.rows += 1
        if scan.rows > limits.max_requests:
            scan.errors.append(JobError("request_too_large", "Request exceeds the maximum allowed size."))
        if scan.rows == 0:
            scan.errors.append(
                JobError("invalid_request_error", "requests: List should have at least 1 item")
            )
        return scan

    def result(self, line: bytes, fate: Fate, context: RowContext) -> tuple[bytes, Usage | None]:
        """One line of the results, and the row's usage if it was run."""
        request = orjson.loads(line)
        usage: Usage | None = None
        result: dict[str, Any]
        if fate in _UNRUN:
            result = {"type": _UNRUN[fate]}
        elif fate in (Fate.REFUSED, Fate.REFUSED_IN_OUTPUT):
            why = refusal(as_asked(request["params"]), None)
            error = error_of(context.refusal_status, why or "Invalid request for this model.")
            result = {"type": "errored", "error": {**error, "request_id": context.request_id}}
        else:
            message, usage = message_of(request["params"], fate, context)
            if not context.show_usage:
                del message["usage"]
            result = {"type": "succeeded", "message": {} if fate is Fate.EMPTY_BODY else message}
        written = {"custom_id": request["custom_id"], "result": result}
        return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE), usage

    def custom_id(self, line: bytes) -> str:
        """The id of a request."""
        return str(orjson.loads(line)["custom_id"])

    def renamed(self, line: bytes, custom_id: str) -> bytes:
        """The request with another id."""
        return orjson.dumps(orjson.loads(line) | {"custom_id": custom_id})


def as_asked(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters in the words that answers are made from."""
    config = params.get("output_config")
    wanted = config.get("format") if isinstance(config, dict) else None
    if not isinstance(wanted, dict):
        return dict(params)
    return {
        **params,
        "response_format": {"type": "json_schema", "json_schema": {"schema": wanted.get("schema")}},
    }


def refusal(asked: Mapping[str, Any], models: Sequence[str] | None) -> str | None:
    """Why this request would be turned away by itself; ``None`` if it would not."""
    if models is not None and asked.get("model") not in models:
        return f"model: {asked.get('model')}"
    if not isinstance(asked.get("max_tokens"), int):
        return "max_tokens: Field required"
    if asked["max_tokens"] < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    if any(message.get("role") not in ("user", "assistant") for message in messages):
        return "messages: unexpected role; use the top-level system parameter"
    if asked.get("stream"):
        return "stream: Streaming is not supported in a batch"
    return None


def error_of(status: int, message: str) -> dict[str, Any]:
    """An error object, with the type that goes with a status."""
    kinds = {
        400: "invalid_request_error",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found_error",
        413: "request_too_large",
        429: "rate_limit_error",
        529: "overloaded_error",
    }
    return {"type": "error", "error": {"type": kinds.get(status, "api_error"), "message": message}}


def message_of(params: Mapping[str, Any], fate: Fate, context: RowContext) -> tuple[dict[str, Any], Usage]:
    """The message that answers a request."""
    asked = as_asked(params)
    answer = context.answer(asked)
    text, stop = answer.text, _STOPS.get(answer.finish_reason, answer.finish_reason)
    cap = params["max_tokens"]
    if fate is Fate.BAD_JSON:
        text = answers.broken(text)
    output = answers.text_tokens(text) if answer.output_tokens is None else answer.output_tokens
    if fate is Fate.TRUNCATED:
        text, stop, output = text[: max(1, len(text) // 2)], "max_tokens", cap
    output = min(output, cap)
    prompt = context.count_tokens(asked)
    cached = answers.cached_tokens(prompt) if answer.cached_tokens is None else answer.cached_tokens
    return {
        "id": f"msg_{context.request_id[4:]}",
        "type": "message",
        "role": "assistant",
        "model": params["model"],
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {
            # What was read from the cache is not in `input_tokens`: a trap of the real one.
            "input_tokens": prompt - cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": cached,
            "output_tokens": output,
            "service_tier": "batch",
        },
    }, Usage(prompt, cached, output)
