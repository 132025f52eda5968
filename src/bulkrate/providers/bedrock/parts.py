"""What the bodies of all models have in common: refusals of fields, files, schemas of answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

from bulkrate.core.request import Choice, Embedding, FreeText, Message, Output, Request, has_hole
from bulkrate.errors import JobError
from bulkrate.providers.labels import label_schema
from bulkrate.providers.provider import NeedsValues

# The tool that carries an answer of a given form.
TOOL = "answer"
EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})

_DATA_URL = re.compile(r"data:([a-z]+/[a-zA-Z0-9.+-]+)(?:;[^,;]+)*;base64,(.+)", re.DOTALL)


def check(request: Request) -> None:
    """Raise `JobError` for what no chat model of Bedrock takes."""
    if request.kind != "chat":
        raise JobError(
            f"{request.model} makes no embeddings", hint="amazon.titan-embed-text-v2:0 does, on Bedrock"
        )
    if request.temperature is not None and not 0 <= request.temperature <= 1:
        raise JobError(
            f"request.temperature is {request.temperature:g}, and Bedrock's models take 0 to 1",
            hint="lower it",
        )
    if request.reasoning is not None and request.reasoning not in EFFORTS:
        known = ", ".join(sorted(EFFORTS))
        raise JobError(f"Bedrock has no reasoning effort {request.reasoning!r}", hint=f"it has {known}")


def turn(message: Message) -> str:
    """The role of a message that is a turn. Raises `JobError` for what cannot be carried."""
    if message.role not in ("user", "assistant"):
        raise JobError(f"Bedrock has no role {message.role!r}", hint="user, assistant or system")
    for name in message.extra:
        raise JobError(
            f"a message has the field {name!r}, which Bedrock's messages have not", hint="leave it out"
        )
    return message.role


def file_of(url: str, what: str) -> tuple[str, str]:
    """Media type and base64 content of a `data:` URL. Raises `JobError` for any other address, and
    `NeedsValues` for one that is different in each row."""
    if has_hole(url):
        raise NeedsValues
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise JobError(
            f"Bedrock takes {what}s as data: URLs (base64), and fetches none",
            hint="put the bytes into the request",
        )
    return found[1], found[2]


def schema_of(output: Output) -> Mapping[str, Any] | None:
    """The JSON Schema of an answer, a label wrapped into an object; None for free text."""
    match output:
        case Choice(labels=labels):
            return label_schema(labels)
        case FreeText() | Embedding():
            return None
        case _:
            return dict(output.schema)


def tool_schema(request: Request) -> Mapping[str, Any] | None:
    """The schema as the input of a tool. Raises `JobError` where a tool cannot carry the answer."""
    schema = schema_of(request.output)
    if schema is None:
        return None
    if request.tools:
        raise JobError(
            f"{request.model} gives answers of a given form through a tool, so request.tools cannot be "
            "beside request.output",
            hint="leave out one of them, or choose a model with structured outputs of its own",
        )
    if schema.get("type") != "object":
        raise JobError(
            f"{request.model} gives answers of a given form through a tool, which are objects: the schema's "
            "type must be object",
            hint="wrap it into a property",
        )
    return schema


def in_words(output: Output) -> str | None:
    """The form of an answer as an instruction, for models that cannot be held to it."""
    match output:
        case Choice(labels=labels):
            said = ", ".join(orjson.dumps(label).decode() for label in labels)
            return f"Answer with exactly one of these labels and nothing else, without quotes: {said}"
        case FreeText() | Embedding():
            return None
        case _:
            schema = orjson.dumps(dict(output.schema)).decode()
            return (
                f"Answer with JSON only, without any text around it, valid under this JSON Schema: {schema}"
            )
