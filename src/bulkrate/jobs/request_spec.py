"""The `request` section of a job: what is asked about each row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    model_validator,
)

from bulkrate.core.request import Choice, Embedding, FreeText, JsonSchema, Output, Tool
from bulkrate.jobs.fields import Labels, Model, Number, Strings, Whole, wrong
from bulkrate.jobs.json_schema import check_json_schema

_FROZEN = ConfigDict(extra="forbid", frozen=True)

# Names in `extra` that would break what the pipeline counts on: one answer a row, whole answers.
_RESERVED_EXTRA = {
    "model": "is set by `request.model`",
    "messages": "is made from the prompt",
    "input": "is made from `embed`",
    "stream": "cannot be used in a batch",
    "n": "would be paid and not read: one answer per row",
    "max_tokens": "is set by `request.max_output_tokens`",
    "max_completion_tokens": "is set by `request.max_output_tokens`",
    "response_format": "is set by `request.output`",
    "reasoning_effort": "is set by `request.reasoning`",
}


_WITH_EMBED = frozenset({"model", "embed", "dimensions", "extra"})
_WITH_RAW = frozenset({"model", "api", "raw", "output", "max_output_tokens"})
_RESERVED_RAW = {name: _RESERVED_EXTRA[name] for name in ("model", "stream", "n")}


class PartSpec(BaseModel):
    """One part of a message: exactly one of `text`, `image` and `document`."""

    model_config = _FROZEN

    text: Annotated[str | None, Field(description="A piece of text; a template.")] = None
    image: Annotated[
        str | None, Field(description="An image by `https:` or `data:` URL, or by path; a template.")
    ] = None
    document: Annotated[
        str | None,
        Field(description="A document, such as a PDF, by `https:` or `data:` URL, or by path; a template."),
    ] = None
    detail: Annotated[
        str | None, Field(description="With `image`: how closely to look, in the provider's own word.")
    ] = None
    name: Annotated[str | None, Field(description="With `document`: its file name.")] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [field for field in ("text", "image", "document") if getattr(self, field) is not None]
        if len(given) != 1:
            raise wrong("needs exactly one of `text`, `image`, `document`")
        if self.detail is not None and self.image is None:
            raise wrong("goes with `image` only", at="detail")
        if self.name is not None and self.document is None:
            raise wrong("goes with `document` only", at="name")
        return self


class MessageSpec(BaseModel):
    """One turn of a chat."""

    model_config = _FROZEN

    role: Annotated[
        Literal["system", "user", "assistant"], Field(description="Who speaks: system, user or assistant.")
    ]
    content: Annotated[
        Annotated[str, Tag("one_text")] | Annotated[tuple[PartSpec, ...], Tag("list_of_parts")],
        Discriminator(lambda value: "list_of_parts" if isinstance(value, list | tuple) else "one_text"),
        Field(description="A template, or a list of parts."),
    ]

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.content:
            raise wrong("is empty", at="content")
        return self


class ToolSpec(BaseModel):
    """A function the model may call."""

    model_config = _FROZEN

    name: Annotated[str, Field(min_length=1, description="The function's name.")]
    description: Annotated[str | None, Field(description="What it does, for the model.")] = None
    parameters: Annotated[dict[str, Any], Field(description="JSON Schema of its arguments.")] = {}
    strict: Annotated[
        bool | None, Field(strict=True, description="Whether arguments must follow the schema exactly.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _function_itself(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "function" in value:
            raise wrong("must be the function itself, without `type` around it")
        return value


def _mapping_or_path(value: Any) -> Any:
    if not isinstance(value, Mapping | str) or not value:
        raise wrong("must be a JSON Schema, or the path of a file that holds one")
    return value


class OutputSpec(BaseModel):
    """What an answer must look like: exactly one of `choice` and `json_schema`."""

    model_config = _FROZEN

    choice: Annotated[
        Labels | None, Field(description="The answer is exactly one of these labels (at least two).")
    ] = None
    json_schema: Annotated[
        dict[str, Any] | str | None,
        BeforeValidator(_mapping_or_path),
        Field(
            description="The answer is JSON that satisfies this JSON Schema, written here or in a file "
            "(a path relative to the job file)."
        ),
    ] = None
    _document: dict[str, Any] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.choice is None) == (self.json_schema is None):
            raise wrong("needs exactly one of `choice` and `json_schema`")
        if isinstance(self.json_schema, dict):
            try:
                check_json_schema(self.json_schema)
            except ValueError as error:
                raise wrong(str(error), at="json_schema") from None
        return self

    def read(self, base: Path) -> None:
        """Read a schema that lies in a file. Raises ValueError when it cannot be used."""
        if not isinstance(self.json_schema, str) or self._document is not None:
            return
        try:
            document = orjson.loads((base / self.json_schema).read_bytes())
        except OSError as error:
            raise ValueError(f"cannot read {self.json_schema}: {error.strerror or error}") from None
        except orjson.JSONDecodeError as error:
            where = f"{self.json_schema}:{error.lineno}"
            raise ValueError(f"{where} is not JSON: {error.msg}") from None
        if not isinstance(document, dict):
            raise ValueError(f"{self.json_schema} must hold a JSON object")
        try:
            check_json_schema(document)
        except ValueError as error:
            raise ValueError(f"{self.json_schema} {error}") from None
        self._document = document

    @property
    def document(self) -> dict[str, Any] | None:
        """The JSON Schema itself, wherever it was written."""
        if isinstance(self.json_schema, str):
            if self._document is None:
                raise ValueError("the schema's file has not been read")
            return self._document
        return self.json_schema


def _or_text(schema: dict[str, Any]) -> None:
    schema["anyOf"].insert(0, {"const": "text"})


def _named_output(value: Any) -> Any:
    if value == "text":
        return None
    if value is not None and not isinstance(value, Mapping | OutputSpec):
        raise wrong("must be `text`, or a section with `choice` or `json_schema`")
    return value


class RequestSpec(BaseModel):
    """What is asked about each row: exactly one of `prompt`, `messages`, `embed` and `raw`."""

    model_config = _FROZEN

    model: Annotated[Model, Field(description="Who answers: `provider/model`, such as `openai/gpt-5-mini`.")]
    api: Annotated[
        Literal["chat", "responses"] | None,
        Field(
            description="By which of the provider's APIs a chat is asked, where it has two: `chat` (the "
            "default), or OpenAI's `responses`."
        ),
    ] = None
    system: Annotated[
        str | None,
        Field(
            min_length=1,
            description="The system prompt; a template. Kept equal for all rows, providers can serve it from "
            "their cache.",
        ),
    ] = None
    prompt: Annotated[
        str | None,
        Field(
            min_length=1,
            description="The user's message; a Jinja template in which a column stands by its name: "
            "`{{ body }}`. A value that is missing or null is an error of that row, "
            "unless the template says otherwise: `{{ body | default('none') }}`.",
        ),
    ] = None
    messages: Annotated[
        tuple[MessageSpec, ...] | None,
        Field(description="The whole chat, instead of `prompt`: a list of turns, each a template."),
    ] = None
    embed: Annotated[
        str | None,
        Field(
            min_length=1,
            description="The text to embed, instead of a chat; a template. The answer is its vector: a list "
            "of numbers, in Parquet of a fixed size. Only `model`, `dimensions` and `extra` go with it.",
        ),
    ] = None
    dimensions: Annotated[
        Whole | None,
        Field(ge=1, description="With `embed`: how many numbers a vector has, where the model lets one say."),
    ] = None
    raw: Annotated[
        dict[str, Any] | None,
        Field(
            min_length=1,
            description="The whole body in the provider's own words, instead of a chat, without the model; "
            "every text in it is a template. `model`, `api`, `output.json_schema` and `max_output_tokens` go "
            "with it; the last is written into it. Nothing else in it is checked before it is sent.",
        ),
    ] = None
    output: Annotated[
        OutputSpec | None,
        BeforeValidator(_named_output),
        Field(
            description="What an answer must look like: `text` (the default), `choice` or `json_schema`.",
            json_schema_extra=_or_text,
        ),
    ] = None
    max_output_tokens: Annotated[
        Whole | None,
        Field(
            ge=1,
            description="The most tokens an answer may have. Derived where `choice` or the schema bounds it; "
            "without any bound the cost cannot be limited beforehand.",
        ),
    ] = None
    temperature: Annotated[Number | None, Field(ge=0, description="Sampling temperature.")] = None
    top_p: Annotated[Number | None, Field(gt=0, le=1, description="Nucleus sampling: the share kept.")] = None
    seed: Annotated[Whole | None, Field(description="Sampling seed, where the provider has one.")] = None
    stop: Annotated[
        Strings | None, Field(description="A text, or a list of texts, at which the answer ends.")
    ] = None
    reasoning: Annotated[
        str | None,
        Field(
            min_length=1,
            description="Reasoning effort: `minimal`, `low`, `medium`, `high`, or the provider's word.",
        ),
    ] = None
    tools: Annotated[tuple[ToolSpec, ...] | None, Field(description="Functions the model may call.")] = None
    files: Annotated[
        str | None,
        Field(
            min_length=1,
            description="The folder in which an `image` or `document` that is named by path lies, and out of "
            "which no row can lead. Default: the job file's.",
        ),
    ] = None
    extra: Annotated[
        dict[str, Any],
        Field(description="Further fields of the provider's own API, passed through as they are."),
    ] = {}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.embed is not None:
            for name in type(self).model_fields:
                if name not in _WITH_EMBED and getattr(self, name) is not None:
                    raise wrong("cannot stand beside `embed`", at=name)
        elif self.dimensions is not None:
            raise wrong("goes with `embed` only", at="dimensions")
        elif self.raw is not None:
            self._check_raw(self.raw)
        elif self.prompt is None and self.messages is None:
            raise wrong("needs `prompt`, `messages`, `embed` or `raw`")
        if self.prompt is not None and self.messages is not None:
            raise wrong("cannot stand beside `prompt`", at="messages")
        if self.messages is not None:
            if self.system is not None:
                raise wrong("cannot stand beside `messages`; make it the first message", at="system")
            if not any(message.role == "user" for message in self.messages):
                raise wrong("needs at least one message of the user", at="messages")
        for name in self.extra:
            if name in _RESERVED_EXTRA:
                raise wrong(_RESERVED_EXTRA[name], at=f"extra.{name}")
            if name in type(self).model_fields:
                raise wrong(f"is set by `request.{name}`", at=f"extra.{name}")
        return self

    def _check_raw(self, raw: dict[str, Any]) -> None:
        for name in type(self).model_fields:
            if name not in _WITH_RAW and getattr(self, name):
                raise wrong("cannot stand beside `raw`", at=name)
        for name in raw:
            if name in _RESERVED_RAW:
                raise wrong(_RESERVED_RAW[name], at=f"raw.{name}")
        if self.output is not None and self.output.choice is not None:
            raise wrong(
                "is asked for in the raw body itself; `json_schema` checks the answer", at="output.choice"
            )

    @property
    def provider(self) -> str:
        """The part of `model` before the first slash."""
        return self.model.partition("/")[0]

    @property
    def model_name(self) -> str:
        """The part of `model` after the first slash: the provider's own name for it."""
        return self.model.partition("/")[2]

    @property
    def answer(self) -> Output:
        """`output` as the core knows it."""
        if self.embed is not None:
            return Embedding(self.dimensions)
        if self.output is None:
            return FreeText()
        if self.output.choice is not None:
            return Choice(self.output.choice)
        return JsonSchema(self.output.document or {})

    @property
    def functions(self) -> tuple[Tool, ...]:
        """`tools` as the core knows them."""
        return tuple(
            Tool(tool.name, tool.description, tool.parameters, tool.strict) for tool in self.tools or ()
        )

    def canonical(self) -> dict[str, Any]:
        """The section as plain JSON with defaults left out, and a schema's content in place of its path."""
        fields = self.model_dump(mode="json", exclude_defaults=True)
        if self.output is not None and self.output.json_schema is not None:
            fields["output"] = {"json_schema": self.output.document}
        return fields
