"""OpenAI's request and result lines: validation as the service does it, and the three kinds of result.

Facts: OpenAI's Batch guide and SDK 3.54, read 2026-11; error codes of whole batches as Azure documents them
for the same API; shapes of refused and expired rows as observed in public issues of 2025 and 2026.
UNVERIFIED: the row code ``batch_cancelled``, and what the service says to a blank line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from bulkrate.testing import answers
from bulkrate.testing.answers import TokenCounter
from bulkrate.testing.dialects.openai_responses import in_neutral_words, response_to
from bulkrate.testing.faults import Fate
from bulkrate.testing.records import JobError, JsonLines, Limits, RowContext, Scan, Usage
from bulkrate.testing.replies import reply_to

CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
RESPONSES: Final = "/v1/responses"
ANSWERED_ENDPOINTS: Final = (CHAT, RESPONSES, EMBEDDINGS)
"""The endpoints this stand-in can answer rows of."""

_MAX_JOB_ERRORS: Final = 100
_EMBEDDING_DIMENSIONS: Final = 8

_UNRUN: Final[Mapping[Fate, tuple[str, str]]] = {
    Fate.EXPIRED: (
        "batch_expired",
        "This request could not be executed before the completion window expired.",
    ),
    Fate.CANCELLED: ("batch_cancelled", "This request was not executed because the batch was cancelled."),
}


class OpenAICodec(JsonLines):
    """Reads batch input lines and writes batch output and error lines.

    ``bare``: lines are read without ``method`` and ``url``, as those of servers that only resemble OpenAI's.
    """

    def __init__(self, *, bare: bool = False) -> None:
        self._bare = bare

    def scan(
        self,
        lines: Iterable[bytes],
        *,
        endpoint: str,
        limits: Limits,
        models: Sequence[str] | None,
        count_tokens: TokenCounter,
    ) -> Scan:
        """Validate a whole input file; the errors are those that make the batch fail."""
        scan, seen, inputs, number = Scan(), set[str](), 0, 0
        for number, line in enumerate(lines, 1):
            if number > limits.max_requests:
                message = f"The batch contains more than the maximum of {limits.max_requests} requests."
                scan.errors.append(JobError("too_many_tasks", message))
                break
            if len(scan.errors) >= _MAX_JOB_ERRORS:
                break
            row = _read(line, number, endpoint, bare=self._bare)
            if isinstance(row, JobError):
                scan.errors.append(row)
                continue
            custom_id, body = row
            if custom_id in seen:
                message = f"The custom_id '{custom_id}' is used by an earlier line; it must be unique."
                scan.errors.append(JobError("duplicate_custom_id", message, number, "custom_id"))
                continue
            seen.add(custom_id)
            self._check_model(scan, body["model"], number, models)
            refused = refusal_of(body, endpoint) is not None
            asked = in_neutral_words(body) if endpoint == RESPONSES else body
            scan.add(custom_id, asked, count_tokens, refused=refused)
            inputs += _input_count(body) if _embeds(endpoint) else 0
        if number == 0:
            scan.errors.append(JobError("empty_file", "The input file is empty."))
        if limits.max_embedding_inputs is not None and inputs > limits.max_embedding_inputs:
            message = f"The batch contains more than {limits.max_embedding_inputs} embedding inputs."
            scan.errors.append(JobError("too_many_tasks", message))
        return scan

    def result(self, line: bytes, fate: Fate, context: RowContext) -> tuple[bytes, Usage | None]:
        """One line of the output file or of the error file, and the row's usage if it was run."""
        request = orjson.loads(line)
        body: Mapping[str, Any] = request["body"]
        url = request.get("url", CHAT)
        response: dict[str, Any] | None = None
        error: dict[str, str] | None = None
        usage: Usage | None = None
        if fate in _UNRUN:
            code, message = _UNRUN[fate]
            error = {"code": code, "message": message}
        elif fate in (Fate.REFUSED, Fate.REFUSED_IN_OUTPUT):
            # The refusal sits inside the response and the top-level error is null: a trap of the real one.
            status = context.refusal_status
            response = _response(status, context, {"error": _row_error(status, refusal_of(body, url))})
        else:
            make = _embeddings if _embeds(url) else response_to if url == RESPONSES else _chat
            answer, usage = make(body, fate, context)
            if not context.show_usage:
                del answer["usage"]
            # An empty body beside status 200 was seen by a gateway (2026).
            response = _response(200, context, "" if fate is Fate.EMPTY_BODY else answer)
        written = {
            "id": context.result_id,
            "custom_id": request["custom_id"],
            "response": response,
            "error": error,
        }
        return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE), usage

    @staticmethod
    def _check_model(scan: Scan, model: str, number: int, models: Sequence[str] | None) -> None:
        if not scan.model:
            scan.model = model
            if models is not None and model not in models:
                message = f"The provided model '{model}' is not supported by the Batch API."
                scan.errors.append(JobError("model_not_found", message, number, "body.model"))
        elif model != scan.model:
            message = f"All requests of a batch must name one model; this line names '{model}'."
            scan.errors.append(JobError("model_mismatch", message, number, "body.model"))


def _read(line: bytes, number: int, endpoint: str, *, bare: bool) -> tuple[str, Mapping[str, Any]] | JobError:
    """The id and the body of a well-formed line, or what is wrong with it."""
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError:  # also a byte order mark, broken UTF-8 and a blank line
        return JobError("invalid_json_line", "This line is not parseable as valid JSON.", number)
    if not isinstance(request, dict):
        return JobError("invalid_request", "Each line must be a JSON object.", number)
    if bare and isinstance(request, dict):
        request = {"method": "POST", "url": endpoint, **request}
    for name, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
        if name not in request:
            return _absent(name, number)
        if not isinstance(request[name], kind):
            return JobError("invalid_request", f"Invalid type for '{name}'.", number, name)
    body = request["body"]
    if request["method"] != "POST":
        message = f"Invalid method '{request['method']}': must be POST."
        return JobError("invalid_request", message, number, "method")
    if request["url"] != endpoint:
        message = f"The URL '{request['url']}' does not match the endpoint '{endpoint}' of the batch."
        return JobError("url_mismatch", message, number, "url")
    if not isinstance(body.get("model"), str):
        return _absent("body.model", number)
    if body.get("stream"):
        return JobError("invalid_request", "Streaming is not supported in a batch.", number, "body.stream")
    return request["custom_id"], body


def _absent(name: str, number: int) -> JobError:
    return JobError("missing_required_parameter", f"Missing required parameter: '{name}'.", number, name)


def refusal_of(body: Mapping[str, Any], endpoint: str) -> tuple[str, str] | None:
    """Why the model endpoint would turn this row away, with the parameter; ``None`` if it would not."""
    name = "messages" if endpoint.endswith("/chat/completions") else "input"
    if name not in body:
        return f"Missing required parameter: '{name}'.", name
    given = body[name]
    if not given or not isinstance(given, list if name == "messages" else (list, str)):
        return f"Invalid '{name}': must not be empty.", name
    cap = answers.output_cap(body)
    if cap is not None and cap < 1:
        return (
            "Invalid cap on output tokens: integer below minimum value. Expected a value >= 1.",
            "max_tokens",
        )
    temperature = body.get("temperature")
    if isinstance(temperature, int | float) and not 0 <= temperature <= 2:
        return "Invalid 'temperature': expected a value between 0 and 2.", "temperature"
    return None


def _embeds(endpoint: str) -> bool:
    return endpoint.endswith("/embeddings")


def _input_count(body: Mapping[str, Any]) -> int:
    given = body.get("input")
    return len(given) if isinstance(given, list) and given and not isinstance(given[0], int) else 1


def _row_error(status: int, reason: tuple[str, str] | None) -> dict[str, Any]:
    message, param = reason or ("Invalid request for this model.", None)
    kind, code = "invalid_request_error", None
    if status == 429:
        message, kind, code = "Rate limit reached.", "requests", "rate_limit_exceeded"
    elif not 400 <= status <= 499:  # 0 was seen in output files (2025-11)
        message, kind, code = "The server had an error.", "server_error", "server_error"
    return {"message": message, "type": kind, "param": param, "code": code}


def _response(status: int, context: RowContext, body: Mapping[str, Any] | str) -> dict[str, Any]:
    return {"status_code": status, "request_id": context.request_id, "body": body}


def _chat(body: Mapping[str, Any], fate: Fate, context: RowContext) -> tuple[dict[str, Any], Usage]:
    reply = reply_to(body, fate, context)
    prompt, output = reply.usage.input_tokens, reply.usage.output_tokens
    message: dict[str, Any] = {"role": "assistant", "content": reply.text, "refusal": None, "annotations": []}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish}
    return {
        "id": f"chatcmpl-{context.request_id[4:]}",
        "object": "chat.completion",
        "created": context.at,
        "model": body["model"],
        "choices": [choice],
        "usage": {
            "prompt_tokens": prompt,
            "completion_tokens": output,
            "total_tokens": prompt + output,
            "prompt_tokens_details": {"cached_tokens": reply.usage.cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": None,
    }, reply.usage


def _embeddings(body: Mapping[str, Any], fate: Fate, context: RowContext) -> tuple[dict[str, Any], Usage]:
    del fate  # an embedding is neither cut short nor unparseable
    given = body["input"]
    inputs = (
        given
        if _input_count(body) > 1 or (isinstance(given, list) and isinstance(given[0], str))
        else [given]
    )
    prompt = context.count_tokens(body)
    wanted = body.get("dimensions")
    size = wanted if isinstance(wanted, int) and wanted > 0 else _EMBEDDING_DIMENSIONS
    data = [
        {"object": "embedding", "index": index, "embedding": answers.vector(item, size)}
        for index, item in enumerate(inputs)
    ]
    return {
        "object": "list",
        "data": data,
        "model": body["model"],
        "usage": {"prompt_tokens": prompt, "total_tokens": prompt},
    }, Usage(prompt, 0, 0)
