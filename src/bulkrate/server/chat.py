"""What a `/v1/chat/completions` body asks of the engine, and how the answer is written.

Parameters that would change the answer and cannot be carried out are refused by name. A temperature that is
not given is 0 here (OpenAI: 1): the same request then has the same answer.

A choice among labels is asked for with `structured_outputs: {"choice": [...]}` (vLLM's name, docs 2026) or
with a `response_format` whose JSON schema is an enum of strings, alone or as the one required property of
an object. Either way the engine scores the labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from bulkrate.server.api_error import ApiError, invalid, missing, unsupported

if TYPE_CHECKING:
    from bulkrate.server.engine import EngineRequest

_READ = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "stream",
        "n",
        "response_format",
        "structured_outputs",
    }
)
# Bookkeeping of the caller: has no bearing on the answer.
_IGNORED = frozenset(
    {
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "prompt_cache_options",
        "parallel_tool_calls",
        "stream_options",
    }
)
# Fine when they ask for nothing, refused otherwise.
_EMPTY_VALUES: Mapping[str, tuple[Any, ...]] = {
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "logprobs": (None, False),
    "top_logprobs": (None, 0),
    "logit_bias": (None, {}),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "modalities": (None, ["text"]),
    "audio": (None,),
    "prediction": (None,),
    "reasoning_effort": (None, "none"),
    "verbosity": (None, "medium"),
    "web_search_options": (None,),
    "moderation": (None,),
}
_ROLES = frozenset({"system", "developer", "user", "assistant"})
_PLAIN_KEYWORDS = frozenset({"type", "enum", "title", "description", "$schema"})
_OBJECT_KEYWORDS = frozenset(
    {"type", "properties", "required", "additionalProperties", "title", "description", "$schema"}
)


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A chat completion, read. `form` says how a chosen label is written: None as it is, else a JSON
    string (`""`) or an object with this key."""

    model: str
    messages: tuple[Mapping[str, Any], ...]
    max_tokens: int | None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    choice: tuple[str, ...] = ()
    form: str | None = None
    calibrate: bool = True
    json_schema: Mapping[str, Any] | None = None

    def engine_request(self, request_id: str, priority: int) -> EngineRequest:
        """The same for the engine."""
        from bulkrate.server.engine import EngineRequest

        return EngineRequest(
            id=request_id,
            messages=self.messages,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            stop=self.stop,
            choice=self.choice,
            json_schema=self.json_schema,
            priority=priority,
        )


def read_chat(body: Mapping[str, Any]) -> ChatCall:
    """Read a body. Raises ApiError 400."""
    for name, value in body.items():
        if name in _READ or name in _IGNORED:
            continue
        if name not in _EMPTY_VALUES:
            raise ApiError(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
        if value not in _EMPTY_VALUES[name]:
            raise unsupported(name, "this server's engine cannot do it")
    if body.get("stream"):
        message = "This server does not stream: leave 'stream' out or set it to false."
        raise ApiError(400, message, code="unsupported_value", param="stream")
    if body.get("n") not in (None, 1):
        raise unsupported("n", "one answer per request")
    model = body.get("model")
    if not isinstance(model, str):
        raise missing("model") if model is None else invalid("model", "expected a string")
    labels, form, schema, calibrate = _output(body)
    top_p = _number(body, "top_p", 0.0, 1.0)
    return ChatCall(
        model=model,
        messages=_messages(body.get("messages")),
        max_tokens=_cap(body),
        temperature=_number(body, "temperature", 0.0, 2.0) or 0.0,
        top_p=1.0 if top_p is None else top_p,
        seed=_integer(body, "seed"),
        stop=_stop(body.get("stop")),
        choice=labels,
        form=form,
        calibrate=calibrate,
        json_schema=schema,
    )


def write_label(label: str, form: str | None) -> str:
    """A chosen label as the text of the answer."""
    if form is None:
        return label
    return orjson.dumps({form: label} if form else label).decode()


def choice_of_schema(schema: Mapping[str, Any]) -> tuple[tuple[str, ...], str] | None:
    """The labels and the form of a schema that is nothing but a choice among strings, else None."""
    if labels := _enum(schema):
        return labels, ""
    properties, required = schema.get("properties"), schema.get("required")
    if not set(schema) <= _OBJECT_KEYWORDS or schema.get("type") != "object":
        return None
    if not isinstance(properties, dict) or len(properties) != 1 or list(properties) != required:
        return None
    ((key, value),) = properties.items()
    labels = _enum(value) if isinstance(value, dict) else None
    return (labels, key) if labels and key else None


def _enum(schema: Mapping[str, Any]) -> tuple[str, ...] | None:
    values = schema.get("enum")
    if not set(schema) <= _PLAIN_KEYWORDS or schema.get("type", "string") != "string":
        return None
    if not isinstance(values, list) or not values or not all(isinstance(label, str) for label in values):
        return None
    return tuple(values) if all(values) and len(set(values)) == len(values) else None


_Output = tuple[tuple[str, ...], str | None, Mapping[str, Any] | None, bool]


def _output(body: Mapping[str, Any]) -> _Output:
    structured, response_format = body.get("structured_outputs"), body.get("response_format")
    calibrate = True
    if structured is not None:
        labels, schema, calibrate = _structured(structured)
        if labels:
            return labels, None, None, calibrate
        if schema is not None:
            return _schema_output(schema, calibrate)
    if response_format is None:
        return (), None, None, calibrate
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return (), None, None, calibrate
    if kind == "json_object":
        return (), None, {"type": "object"}, calibrate
    if kind == "json_schema":
        named = response_format.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
        if not isinstance(schema, dict):
            raise missing("response_format.json_schema.schema")
        return _schema_output(schema, calibrate)
    raise invalid("response_format", "expected type 'text', 'json_object' or 'json_schema'")


def _schema_output(schema: Mapping[str, Any], calibrate: bool) -> _Output:
    choice = choice_of_schema(schema)
    if choice is not None:
        return choice[0], choice[1], None, calibrate
    return (), None, schema, calibrate


def _structured(value: Any) -> tuple[tuple[str, ...], Mapping[str, Any] | None, bool]:
    name = "structured_outputs"
    if not isinstance(value, dict):
        raise invalid(name, "expected an object")
    if unknown := set(value) - {"choice", "json", "calibration"}:
        raise unsupported(f"{name}.{min(unknown)}", "use 'choice' or 'json'")
    if value.get("calibration") not in (None, "batch", "none"):
        raise invalid(f"{name}.calibration", "expected 'batch' or 'none'")
    calibrate = value.get("calibration") != "none"
    if "choice" in value:
        labels = _enum({"enum": value["choice"]})
        if labels is None:
            raise invalid(f"{name}.choice", "expected a list of different, non-empty strings")
        return labels, None, calibrate
    schema = value.get("json")
    if schema is not None and not isinstance(schema, dict):
        raise invalid(f"{name}.json", "expected a JSON schema as an object")
    return (), schema, calibrate


def _messages(value: Any) -> tuple[Mapping[str, Any], ...]:
    if value is None:
        raise missing("messages")
    if not isinstance(value, list) or not value:
        raise invalid("messages", "expected a list of at least one message")
    return tuple(_message(message, f"messages[{number}]") for number, message in enumerate(value))


def _message(message: Any, where: str) -> dict[str, Any]:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in _ROLES:
        raise invalid(f"{where}.role", f"expected one of {', '.join(sorted(_ROLES))}")
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or part.get("type") != "text":
                raise invalid(
                    f"{where}.content", "this engine reads text parts only", code="unsupported_value"
                )
            if not isinstance(part.get("text"), str):
                raise invalid(f"{where}.content", "expected 'text' in every text part")
        content = "".join(part["text"] for part in content)
    if not isinstance(content, str):
        raise invalid(f"{where}.content", "expected a string or a list of text parts")
    return {"role": "system" if role == "developer" else role, "content": content}


def _cap(body: Mapping[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        cap = _integer(body, name)
        if cap is not None:
            if cap < 1:
                raise invalid(name, "expected at least 1")
            return cap
    return None


def _integer(body: Mapping[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise invalid(name, "expected an integer", code="invalid_type")
    return value


def _number(body: Mapping[str, Any], name: str, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise invalid(name, f"expected a number from {low:g} to {high:g}")
    return float(value)


def _stop(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(stop, str) for stop in stops):
        raise invalid("stop", "expected a string or up to four")
    return tuple(stops)
