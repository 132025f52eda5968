"""Anthropic's JSON, both ways. Pure: no I/O, no SDK.

Shapes: anthropic SDK 2.12.0 and the guides at platform.claude.com (copies of 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import orjson

from bulkrate.core.json_value import plain
from bulkrate.core.request import (
    Choice,
    DocumentPart,
    ImagePart,
    JsonSchema,
    Message,
    Output,
    Part,
    Request,
    has_hole,
)
from bulkrate.errors import JobError
from bulkrate.providers.anthropic.batches import suffix_of
from bulkrate.providers.anthropic.results import decode_line
from bulkrate.providers.anthropic.schema import checked_by_us, narrowed
from bulkrate.providers.claude import blocks_of, content_of, tool_of
from bulkrate.providers.labels import LABEL, label_schema
from bulkrate.providers.provider import Decoded, NeedsValues, Tag

EFFORTS = ("low", "medium", "high", "xhigh", "max")
NO_REASONING = "none"
# Least tokens that manual thinking may be given (SDK 2.12.0): a cap below leaves no room for an answer.
LEAST_THINKING = 1_024
# Gone since API version 2026-10-21: sent at any value, they are refused.
SAMPLING = ("temperature", "top_p")

# What a label's wrapper `{"label": "…"}` and the end of the turn take, in tokens.
_WRAPPER, _BARE = 16, 4


@dataclass(frozen=True, slots=True)
class Family:
    """How a model differs from others, from the dated facts."""

    thinks: bool = False  # unless told not to
    adaptive: bool = False  # thinks when asked to

    @classmethod
    def of(cls, model: str, models: Mapping[str, Any]) -> Family:
        """The family of a model by the prefixes of the facts file."""
        return cls(*(model.startswith(tuple(models[name])) for name in ("reasoning", "adaptive")))


@dataclass(frozen=True, slots=True)
class AnthropicWire:
    """Implements `bulkrate.providers.provider.Wire`."""

    family: Family = Family()

    def body(self, request: Request) -> dict[str, object]:
        if request.kind != "chat":
            raise JobError("Anthropic has no embeddings", hint="name another provider's model for this job")
        system, messages = _turns(request.messages)
        body = plain(
            {
                "model": request.model,
                "max_tokens": self._cap(request),
                "system": content_of(system) or None,
                "messages": messages,
                "tools": [tool_of(tool) for tool in request.tools] or None,
                "thinking": self._thinking(request),
                "output_config": plain({"effort": _effort(request), "format": _format(request.output)})
                or None,
                "stop_sequences": list(request.stop) or None,
            }
        )
        body.update(request.extra)
        return body

    def _cap(self, request: Request) -> int:
        cap = request.max_output_tokens
        if cap is None:
            why = ", and this model thinks before it answers" if self.family.thinks else ""
            raise JobError(
                f"Anthropic wants a cap on the answer's length{why}",
                hint="set `request.max_output_tokens`, 4096 for instance",
            )
        if cap <= LEAST_THINKING and self._asked_to_think(request):
            raise JobError(
                f"a cap of {cap} output tokens leaves no room for thinking",
                hint="raise `request.max_output_tokens`: thinking counts towards it",
            )
        return cap

    def _asked_to_think(self, request: Request) -> bool:
        asked = request.extra.get("thinking", self._thinking(request))
        if isinstance(asked, Mapping):
            return asked.get("type") != "disabled"
        return request.reasoning is not None and self.family.thinks

    def _thinking(self, request: Request) -> dict[str, object] | None:
        if request.reasoning is None:
            return None
        if request.reasoning == NO_REASONING:
            return {"type": "disabled"}
        return {"type": "adaptive"} if self.family.adaptive else None

    def native(self, raw: Mapping[str, object], model: str) -> dict[str, object]:
        return {"model": model, **raw}

    def dropped(self, request: Request) -> tuple[str, ...]:
        gone = []
        if request.seed is not None:
            gone.append("seed: Anthropic has none")
        given = [name for name in SAMPLING if getattr(request, name) is not None]
        gone += [f"{name}: Anthropic takes none any more" for name in given]
        if any(isinstance(part, ImagePart) and part.detail for part in _parts(request)):
            gone.append("detail of an image: Anthropic has none")
        if isinstance(request.output, JsonSchema):
            gone += [
                f"{rule} of the schema: not enforced, checked when the answer is here"
                for rule in checked_by_us(request.output.schema)
            ]
        return tuple(gone)

    def envelope(self, tag: Tag) -> tuple[bytes, bytes, bytes]:
        return b'{"custom_id":"', suffix_of(tag) + b'","params":', b"}\n"

    def with_cap(self, body: bytes, max_output_tokens: int) -> bytes:
        return orjson.dumps({**orjson.loads(body), "max_tokens": max_output_tokens})

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        return decode_line(line, label=LABEL if isinstance(output, Choice) else None)

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        if answer_tokens is None or self.family.thinks:
            return None
        # Doubled: a cap is a fence against runaways, and a truncated answer costs a whole resend.
        return 2 * answer_tokens + (_WRAPPER if isinstance(output, Choice) else _BARE)


def _turns(messages: tuple[Message, ...]) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The blocks of the system prompt, and the conversation.

    A system message in the middle stays where it is (SDK 2.12.0; models before Opus 4.8 refuse it).
    """
    leading = list(takewhile(lambda message: message.role == "system", messages))
    system = [block for message in leading for block in _blocks(message)]
    return system, [
        {"role": message.role, "content": content_of(_blocks(message)) or ""}
        for message in messages[len(leading) :]
    ]


def _blocks(message: Message) -> list[dict[str, object]]:
    if message.role not in ("system", "user", "assistant"):
        raise JobError(
            f"Anthropic has no role `{message.role}`",
            hint="results of tools are content blocks of a user's turn there",
        )
    if message.extra:
        raise JobError(f"Anthropic's messages have no `{next(iter(message.extra))}`", hint="leave it out")
    parts = message.content if isinstance(message.content, tuple) else ()
    if message.role == "assistant" and any(isinstance(part, DocumentPart) for part in parts):
        raise JobError("Anthropic takes documents in a user's turn only", hint="move it there")
    return blocks_of(message, _source)


def _parts(request: Request) -> list[Part]:
    contents = [message.content for message in request.messages]
    return [part for content in contents if isinstance(content, tuple) for part in content]


def _source(url: str, what: str) -> dict[str, object]:
    """An address, which the service fetches, or a `data:` URL taken apart."""
    if has_hole(url):
        raise NeedsValues
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    head, comma, data = url.removeprefix("data:").partition(",")
    media_type, *parameters = head.split(";")
    if not comma or "base64" not in parameters or not media_type:
        raise JobError(f"the data: URL of an {what} names no media type, or is not in base64")
    return {"type": "base64", "media_type": media_type, "data": data}


def _effort(request: Request) -> str | None:
    effort = request.reasoning
    if effort is None or effort == NO_REASONING:
        return None
    if effort not in EFFORTS:
        raise JobError(
            f"`reasoning: {effort}` is no effort of Anthropic's",
            hint=f"it has {', '.join(EFFORTS)}, and none",
        )
    return effort


def _format(output: Output) -> dict[str, object] | None:
    match output:
        case Choice(labels=labels):
            schema = label_schema(labels)
        case JsonSchema(schema=given):
            schema = narrowed(given)
        case _:
            return None
    return {"type": "json_schema", "schema": schema}
