"""Requests in Mistral's JSON, and their lines. Pure: no I/O, no SDK.

Shapes: mistralai 3.7.0 (`models/chatcompletionrequest.py` and its parts). A field that is not known fails its
row (422), so what a request may hold beside the job's own words is a list. The model is the batch's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from bulkrate.core.json_value import plain
from bulkrate.core.request import Choice, DocumentPart, Message, Output, Part, Request
from bulkrate.errors import JobError
from bulkrate.providers.labels import LABEL
from bulkrate.providers.mistral.results import decode_line
from bulkrate.providers.openai.parts import plain_part, response_format, tools_of
from bulkrate.providers.provider import Decoded, Tag

ENDPOINTS = {"chat": "/v1/chat/completions", "embed": "/v1/embeddings"}

CHAT_EXTRA = frozenset(
    {
        *("frequency_penalty", "guardrails", "logprobs", "metadata", "min_tokens", "parallel_tool_calls"),
        *("prediction", "presence_penalty", "prompt_cache_key", "prompt_logprobs", "prompt_mode"),
        *("repetition_penalty", "safe_prompt", "service_tier", "tool_choice", "top_k", "top_logprobs"),
        "top_prompt_logprobs",
    }
)
EMBED_EXTRA = frozenset({"encoding_format", "metadata", "output_dtype"})
# Fields of OpenAI's that change no answer: left out, and said.
DROPPED = ("user", "store", "safety_identifier", "prompt_cache_retention")
# What a turn may have beside its content.
TURN_EXTRA = {"assistant": frozenset({"tool_calls", "prefix"}), "tool": frozenset({"tool_call_id", "name"})}

_WRAPPER_TOKENS = {True: 12, False: 4}


@dataclass(frozen=True, slots=True)
class MistralWire:
    """Implements `bulkrate.providers.provider.Wire`."""

    model: str
    kind: str = "chat"
    reasons: bool = False

    def body(self, request: Request) -> dict[str, object]:
        if request.model != self.model:
            raise JobError(
                f"the row names model {request.model}, the batch {self.model}",
                code="not_carried",
                hint="a batch of Mistral's has one model; --model asks one for all rows",
            )
        if request.kind != self.kind:
            raise JobError(f"the batch is for {self.kind}, not for {request.kind}", code="not_carried")
        known = EMBED_EXTRA if self.kind == "embed" else CHAT_EXTRA
        extra = {name: value for name, value in request.extra.items() if name not in DROPPED}
        for name in extra:
            if name not in known:
                raise JobError(
                    f"request.extra.{name} is no field of a Mistral request",
                    code="not_carried",
                    hint=f"there are {', '.join(sorted(known))}",
                )
        if self.kind == "embed":
            inputs = {"input": list(request.inputs), "output_dimension": request.dimensions}
            return plain({**inputs, **extra})
        body = plain(
            {
                "messages": [_turn(message) for message in request.messages],
                "tools": tools_of(request.tools),
                "max_tokens": request.max_output_tokens,
                "temperature": request.temperature,
                "top_p": request.top_p,
                "random_seed": request.seed,
                "stop": list(request.stop) or None,
                "reasoning_effort": request.reasoning,
                "response_format": response_format(request.output),
            }
        )
        return body | extra

    def native(self, raw: Mapping[str, object], model: str) -> dict[str, object]:
        return dict(raw)

    def dropped(self, request: Request) -> tuple[str, ...]:
        return tuple(f"extra.{name}" for name in DROPPED if name in request.extra)

    def envelope(self, tag: Tag) -> tuple[bytes, bytes, bytes]:
        return b'{"custom_id":"', b'","body":', b"}\n"

    def with_cap(self, body: bytes, max_output_tokens: int) -> bytes:
        return orjson.dumps({**orjson.loads(body), "max_tokens": max_output_tokens})

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        return decode_line(line, label=LABEL if isinstance(output, Choice) else None)

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        if answer_tokens is None or self.reasons:
            return None
        # Twice the longest answer and what stands around it: a fence against runaways, no tight fit.
        return 2 * answer_tokens + _WRAPPER_TOKENS[isinstance(output, Choice)]


def _turn(message: Message) -> dict[str, object]:
    # OpenAI's newer word for the same; Mistral knows the older one.
    role = "system" if message.role == "developer" else message.role
    extra = plain(message.extra)
    for name in extra:
        if name not in TURN_EXTRA.get(role, frozenset()):
            raise JobError(f"`{name}` of a {role} message is no field of Mistral's", code="not_carried")
    content: object = message.content
    if isinstance(message.content, tuple):
        content = [_part(part) for part in message.content]
    return {"role": role, "content": content, **extra}


def _part(part: Part) -> dict[str, object]:
    match part:
        case DocumentPart(url=url, name=name):
            return plain({"type": "document_url", "document_url": url, "document_name": name})
        case _:
            return plain_part(part)
