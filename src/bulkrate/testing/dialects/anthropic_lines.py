"""Anthropic's requests and results: what refuses a create call, what fails a row, and the four results.

Facts: SDK anthropic 2.12.0 and the batch guide, copies of 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from bulkrate.testing.answers import TokenCounter
from bulkrate.testing.faults import Fate
from bulkrate.testing.records import JobError, JsonLines, Limits, RowContext, Scan, Usage
from bulkrate.testing.replies import reply_to

CUSTOM_ID: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TOO_LARGE: Final = "request_too_large"

_UNRUN: Final = {Fate.EXPIRED: "expired", Fate.CANCELLED: "canceled"}
_STOPS: Final = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: TOO_LARGE,
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class AnthropicCodec(JsonLines):
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
        """Look at every request; the errors are those that refuse the whole create call.

        Each `params` is looked at only while the batch runs: what is wrong there fails the row.
        """
        scan, seen = Scan(), set[str]()
        for number, line in enumerate(lines, 1):
            request = orjson.loads(line)
            problem = _refused_by_create(request, seen)
            if problem is not None:
                scan.errors.append(JobError(_TYPES[400], f"requests.{number - 1}.{problem}", number))
                return scan
            seen.add(request["custom_id"])
            asked = as_asked(request["params"])
            scan.model = scan.model or str(asked.get("model"))
            refused = refusal(request["params"], models) is not None
            scan.add(request["custom_id"], asked, count_tokens, refused=refused)
        if scan.rows > limits.max_requests:
            scan.errors.append(JobError(TOO_LARGE, "Request exceeds the maximum allowed number of requests"))
        if scan.rows == 0:
            scan.errors.append(JobError(_TYPES[400], "requests: List should have at least 1 item"))
        return scan

    def result(self, line: bytes, fate: Fate, context: RowContext) -> tuple[bytes, Usage | None]:
        """One line of the results, and the row's usage if it was run."""
        request = orjson.loads(line)
        usage: Usage | None = None
        result: dict[str, Any]
        if fate in _UNRUN:
            result = {"type": _UNRUN[fate]}
        elif fate in (Fate.REFUSED, Fate.REFUSED_IN_OUTPUT):
            why = refusal(request["params"], None)
            error = error_of(context.refusal_status, why or "The request failed.")
            result = {"type": "errored", "error": error | {"request_id": context.request_id}}
        else:
            message, usage = message_of(request["params"], fate, context)
            if not context.show_usage:
                del message["usage"]
            result = {"type": "succeeded", "message": {} if fate is Fate.EMPTY_BODY else message}
        written = {"custom_id": request["custom_id"], "result": result}
        return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE), usage


def as_asked(params: Mapping[str, Any]) -> dict[str, Any]:
    """A request in the words that answers are made from: the system prompt is a turn, a format a schema."""
    asked = dict(params)
    if asked.get("system") and isinstance(asked.get("messages"), list):
        asked["messages"] = [{"role": "system", "content": asked.pop("system")}, *asked["messages"]]
    config = asked.pop("output_config", None)
    wanted = config.get("format") if isinstance(config, dict) else None
    if isinstance(wanted, dict):
        schema = {"schema": wanted.get("schema")}
        asked["response_format"] = {"type": "json_schema", "json_schema": schema}
    return asked


def _refused_by_create(request: Any, seen: set[str]) -> str | None:
    """Why this request refuses the whole call; ``None`` if it does not."""
    custom_id = request.get("custom_id") if isinstance(request, dict) else None
    if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
        return "custom_id: String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"
    if custom_id in seen:
        return "custom_id: must be unique within the batch"
    if not isinstance(request.get("params"), dict):
        return "params: Field required"
    return None


def refusal(params: Mapping[str, Any], models: Sequence[str] | None) -> str | None:
    """Why this request would be turned away by itself; ``None`` if it would not."""
    cap, messages = params.get("max_tokens"), params.get("messages")
    if models is not None and params.get("model") not in models:
        return f"model: {params.get('model')}"
    if not isinstance(cap, int):
        return "max_tokens: Field required"
    if cap < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    if not isinstance(messages, list) or not messages:
        return "messages: at least one message is required"
    if messages[0].get("role") == "system":
        return "messages.0: use the top-level `system` parameter"
    if any(not message.get("content") for message in messages):
        return "messages: text content blocks must be non-empty"
    gone = {"temperature", "top_p", "top_k"} & params.keys()
    if gone:
        return f"{min(gone)}: this parameter is not supported"
    if params.get("stream"):
        return "stream: streaming is not supported in a batch"
    return None


def error_of(status: int, message: str) -> dict[str, Any]:
    """An error object, of the type that goes with a status."""
    return {"type": "error", "error": {"type": _TYPES.get(status, "api_error"), "message": message}}


def message_of(params: Mapping[str, Any], fate: Fate, context: RowContext) -> tuple[dict[str, Any], Usage]:
    """The message that answers a request, and its usage."""
    asked = as_asked(params)
    reply = reply_to(asked, fate, context)
    usage, stop = reply.usage, _STOPS.get(reply.finish, reply.finish)
    refused = {"type": "refusal", "category": None, "explanation": None}
    return {
        "id": f"msg_{context.request_id[4:]}",
        "type": "message",
        "role": "assistant",
        "model": params["model"],
        "content": [{"type": "text", "text": reply.text}] if reply.text else [],
        "stop_reason": stop,
        "stop_sequence": None,
        "stop_details": refused if stop == "refusal" else None,
        "usage": {
            # What was read from the cache is not in `input_tokens`: a trap of the real one.
            "input_tokens": usage.input_tokens - usage.cached_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
            "service_tier": "batch",
        },
    }, usage
