"""Requests for `/v1/responses`. Pure: no I/O, no SDK.

Shapes: openai SDK 3.54.0 (`types/responses`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from bulkrate.core.json_value import mapping, plain
from bulkrate.core.request import (
    Choice,
    DocumentPart,
    ImagePart,
    Message,
    OpaquePart,
    Output,
    Part,
    Request,
    TextPart,
    has_hole,
)
from bulkrate.errors import JobError
from bulkrate.providers.labels import LABEL
from bulkrate.providers.openai.parts import response_format
from bulkrate.providers.openai.response_results import decode_line
from bulkrate.providers.openai.wire import OpenAIWire
from bulkrate.providers.provider import Decoded, NeedsValues

# UNVERIFIED: the service is said to refuse smaller caps. A fence that is a little wider does no harm.
LEAST_CAP = 16


@dataclass(frozen=True, slots=True)
class ResponsesWire(OpenAIWire):
    """OpenAI's wire for its Responses API: other words for the same, in the same lines."""

    kind: str = "responses"

    def body(self, request: Request) -> dict[str, object]:
        if request.stop:
            raise JobError(
                "request.stop: the Responses API has none", code="not_carried", hint="leave it out"
            )
        body = plain(
            {
                "model": request.model,
                "input": [_turn(message) for message in request.messages],
                "tools": [
                    {
                        "type": "function",
                        "name": tool.name,
                        "parameters": dict(tool.parameters),
                        "strict": bool(tool.strict),  # left out, it is true here and false in a chat
                        **plain({"description": tool.description}),
                    }
                    for tool in request.tools
                ]
                or None,
                "max_output_tokens": request.max_output_tokens,
                "temperature": request.temperature,
                "top_p": request.top_p,
                "reasoning": None if request.reasoning is None else {"effort": request.reasoning},
                "text": _text(request),
                # Unlike a chat completion, a response would stay with the service.
                "store": False,
            }
        )
        return body | {name: value for name, value in request.extra.items() if name != "text"}

    def dropped(self, request: Request) -> tuple[str, ...]:
        return () if request.seed is None else ("seed: the Responses API has none",)

    def with_cap(self, body: bytes, max_output_tokens: int) -> bytes:
        return orjson.dumps({**orjson.loads(body), "max_output_tokens": max_output_tokens})

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        return decode_line(line, label=LABEL if isinstance(output, Choice) else None)

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        cap = OpenAIWire.derived_cap(self, model, output, answer_tokens)
        return None if cap is None else max(cap, LEAST_CAP)


def _text(request: Request) -> dict[str, object] | None:
    """The form of the answer, in the words of a chat without the section around them, and what a job says
    beside it in `extra.text`."""
    form, beside = response_format(request.output), dict(mapping(request.extra.get("text")))
    if form is not None:
        beside["format"] = {"type": form["type"], **mapping(form["json_schema"])}
    return beside or None


def _turn(message: Message) -> dict[str, object]:
    if message.role not in ("system", "developer", "user", "assistant") or message.extra:
        what = next(iter(message.extra), message.role)
        raise JobError(
            f"a message with `{what}` has no place in the Responses API",
            code="not_carried",
            hint="calls of tools and their results are items of `input` there; `request.raw` can say them",
        )
    content: object = message.content or ""
    if isinstance(message.content, tuple):
        content = [_part(part) for part in message.content]
        if message.role == "assistant":
            content = _answered(message.content)
    return {"role": message.role, "content": content}


def _answered(parts: tuple[Part, ...]) -> str:
    """What the model is to have said: a text there, and nothing else."""
    texts = [part.text for part in parts if isinstance(part, TextPart)]
    if len(texts) < len(parts):
        raise JobError("a turn of the assistant is text in the Responses API", code="not_carried")
    return "".join(texts)


def _part(part: Part) -> Mapping[str, object]:
    match part:
        case TextPart(text=text):
            return {"type": "input_text", "text": text}
        case ImagePart(url=url, detail=detail):
            return {"type": "input_image", "image_url": url, "detail": detail or "auto"}
        case DocumentPart(url=url) if has_hole(url):
            raise NeedsValues
        case DocumentPart(url=url, name=name):
            where = "file_data" if url.startswith("data:") else "file_url"
            return plain({"type": "input_file", where: url, "filename": name})
        case OpaquePart(value=value):
            return dict(value)
