"""Bedrock's input and output lines: what validation looks at, and answers in the shape of each invocation.

Facts: botocore 1.44.5 (bedrock-runtime) and the user guide's pages on batch inference, copies of 2026. The
validation of a job looks at the lines only; whether a model takes a ``modelInput`` shows when it is run.
UNVERIFIED: the words of a failed validation, and what is told of records that had no turn (here: nothing).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from bulkrate.testing import answers
from bulkrate.testing.answers import TokenCounter
from bulkrate.testing.faults import Fate
from bulkrate.testing.records import JobError, JsonLines, Limits, RowContext, Scan, Usage
from bulkrate.testing.replies import Reply, reply_to

CONVERSE: Final = "Converse"
_UNRUN: Final = frozenset({Fate.EXPIRED, Fate.CANCELLED})
_DIMENSIONS: Final = 8
_CONVERSE_FIELDS: Final = frozenset(
    {
        *("messages", "system", "inferenceConfig", "additionalModelRequestFields", "outputConfig"),
        *("guardrailConfig", "performanceConfig", "serviceTier", "toolConfig", "requestMetadata"),
    }
)
_CLAUDE_FIELDS: Final = frozenset(
    {
        *("anthropic_version", "anthropic_beta", "max_tokens", "messages", "system", "temperature", "top_p"),
        *("top_k", "tools", "tool_choice", "stop_sequences", "thinking", "output_config", "metadata"),
    }
)
_NOVA_FIELDS: Final = frozenset({"schemaVersion", "messages", "system", "inferenceConfig", "toolConfig"})


class BedrockCodec(JsonLines):
    """Reads a job's input lines and writes the lines of its output file."""

    id_field = "recordId"

    def scan(
        self,
        lines: Iterable[bytes],
        *,
        endpoint: str,
        limits: Limits,
        models: Sequence[str] | None,
        count_tokens: TokenCounter,
    ) -> Scan:
        """Validate a whole input file; ``endpoint`` is the invocation type and the model."""
        scan, number = Scan(), 0
        invocation, _, scan.model = endpoint.partition(" ")
        for number, line in enumerate(lines, 1):
            record = _read(line)
            if record is None:
                message = f"Line {number} of the input is not a JSON object with recordId and modelInput."
                scan.errors.append(JobError("", message, number))
                break
            body = neutral(record["modelInput"])
            refused = refusal(record["modelInput"], invocation) is not None
            scan.add(str(record["recordId"]), body, count_tokens, refused=refused)
        if not scan.errors and scan.rows < limits.min_requests:
            least = limits.min_requests
            message = f"The job has fewer records ({scan.rows}) than the required minimum of {least}."
            scan.errors.append(JobError("", message))
        if scan.rows > limits.max_requests:
            message = f"The job has more records than the maximum of {limits.max_requests}."
            scan.errors.append(JobError("", message))
        if models is not None and scan.model not in models:
            scan.errors.append(JobError("", f"The model {scan.model} cannot be invoked in a batch."))
        return scan

    def result(self, line: bytes, fate: Fate, context: RowContext) -> tuple[bytes, Usage | None]:
        """One line of the output file, and the record's usage if it was run."""
        if fate in _UNRUN:
            return b"", None
        record = orjson.loads(line)
        given: Mapping[str, Any] = record["modelInput"]
        usage: Usage | None = None
        if fate in (Fate.REFUSED, Fate.REFUSED_IN_OUTPUT):
            message = _refused(given) or "The model could not process this record."
            said = {"error": {"errorCode": context.refusal_status, "errorMessage": message}}
        else:
            answer, usage = respond(given, fate, context)
            said = {"modelOutput": {} if fate is Fate.EMPTY_BODY else answer}
        written = {"modelInput": given, **said, "recordId": record["recordId"]}
        return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE), usage


def neutral(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked, in the words that answers and counts are made from."""
    if "inputText" in given:
        return {"input": given["inputText"], "dimensions": given.get("dimensions")}
    config = given.get("inferenceConfig") or given
    system = _texts(given.get("system"))
    turns = [{"role": "system", "content": system}] if system else []
    turns += [
        {"role": turn.get("role", "user"), "content": _texts(turn.get("content"))}
        for turn in given.get("messages") or []
    ]
    body: dict[str, Any] = {"messages": turns}
    body |= {name: config[name] for name in ("temperature", "topP", "top_p") if name in config}
    cap = config.get("maxTokens", given.get("max_tokens"))
    if cap is not None:
        body["max_output_tokens"] = cap
    schema = _schema(given)
    if schema:
        body["response_format"] = {"type": "json_schema", "json_schema": {"schema": schema}}
    return body


def respond(given: Mapping[str, Any], fate: Fate, context: RowContext) -> tuple[dict[str, Any], Usage]:
    """The model's answer, and what it used."""
    body = neutral(given)
    prompt = context.count_tokens(body)
    if "inputText" in given:
        size = body["dimensions"] if isinstance(body["dimensions"], int) else _DIMENSIONS
        return {"embedding": answers.vector(body["input"], size), "inputTextTokenCount": prompt}, Usage(
            prompt
        )
    reply = reply_to(body, fate, context)
    make = _claude if "anthropic_version" in given else _converse
    made = make(given, reply)
    if not context.show_usage:
        del made["usage"]
    return made, reply.usage


def _converse(given: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    content: list[dict[str, Any]] = [{"text": reply.text}]
    forced = ((given.get("toolConfig") or {}).get("toolChoice") or {}).get("tool")
    if forced and not reply.cut and (called := _object(reply.text)) is not None:
        content = [{"toolUse": {"toolUseId": "tooluse_1", "name": forced["name"], "input": called}}]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": "max_tokens" if reply.cut else "end_turn",
        # What was read from the cache is beside the input tokens.
        "usage": {
            "inputTokens": usage.input_tokens - usage.cached_tokens,
            "outputTokens": usage.output_tokens,
            "totalTokens": usage.input_tokens + usage.output_tokens,
            "cacheReadInputTokens": usage.cached_tokens,
            "cacheWriteInputTokens": 0,
        },
        "metrics": {"latencyMs": 1},
    }


def _claude(given: Mapping[str, Any], reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    content: list[dict[str, Any]] = [{"type": "text", "text": reply.text}]
    forced = given.get("tool_choice") or {}
    if forced.get("type") == "tool" and not reply.cut and (called := _object(reply.text)) is not None:
        content = [{"type": "tool_use", "id": "toolu_1", "name": forced["name"], "input": called}]
    return {
        "id": "msg_bdrk_1",
        "type": "message",
        "role": "assistant",
        "model": "misbehaving",
        "content": content,
        "stop_reason": "max_tokens"
        if reply.cut
        else "tool_use"
        if content[0]["type"] == "tool_use"
        else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": usage.input_tokens - usage.cached_tokens,
            "cache_read_input_tokens": usage.cached_tokens,
            "cache_creation_input_tokens": 0,
            "output_tokens": usage.output_tokens,
        },
    }


def refusal(given: Mapping[str, Any], invocation: str) -> str | None:
    """Why the model's endpoint would turn this input away; ``None`` if it would not."""
    if invocation == CONVERSE and "toolConfig" in given:
        return "Tool calling is not supported for batch inference with the Converse invocation type."
    return _refused(given)


def _refused(given: Mapping[str, Any]) -> str | None:
    if "inputText" in given:
        return None if given["inputText"] else "Malformed input request: inputText is empty."
    known = (
        _CLAUDE_FIELDS
        if "anthropic_version" in given
        else _NOVA_FIELDS
        if "schemaVersion" in given
        else _CONVERSE_FIELDS
    )
    if unknown := sorted(set(given) - known):  # seen with a modelId in the input (2026-06)
        return f"{unknown[0]}: Extra inputs are not permitted"
    turns = given.get("messages")
    if not turns or turns[0].get("role") != "user" or not all(turn.get("content") for turn in turns):
        return "A conversation must start with a user message, and no message may be empty."
    if "anthropic_version" in given and "max_tokens" not in given:
        return "max_tokens: Field required"
    config = given.get("inferenceConfig") or given
    cap = config.get("maxTokens", given.get("max_tokens", 1))
    if not isinstance(cap, int) or cap < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    if not 0 <= config.get("temperature", 0) <= 1:
        return "temperature: Input should be less than or equal to 1"
    return None


def _read(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("modelInput"), dict):
        return None
    identified = isinstance(record.get("recordId"), str) and record["recordId"].isalnum()
    return record if identified else None


def _texts(content: Any) -> str:
    """The texts of a message, or of the system prompt, in either shape."""
    if isinstance(content, str):
        return content
    return "\n".join(str(block["text"]) for block in content or () if "text" in block)


def _schema(given: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that the answer is held to: by the output's format, or by a tool that must be called."""
    native = (given.get("output_config") or {}).get("format") or {}
    converse = (given.get("outputConfig") or {}).get("textFormat") or {}
    if converse:
        found = orjson.loads(converse["structure"]["jsonSchema"]["schema"])
    elif native:
        found = native["schema"]
    elif (given.get("tool_choice") or {}).get("type") == "tool":
        found = given["tools"][0]["input_schema"]
    elif (config := given.get("toolConfig") or {}).get("toolChoice"):
        found = config["tools"][0]["toolSpec"]["inputSchema"]["json"]
    else:
        found = None
    return found if isinstance(found, dict) else None


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
