"""Lines of an OpenAI batch file as neutral requests: what a dialect encodes again must mean the same.

What the neutral request has no word for goes into `extra` (of the request or the message) as it came, or
stays an opaque part, so nothing is lost. `max_tokens` and `max_completion_tokens` are one thing under two
names: servers differ in which one they know, so the dialect of the provider that is asked writes its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from bulkrate.core.request import (
    DocumentPart,
    FreeText,
    ImagePart,
    JsonSchema,
    Message,
    OpaquePart,
    Output,
    Part,
    Request,
    TextPart,
    Tool,
)

CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
RESPONSES = "/v1/responses"


def line_body(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body of a line. Raises ValueError when the line is not a request."""
    if row.get("method", "POST") != "POST":
        raise ValueError("method must be POST")
    if not isinstance(row.get("url"), str):
        raise ValueError("url is missing")
    body = row.get("body")
    if isinstance(body, str | bytes):  # a table keeps nested JSON as text
        try:
            body = orjson.loads(body)
        except orjson.JSONDecodeError:
            raise ValueError("body is not JSON") from None
    if not isinstance(body, Mapping):
        raise ValueError("body must be a JSON object")
    return body


def is_blank(message: Message) -> bool:
    """Whether a turn says nothing at all."""
    if message.content is None or isinstance(message.content, str):
        return not (message.content or "").strip() and not message.extra
    return all(isinstance(part, TextPart) and not part.text.strip() for part in message.content)


def parse_body(body: Mapping[str, Any], url: str, *, model: str | None = None) -> Request:
    """The neutral form of a request body. Raises ValueError with the reason when there is none."""
    rest = dict(body)
    if model is not None:
        rest["model"] = model
    match url:
        case "/v1/chat/completions":
            return _chat(rest)
        case "/v1/embeddings":
            return _embed(rest)
        case "/v1/responses":
            return _responses(rest)
        case _:
            raise ValueError(f"this url is not supported (supported: {CHAT}, {RESPONSES}, {EMBEDDINGS})")


def _chat(rest: dict[str, Any]) -> Request:
    if _take(rest, "stream", bool):
        raise ValueError("stream cannot be true in a batch")
    model = _model(rest)
    messages = rest.pop("messages", None)
    if not isinstance(messages, list | tuple) or not messages:
        raise ValueError("messages must be a list with at least one message")
    tools, output = _tools(rest), _output(rest)
    cap = _take(rest, "max_completion_tokens", int)
    if cap is None or rest.get("max_tokens") is None:  # both: the older name goes along as it came
        older = _take(rest, "max_tokens", int)
        cap = older if cap is None else cap
    if cap is not None and cap < 1:
        raise ValueError("the output cap must be at least 1")
    return Request(
        model=model,
        messages=tuple(_message(message, number) for number, message in enumerate(messages)),
        tools=tools,
        output=output,
        max_output_tokens=cap,
        temperature=_take(rest, "temperature", int, float),
        top_p=_take(rest, "top_p", int, float),
        seed=_take(rest, "seed", int),
        stop=_stop(rest),
        reasoning=_take(rest, "reasoning_effort", str),
        extra=rest,
    )


def _responses(rest: dict[str, Any]) -> Request:
    """A body that goes as it is: only OpenAI's own API takes it."""
    if _take(rest, "stream", bool):
        raise ValueError("stream cannot be true in a batch")
    model, cap = _model(rest), _take(rest, "max_output_tokens", int)
    if cap is not None and cap < 1:
        raise ValueError("the output cap must be at least 1")
    if not rest.get("input"):
        raise ValueError("input is missing")
    return Request(model=model, raw=rest, max_output_tokens=cap)


def _embed(rest: dict[str, Any]) -> Request:
    model = _model(rest)
    given = rest.pop("input", None)
    inputs = [given] if isinstance(given, str) else given
    if not isinstance(inputs, list | tuple) or not inputs:
        raise ValueError("input must be a text or a list of texts")
    if not all(isinstance(text, str) for text in inputs):
        raise ValueError("input must be texts; lists of token numbers are not supported")
    if not all(text for text in inputs):
        raise ValueError("input holds an empty text")
    return Request(
        model=model,
        kind="embed",
        inputs=tuple(inputs),
        dimensions=_take(rest, "dimensions", int),
        extra=rest,
    )


def _model(rest: dict[str, Any]) -> str:
    model = rest.pop("model", None)
    if not isinstance(model, str) or not model:
        raise ValueError("model is missing")
    return model


def _take(rest: dict[str, Any], name: str, *types: type) -> Any:
    """Take a field of one of the types; null is the same as absent."""
    value = rest.pop(name, None)
    # A boolean is an int to Python and to nobody else.
    wrong_type = not isinstance(value, types) or (isinstance(value, bool) and bool not in types)
    if value is not None and wrong_type:
        names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        raise ValueError(f"{name} must be {names[types[-1]]}")
    return value


def _stop(rest: dict[str, Any]) -> tuple[str, ...]:
    stop = rest.pop("stop", None)
    if stop is None:
        return ()
    texts = [stop] if isinstance(stop, str) else stop
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("stop must be a text or a list of texts")
    return tuple(texts)


def _tools(rest: dict[str, Any]) -> tuple[Tool, ...]:
    """All tools as functions, or none: then they stay in `rest` in the provider's own shape."""
    given = rest.get("tools")
    if given is None:
        rest.pop("tools", None)
        return ()
    if not isinstance(given, list | tuple) or not given:
        return ()
    tools: list[Tool] = []
    for tool in given:
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if (
            not isinstance(function, Mapping)
            or set(tool) != {"type", "function"}
            or tool["type"] != "function"
            or not set(function) <= {"name", "description", "parameters", "strict"}
            or not isinstance(function.get("name"), str)
            or not isinstance(function.get("parameters"), Mapping)
        ):
            return ()
        tools.append(
            Tool(
                function["name"],
                function.get("description"),
                dict(function["parameters"]),
                function.get("strict"),
            )
        )
    del rest["tools"]
    return tuple(tools)


def _output(rest: dict[str, Any]) -> Output:
    """A strict schema is ours to check; every other format stays in `rest`."""
    given = rest.get("response_format")
    if given is None:
        rest.pop("response_format", None)
        return FreeText()
    match given:
        # Without `strict` the provider promises nothing, and encoding it again would add the promise.
        case {
            "type": "json_schema",
            "json_schema": {"name": str(name), "schema": Mapping() as schema, "strict": True} as inner,
        } if len(given) == 2 and len(inner) == 3 and _is_schema(schema):
            del rest["response_format"]
            return JsonSchema(dict(schema), name)
    return FreeText()


def _is_schema(schema: Mapping[str, Any]) -> bool:
    from bulkrate.jobs.json_schema import check_json_schema

    try:
        check_json_schema(schema)
    except ValueError:
        return False  # the provider will say so; it is not ours to refuse
    return True


def _message(given: Any, number: int) -> Message:
    if not isinstance(given, Mapping):
        raise ValueError(f"messages[{number}] must be a JSON object")
    rest = dict(given)
    role, content = rest.pop("role", None), rest.pop("content", None)
    if not isinstance(role, str) or not role:
        raise ValueError(f"messages[{number}].role is missing")
    if content is None or isinstance(content, str):
        return Message(role, content, rest)
    if not isinstance(content, list | tuple):
        raise ValueError(f"messages[{number}].content must be a text or a list of parts")
    return Message(role, _parts(content, number), rest)


def _parts(content: Sequence[Any], number: int) -> tuple[Part, ...]:
    if not all(isinstance(part, Mapping) for part in content):
        raise ValueError(f"messages[{number}].content must hold JSON objects")
    return tuple(_part(part) for part in content)


def _part(part: Mapping[str, Any]) -> Part:
    match part:
        case {"type": "text", "text": str(text)} if len(part) == 2:
            return TextPart(text)
        case {"type": "image_url", "image_url": {"url": str(url), **more}} if len(part) == 2:
            detail = more.pop("detail", None)
            if not more and (detail is None or isinstance(detail, str)):
                return ImagePart(url, detail)
        case {"type": "file", "file": {"file_data": str(url), **more}} if len(part) == 2:
            name = more.pop("filename", None)
            if not more and url.startswith("data:") and (name is None or isinstance(name, str)):
                return DocumentPart(url, name)
    return OpaquePart(dict(part))
