"""Bedrock's request lines. Pure: no I/O, no SDK.

A line is `{"recordId", "modelInput"}`; what stands in it depends on the model, and on the job's invocation
type, which is one for the whole job (botocore 1.44.5, `ModelInvocationType`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

from bulkrate.core.request import Choice, ImagePart, JsonSchema, Output, Request
from bulkrate.providers.bedrock import claude, converse, titan
from bulkrate.providers.bedrock.models import Model, model_of
from bulkrate.providers.bedrock.results import decode_line
from bulkrate.providers.labels import LABEL
from bulkrate.providers.provider import Decoded, Tag


@dataclass(frozen=True, slots=True)
class Body:
    """One shape of request: who writes it, where its cap stands, and how a job of such records is invoked."""

    write: Callable[[Request, str], dict[str, object]]
    cap: tuple[str, ...]
    invocation: str = "InvokeModel"


BODIES = {
    "converse": Body(converse.body, converse.CAP, "Converse"),
    "claude": Body(claude.body, claude.CAP),
    "nova": Body(converse.nova_body, converse.CAP),
    "titan_embedding": Body(titan.body, ()),
}

# Tokens that stand around an answer of a given form: braces and a name, or a call with all its words.
_AROUND = {"native": 16, "tool": 64, "words": 8}


@dataclass(frozen=True)
class BedrockWire:
    """Implements `bulkrate.providers.provider.Wire`."""

    name: str

    @cached_property
    def model(self) -> Model:
        return model_of(self.name)

    def body(self, request: Request) -> dict[str, object]:
        return BODIES[self.model.body].write(request, self.model.structured)

    def native(self, raw: Mapping[str, object], model: str) -> dict[str, object]:
        return dict(raw)

    def dropped(self, request: Request) -> tuple[str, ...]:
        said = []
        if request.seed is not None:
            said.append("seed: Bedrock has none")
        parts = [part for m in request.messages if isinstance(m.content, tuple) for part in m.content]
        if any(isinstance(part, ImagePart) and part.detail for part in parts):
            said.append("an image's detail: Bedrock has none")
        if self.model.structured == "words" and isinstance(request.output, Choice | JsonSchema):
            said.append("the form of the answer is asked for in words, and checked here: nothing enforces it")
        return tuple(said)

    def envelope(self, tag: Tag) -> tuple[bytes, bytes, bytes]:
        return b'{"recordId":"', b'","modelInput":', b"}\n"

    def with_cap(self, body: bytes, max_output_tokens: int) -> bytes:
        fields: dict[str, Any] = orjson.loads(body)
        *path, name = BODIES[self.model.body].cap
        inner = fields
        for step in path:
            inner = inner.setdefault(step, {})
        inner[name] = max_output_tokens
        return orjson.dumps(fields)

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        label = LABEL if isinstance(output, Choice) and self.model.structured != "words" else None
        return decode_line(
            line,
            model=self.name,
            label=label,
            formed=isinstance(output, Choice | JsonSchema),
        )

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        if answer_tokens is None or self.model.reasons:
            return None
        # Doubled: a cap is a fence against runaways, and a truncated answer costs a whole resend.
        return 2 * answer_tokens + _AROUND[self.model.structured]


def invocation_type(model: str) -> str:
    """How a job of this model's records is invoked: `InvokeModel` or `Converse`."""
    return BODIES[model_of(model).body].invocation
