"""Mistral's request and result lines: two fields a line, checked as strictly as the service does.

Facts: mistralai 3.7.0 (models of batches and of chat completions) and the batch guide, copy of 2026-08.
UNVERIFIED: what is said to two lines of one id, and what the line of a failed request looks like.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from bulkrate.testing import answers
from bulkrate.testing.answers import TokenCounter
from bulkrate.testing.faults import Fate
from bulkrate.testing.records import JobError, JsonLines, Limits, RowContext, Scan, Usage
from bulkrate.testing.replies import reply_to

CHAT: Final = "/v1/chat/completions"
EMBED: Final = "/v1/embeddings"
ANSWERED_ENDPOINTS: Final = (CHAT, EMBED)

_DIMENSIONS: Final = 8
_FIELDS: Final = {
    CHAT: frozenset(
        {
            *("model", "messages", "temperature", "top_p", "max_tokens", "stream", "stop", "random_seed"),
            *("metadata", "response_format", "tools", "tool_choice", "presence_penalty", "n", "guardrails"),
            *("frequency_penalty", "min_tokens", "repetition_penalty", "top_k", "logprobs", "top_logprobs"),
            *("prompt_logprobs", "top_prompt_logprobs", "prediction", "parallel_tool_calls", "prompt_mode"),
            *("reasoning_effort", "prompt_cache_key", "service_tier", "safe_prompt"),
        }
    ),
    EMBED: frozenset({"model", "input", "metadata", "output_dimension", "output_dtype", "encoding_format"}),
}
_ROLES: Final = frozenset({"system", "user", "assistant", "tool"})


class MistralCodec(JsonLines):
    """Reads batch input lines and writes output and error lines."""

    def scan(
        self,
        lines: Iterable[bytes],
        *,
        endpoint: str,
        limits: Limits,
        models: Sequence[str] | None,
        count_tokens: TokenCounter,
    ) -> Scan:
        """Validate a whole input file; ``endpoint`` is the job's, with its model behind a blank."""
        endpoint, _, model = endpoint.partition(" ")
        scan, seen = Scan(model=model), set[str]()
        for number, line in enumerate(lines, 1):
            found = _read(line, number)
            if isinstance(found, JobError):
                scan.errors.append(found)
                break
            custom_id, body = found
            if custom_id in seen:
                scan.errors.append(JobError("", f"Line {number}: custom_id '{custom_id}' is used before."))
                break
            seen.add(custom_id)
            asked = neutral(body)
            refused = refusal(body, endpoint) is not None
            scan.add(custom_id, asked, count_tokens, refused=refused)
        if not scan.rows and not scan.errors:
            scan.errors.append(JobError("", "The input file is empty."))
        if scan.rows > limits.max_requests:
            scan.errors.append(JobError("", f"More than {limits.max_requests} requests."))
        return scan

    def result(self, line: bytes, fate: Fate, context: RowContext) -> tuple[bytes, Usage | None]:
        """One line of the output file or of the error file (none for a row that was not run), and usage."""
        if fate in (Fate.EXPIRED, Fate.CANCELLED):
            return b"", None
        request = orjson.loads(line)
        body: Mapping[str, Any] = request["body"]
        usage: Usage | None = None
        error: dict[str, Any] | None = None
        if fate in (Fate.REFUSED, Fate.REFUSED_IN_OUTPUT):
            status = context.refusal_status
            said = error_object(status, refusal(body, EMBED if "input" in body else CHAT))
            error = {"message": said["message"]} if fate is Fate.REFUSED else None
            response = {"status_code": status, "body": said}
        else:
            answer, usage = respond(body, fate, context)
            response = {"status_code": 200, "body": "" if fate is Fate.EMPTY_BODY else answer}
        written = {
            "id": f"batch-{context.result_id}",
            "custom_id": request["custom_id"],
            "response": response,
            "error": error,
        }
        return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE), usage


def neutral(body: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked, without the model, which a single answer's body has and a line's has not."""
    return {name: value for name, value in body.items() if name != "model"}


def respond(body: Mapping[str, Any], fate: Fate, context: RowContext) -> tuple[dict[str, Any], Usage]:
    """The response to a request, and what it used."""
    asked, model = neutral(body), body.get("model", "misbehaving")
    prompt = context.count_tokens(asked)
    common = {"id": context.request_id, "model": model, "created": context.at}
    if "input" in asked:
        given = asked["input"] if isinstance(asked["input"], list) else [asked["input"]]
        size = asked.get("output_dimension") or _DIMENSIONS
        data = [
            {"object": "embedding", "index": index, "embedding": answers.vector(item, size)}
            for index, item in enumerate(given)
        ]
        counts = {"prompt_tokens": prompt, "completion_tokens": 0, "total_tokens": prompt}
        return {**common, "object": "list", "data": data, "usage": counts}, Usage(prompt, 0, 0)
    reply = reply_to(asked, fate, context)
    output = reply.usage.output_tokens
    message = {"role": "assistant", "content": reply.text, "tool_calls": None, "prefix": False}
    response: dict[str, Any] = {
        **common,
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": reply.finish}],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": reply.usage.cached_tokens},
        },
    }
    if not context.show_usage:
        del response["usage"]
    return response, reply.usage


def refusal(body: Mapping[str, Any], endpoint: str) -> str | None:
    """Why the endpoint would turn this request away; ``None`` if it would not."""
    unknown = sorted(set(body) - _FIELDS[endpoint])
    if unknown:
        return f"body.{unknown[0]}: Extra inputs are not permitted"
    name = "input" if endpoint == EMBED else "messages"
    if not body.get(name):
        return f"body.{name}: Field required"
    if endpoint == EMBED:
        return None
    if any(turn.get("role") not in _ROLES for turn in body["messages"]):
        return "body.messages: Input should be 'system', 'user', 'assistant' or 'tool'"
    if not 0 <= (body.get("temperature") or 0) <= 1.5:
        return "body.temperature: Input should be less than or equal to 1.5"
    if (body.get("max_tokens") or 1) < 1:
        return "body.max_tokens: Input should be greater than 0"
    return None


def error_object(status: int, reason: str | None) -> dict[str, Any]:
    """An error in the service's shape: the message stands in it directly."""
    kind = "rate_limited" if status == 429 else "invalid_request_error" if status < 500 else "internal_error"
    message = reason or ("Rate limit exceeded" if status == 429 else "The request failed.")
    return {"object": "error", "message": message, "type": kind, "param": None, "code": None}


def _read(line: bytes, number: int) -> tuple[str, Mapping[str, Any]] | JobError:
    try:
        given = orjson.loads(line)
    except orjson.JSONDecodeError:
        return JobError("", f"Line {number} is not valid JSON.")
    if not isinstance(given, dict) or not isinstance(given.get("body"), dict):
        return JobError("", f"Line {number} has no body.")
    if not isinstance(given.get("custom_id"), str):  # allowed to be absent; then nobody knows whose it is
        return JobError("", f"Line {number} has no custom_id.")
    if unknown := sorted(set(given) - {"custom_id", "body"}):
        return JobError("", f"Line {number}: {unknown[0]}: Extra inputs are not permitted")
    return given["custom_id"], given["body"]
