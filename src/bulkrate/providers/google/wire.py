"""Requests in Gemini's JSON, and their lines. Pure: no I/O, no SDK.

Shapes: google-genai 3.4.0 (`batches.py`, `types.py`) and the batch-api page of ai.google.dev, copy of 2026.
The model is no part of a line: it stands in the URL, so a batch has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from bulkrate.core.json_value import plain
from bulkrate.core.request import Choice, DocumentPart, ImagePart, JsonSchema, Output, Request
from bulkrate.errors import JobError
from bulkrate.providers.google.content import turns
from bulkrate.providers.google.results import decode_line
from bulkrate.providers.google.schema import native_schema
from bulkrate.providers.provider import Decoded, Tag

# What `request.extra` may name, beside what the job has words for. A field that is not known fails its row,
# and one in the wrong place (safety settings among the sampling parameters) is a mistake often made.
CHAT_EXTRA = frozenset(
    {"generationConfig", "safetySettings", "toolConfig", "cachedContent", "serviceTier", "store"}
)
EMBED_EXTRA = frozenset({"taskType", "title", "embedContentConfig"})
# What `generationConfig` may not name: whole answers, one a row, as the job bounds and shapes them.
_OURS = {
    "maxOutputTokens": "is set by `request.max_output_tokens`",
    "candidateCount": "would be paid and not read: one answer per row",
    "responseSchema": "is set by `request.output`",
    "responseJsonSchema": "is set by `request.output`",
    "safetySettings": "stands beside `generationConfig`, not in it",
}
# JSON around an answer, and the end of the turn.
_WRAPPER_TOKENS = 6


def model_path(model: str) -> str:
    """The model as a path: `models/…`, or the kind of model the user named."""
    return model if model.startswith(("models/", "tunedModels/")) else f"models/{model}"


def create_body(name: str, file_id: str | None) -> dict[str, object]:
    """What a create call says: the batch's display name, and the file of its lines."""
    return {"batch": {"displayName": name, "inputConfig": {"fileName": file_id}}}


@dataclass(frozen=True, slots=True)
class GoogleWire:
    """Implements `bulkrate.providers.provider.Wire`.

    `budgets` are the tokens of each reasoning effort, for a model that takes a budget instead of a level.
    """

    model: str
    kind: str = "chat"
    reasons: bool = False
    budgets: Mapping[str, int] = field(default_factory=dict)

    def body(self, request: Request) -> dict[str, object]:
        if model_path(request.model) != model_path(self.model):
            raise JobError(
                f"the row names model {request.model}, the batch {self.model}",
                code="not_carried",
                hint="a batch of Gemini's has one model; --model asks one for all rows",
            )
        if request.kind != self.kind:
            raise JobError(f"the batch is for {self.kind}, not for {request.kind}", code="not_carried")
        known = EMBED_EXTRA if self.kind == "embed" else CHAT_EXTRA
        for name in request.extra:
            if name not in known:
                raise JobError(
                    f"request.extra.{name} is no field of a Gemini request",
                    code="not_carried",
                    hint=f"there are {', '.join(sorted(known))}",
                )
        return self._embedding(request) if self.kind == "embed" else self._chat(request)

    def _embedding(self, request: Request) -> dict[str, object]:
        if len(request.inputs) != 1:
            raise JobError("Gemini embeds one text per request", code="not_carried", hint="one row per text")
        return plain(
            {
                "content": {"parts": [{"text": request.inputs[0]}]},
                "outputDimensionality": request.dimensions,
                **request.extra,
            }
        )

    def _chat(self, request: Request) -> dict[str, object]:
        extra = dict(request.extra)
        given = extra.pop("generationConfig", {})
        if not isinstance(given, Mapping):
            raise JobError("request.extra.generationConfig must hold fields", code="not_carried")
        for name, why in _OURS.items():
            if name in given:
                raise JobError(f"request.extra.generationConfig.{name} {why}", code="not_carried")
        config = plain(
            {
                "maxOutputTokens": request.max_output_tokens,
                "temperature": request.temperature,
                "topP": request.top_p,
                "seed": request.seed,
                "stopSequences": list(request.stop) or None,
                "thinkingConfig": self._thinking(request.reasoning),
                **_output(request.output),
                **given,
            }
        )
        return {
            **turns(request.messages),
            **_tools(request),
            **({"generationConfig": config} if config else {}),
            **extra,
        }

    def _thinking(self, effort: str | None) -> dict[str, object] | None:
        if effort is None:
            return None
        if effort.isdecimal():
            return {"thinkingBudget": int(effort)}
        if not self.budgets:
            return {"thinkingLevel": effort.upper()}
        budget = self.budgets.get(effort.lower())
        if budget is None:
            raise JobError(
                f"request.reasoning {effort}: {self.model} takes a number of tokens",
                code="not_carried",
                hint=f"or one of {', '.join(self.budgets)}",
            )
        return {"thinkingBudget": budget}

    def native(self, raw: Mapping[str, object], model: str) -> dict[str, object]:
        return dict(raw)

    def dropped(self, request: Request) -> tuple[str, ...]:
        said = []
        contents = [message.content for message in request.messages]
        parts = [part for content in contents if isinstance(content, tuple) for part in content]
        if any(isinstance(part, ImagePart) and part.detail for part in parts):
            said.append("`detail` of images")
        if any(isinstance(part, DocumentPart) and part.name for part in parts):
            said.append("`name` of documents")
        if any(tool.strict is not None for tool in request.tools):
            said.append("`strict` of tools")
        if isinstance(request.output, JsonSchema):
            native = native_schema(request.output.schema)
            if native is None:
                said.append(
                    "Gemini's own form of the JSON schema, which cannot say it; it goes as "
                    "responseJsonSchema, which batches were seen to answer badly (2026-08)"
                )
            elif native.left_out:
                said.append(f"{', '.join(native.left_out)} of the JSON schema: checked here, not promised")
        return tuple(said)

    def envelope(self, tag: Tag) -> tuple[bytes, bytes, bytes]:
        return b'{"key":"', b'","request":', b"}\n"

    def with_cap(self, body: bytes, max_output_tokens: int) -> bytes:
        fields = orjson.loads(body)
        fields.setdefault("generationConfig", {})["maxOutputTokens"] = max_output_tokens
        return orjson.dumps(fields)

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        return decode_line(line, quoted=isinstance(output, Choice))

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        # Thoughts count against the cap.
        return None if answer_tokens is None or self.reasons else 2 * answer_tokens + _WRAPPER_TOKENS


def _output(output: Output) -> dict[str, Any]:
    match output:
        case Choice(labels=labels):
            # As JSON rather than `text/x.enum`: the answer is the same label in quotation marks, and it is
            # schemas that are known to work in batches.
            schema: Any = {"type": "STRING", "format": "enum", "enum": list(labels)}
            return {"responseMimeType": "application/json", "responseSchema": schema}
        case JsonSchema(schema=wanted):
            native = native_schema(wanted)
            said = (
                {"responseJsonSchema": dict(wanted)} if native is None else {"responseSchema": native.schema}
            )
            return {"responseMimeType": "application/json", **said}
        case _:
            return {}


def _tools(request: Request) -> dict[str, Any]:
    if not request.tools:
        return {}
    functions = [
        plain(
            {
                "name": tool.name,
                "description": tool.description,
                "parametersJsonSchema": dict(tool.parameters) or None,
            }
        )
        for tool in request.tools
    ]
    return {"tools": [{"functionDeclarations": functions}]}
