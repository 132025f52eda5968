"""The Gemini API's request and result lines: validation as strict as the service's, and its results.

Facts: google-genai 3.4.0 (types and batches) and the batch-api page, copy of 2026. UNVERIFIED: what the
service says to a line without a key or with a key that came before; which fields an error of a row has.
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

CHAT: Final = "batchGenerateContent"
EMBED: Final = "asyncBatchEmbedContent"

_DIMENSIONS: Final = 8
_CHAT_FIELDS: Final = frozenset(
    {
        *("model", "contents", "systemInstruction", "tools", "toolConfig", "safetySettings", "store"),
        *("cachedContent", "generationConfig", "serviceTier"),
    }
)
_CONFIG_FIELDS: Final = frozenset(
    {
        *("candidateCount", "maxOutputTokens", "temperature", "topP", "topK", "seed", "stopSequences"),
        *("presencePenalty", "frequencyPenalty", "responseLogprobs", "logprobs", "responseMimeType"),
        *("responseSchema", "responseJsonSchema", "responseModalities", "thinkingConfig"),
    }
)
_EMBED_FIELDS: Final = frozenset({"model", "content", "taskType", "title", "outputDimensionality"})
_SCHEMA_TYPES: Final = frozenset({"STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT"})
_UNRUN: Final = {Fate.EXPIRED: 4, Fate.CANCELLED: 1}


class GoogleCodec(JsonLines):
    """Reads batch input lines and writes the lines of the one responses file."""

    id_field = "key"

    def scan(
        self,
        lines: Iterable[bytes],
        *,
        endpoint: str,
        limits: Limits,
        models: Sequence[str] | None,
        count_tokens: TokenCounter,
    ) -> Scan:
        """Validate a whole input file; ``endpoint`` is the model and the method, as in the URL."""
        scan, seen = Scan(), set[str]()
        scan.model = endpoint.partition(":")[0].removeprefix("models/")
        for number, line in enumerate(lines, 1):
            found = _read(line, number)
            if isinstance(found, JobError):
                scan.errors.append(found)
                break
            key, request = found
            if key in seen:
                scan.errors.append(JobError("3", f"The key '{key}' is not unique.", number))
                break
            seen.add(key)
            body = neutral(request)
            refused = refusal(request, embedding=endpoint.endswith(EMBED)) is not None
            scan.add(key, body, count_tokens, refused=refused)
        if not scan.rows and not scan.errors:
            scan.errors.append(JobError("3", "The input file is empty."))
        if scan.rows > limits.max_requests:
            scan.errors.append(JobError("3", f"The batch has more than {limits.max_requests} requests."))
        return scan

    def result(self, line: bytes, fate: Fate, context: RowContext) -> tuple[bytes, Usage | None]:
        """One line of the responses file, and the row's usage if it was run."""
        given = orjson.loads(line)
        request: Mapping[str, Any] = given["request"]
        said: dict[str, Any]
        usage: Usage | None = None
        if fate in _UNRUN:
            said = {"error": {"code": _UNRUN[fate], "message": "The request was not run."}}
        elif fate in (Fate.REFUSED, Fate.REFUSED_IN_OUTPUT):
            error = _row_error(context.refusal_status, refusal(request, embedding="content" in request))
            # Both spellings are told of: an error, or a status, in the place of the response.
            said = {"error" if fate is Fate.REFUSED else "status": error}
        else:
            response, usage = respond(request, fate, context)
            said = {"response": {} if fate is Fate.EMPTY_BODY else response}
        written = {"key": given["key"], **said}
        return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE), usage


def neutral(request: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked, in the words that answers and counts are made from."""
    if "content" in request:
        return {"input": _texts(request["content"]), "dimensions": request.get("outputDimensionality")}
    config = request.get("generationConfig") or {}
    system, contents = request.get("systemInstruction"), request.get("contents") or []
    turns = [{"role": "system", "content": _texts(system)}] if system else []
    turns += [{"role": turn.get("role", "user"), "content": _texts(turn)} for turn in contents]
    body: dict[str, Any] = {"messages": turns}
    body |= {name: config[name] for name in ("temperature", "seed", "topP") if name in config}
    if "maxOutputTokens" in config:
        body["max_output_tokens"] = config["maxOutputTokens"]
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    if schema:
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": _lowered(schema)}}
    return body


def respond(request: Mapping[str, Any], fate: Fate, context: RowContext) -> tuple[dict[str, Any], Usage]:
    """The response to a request, and what it used."""
    body = neutral(request)
    prompt = context.count_tokens(body)
    if "content" in request:
        wanted = body["dimensions"]
        size = wanted if isinstance(wanted, int) and wanted > 0 else _DIMENSIONS
        values = answers.vector(body["input"], size)
        return {"embedding": {"values": values}, "tokenCount": str(prompt)}, Usage(prompt, 0, 0)
    reply = reply_to(body, fate, context)
    usage, finish = reply.usage, reply.finish.upper()
    parts: list[dict[str, Any]] = [{"text": "thinking aloud", "thought": True}, {"text": reply.text}]
    thoughts = usage.output_tokens // 4
    if reply.cut:
        # The trap: the thoughts have used up the cap, and nothing is said (seen live, 2026-08).
        parts, finish, thoughts = [], "MAX_TOKENS", usage.output_tokens
    response: dict[str, Any] = {
        "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": finish, "index": 0}],
        "modelVersion": "misbehaving",
        "responseId": context.request_id,
    }
    if context.show_usage:
        response["usageMetadata"] = {
            "promptTokenCount": prompt,
            **({"cachedContentTokenCount": usage.cached_tokens} if usage.cached_tokens else {}),
            "candidatesTokenCount": usage.output_tokens - thoughts,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": prompt + usage.output_tokens,
        }
    return response, usage


def refusal(request: Mapping[str, Any], *, embedding: bool) -> str | None:
    """Why the model's endpoint would turn this request away; ``None`` if it would not."""
    unknown = sorted(set(request) - (_EMBED_FIELDS if embedding else _CHAT_FIELDS))
    config = request.get("generationConfig") or {}
    unknown += sorted(set(config) - _CONFIG_FIELDS)
    if unknown:
        return f'Invalid JSON payload received. Unknown name "{unknown[0]}": Cannot find field.'
    turns = [request["content"]] if embedding else request.get("contents")
    if not turns or not all(turn.get("parts") for turn in turns):
        return "contents is not specified"
    if any(turn.get("role", "user") not in ("user", "model") for turn in turns):
        return "Please use a valid role: user, model."
    if config.get("maxOutputTokens", 1) < 1:
        return "max_output_tokens must be positive."
    if not 0 <= config.get("temperature", 0) <= 2:
        return "temperature must be in the range [0.0, 2.0]."
    schema = config.get("responseSchema")
    return None if schema is None else _schema_fault(schema)


def _schema_fault(schema: Mapping[str, Any]) -> str | None:
    """What a ``responseSchema`` is refused for: the form is not JSON Schema."""
    if "anyOf" in schema:
        return next(filter(None, map(_schema_fault, schema["anyOf"])), None)
    if schema.get("type") not in _SCHEMA_TYPES:
        return f"response_schema.type: unknown {schema.get('type')!r}"
    if schema["type"] == "OBJECT":
        if not schema.get("properties"):
            return "response_schema.properties: should be non-empty for OBJECT type"
        return next(filter(None, map(_schema_fault, schema["properties"].values())), None)
    if schema["type"] == "ARRAY":
        return _schema_fault(schema.get("items") or {})
    if not all(isinstance(value, str) and value for value in schema.get("enum", ())):
        return "response_schema.enum: cannot be empty"
    return None


def _read(line: bytes, number: int) -> tuple[str, Mapping[str, Any]] | JobError:
    try:
        given = orjson.loads(line)
    except orjson.JSONDecodeError:
        return JobError("3", f"Line {number} is not valid JSON.", number)
    if not isinstance(given, dict) or not isinstance(given.get("request"), dict):
        return JobError("3", f"Line {number} has no request.", number)
    if not isinstance(given.get("key"), str) or not given["key"]:
        return JobError("3", f"Line {number} has no key.", number)
    return given["key"], given["request"]


def _row_error(status: int, reason: str | None) -> dict[str, Any]:
    message = reason or ("Resource has been exhausted." if status == 429 else "The request failed.")
    code = {400: 3, 403: 7, 404: 5, 429: 8, 503: 14}.get(status, 3 if 400 <= status <= 499 else 13)
    return {"code": code, "message": message}


def _texts(turn: Any) -> str:
    parts = turn.get("parts", ()) if isinstance(turn, Mapping) else ()
    return "".join(part["text"] for part in parts if isinstance(part.get("text"), str))


def _lowered(schema: Any) -> Any:
    """Gemini's form as JSON Schema, for whoever makes an answer that suits it."""
    if isinstance(schema, list):
        return [_lowered(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    kept = {name: value for name, value in schema.items() if name not in ("nullable", "propertyOrdering")}
    lowered = {name: _lowered(value) for name, value in kept.items()}
    if isinstance(schema.get("type"), str):
        lowered["type"] = schema["type"].lower()
    return lowered
