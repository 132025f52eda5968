"""The shape of a result line, read twice: typed and fast, or leniently and field by field."""

from __future__ import annotations

from typing import Any

import msgspec

from bulkrate.core.json_value import json_of, text_of
from bulkrate.core.usage import MOST_TOKENS


class InputDetails(msgspec.Struct, gc=False):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None


class OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: int | None = None


class UsageCounts(msgspec.Struct, gc=False):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    # What the request cost: not from OpenAI, but from some that speak like it.
    cost: Any = None
    cost_in_usd_ticks: Any = None


class Message(msgspec.Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    tool_calls: Any = None
    function_call: Any = None


class Choice(msgspec.Struct, gc=False):
    message: Message | None = None
    finish_reason: str | None = None


class Error(msgspec.Struct, gc=False):
    message: str | None = None
    code: str | int | None = None
    type: str | None = None


class Body(msgspec.Struct, gc=False):
    model: str | None = None
    choices: list[Choice] | None = None
    data: msgspec.Raw = msgspec.Raw()
    usage: UsageCounts | None = None
    error: Error | str | None = None


class Response(msgspec.Struct, gc=False):
    status_code: int | None = None
    body: Body | str | None = None


class Line(msgspec.Struct, gc=False):
    custom_id: str
    response: Response | None = None
    error: Error | str | None = None


typed = msgspec.json.Decoder(Line).decode


def lenient(fields: Any) -> Line | None:
    """A JSON value as a line, every field that has another type than it should have left out.

    None when it is not an object with a text for a custom_id.
    """
    if not isinstance(fields, dict) or not isinstance(fields.get("custom_id"), str):
        return None
    response = fields.get("response")
    return Line(
        custom_id=fields["custom_id"],
        response=_response(response) if isinstance(response, dict) else None,
        error=_error(fields.get("error")),
    )


def _response(fields: dict[str, Any]) -> Response:
    body = fields.get("body")
    return Response(
        status_code=_status(fields.get("status_code")),
        body=_body(body) if isinstance(body, dict) else text_of(body),
    )


def _body(fields: dict[str, Any]) -> Body:
    choices, usage, data = fields.get("choices"), fields.get("usage"), fields.get("data")
    return Body(
        model=text_of(fields.get("model")),
        choices=[_choice(choice) for choice in choices] if isinstance(choices, list) else None,
        data=msgspec.Raw((json_of(data) or "").encode()) if isinstance(data, list) else msgspec.Raw(),
        usage=_usage(usage) if isinstance(usage, dict) else None,
        error=_error(fields.get("error")),
    )


def _choice(fields: Any) -> Choice:
    if not isinstance(fields, dict):
        return Choice()
    message = fields.get("message")
    return Choice(
        message=_message(message) if isinstance(message, dict) else None,
        finish_reason=text_of(fields.get("finish_reason")),
    )


def _message(fields: dict[str, Any]) -> Message:
    return Message(
        content=_content(fields.get("content")),
        refusal=text_of(fields.get("refusal")),
        tool_calls=fields.get("tool_calls"),
        function_call=fields.get("function_call"),
    )


def _content(value: Any) -> str | None:
    """Text, or the texts of content parts, which some servers answer with."""
    if not isinstance(value, list):
        return text_of(value)
    texts = [text_of(part.get("text")) for part in value if isinstance(part, dict)]
    return "".join(text for text in texts if text is not None) if any(texts) else None


def _usage(fields: dict[str, Any]) -> UsageCounts:
    given, made = fields.get("prompt_tokens_details"), fields.get("completion_tokens_details")
    return UsageCounts(
        prompt_tokens=_tokens(fields.get("prompt_tokens")),
        completion_tokens=_tokens(fields.get("completion_tokens")),
        prompt_tokens_details=InputDetails(
            _tokens(given.get("cached_tokens")), _tokens(given.get("cache_write_tokens"))
        )
        if isinstance(given, dict)
        else None,
        completion_tokens_details=OutputDetails(_tokens(made.get("reasoning_tokens")))
        if isinstance(made, dict)
        else None,
        cost=fields.get("cost"),
        cost_in_usd_ticks=fields.get("cost_in_usd_ticks"),
    )


def _error(value: Any) -> Error | str | None:
    if not isinstance(value, dict):
        return text_of(value)
    code = value.get("code")
    return Error(
        message=text_of(value.get("message")),
        code=text_of(code) if isinstance(code, str) else _number(code),
        type=text_of(value.get("type")),
    )


def _status(value: Any) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, float) and 0 <= value < 1_000:
        return int(value)
    return _number(value)


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _tokens(value: Any) -> int | None:
    return _number(int(value) if isinstance(value, float) and 0 <= value <= MOST_TOKENS else value)
