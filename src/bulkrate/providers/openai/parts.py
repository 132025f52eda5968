"""Parts of a request in OpenAI's JSON, which Mistral's is made of too. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bulkrate.core.json_value import plain
from bulkrate.core.request import (
    Choice,
    DocumentPart,
    ImagePart,
    JsonSchema,
    Message,
    OpaquePart,
    Output,
    Part,
    TextPart,
    Tool,
    has_hole,
)
from bulkrate.errors import JobError
from bulkrate.providers.labels import label_schema
from bulkrate.providers.provider import NeedsValues


def message_of(message: Message) -> dict[str, object]:
    """A turn."""
    content: object = message.content
    if isinstance(message.content, tuple):
        content = [_part(part) for part in message.content]
    return {"role": message.role, "content": content, **message.extra}


def _part(part: Part) -> dict[str, object]:
    match part:
        case DocumentPart(url=url) if has_hole(url):
            raise NeedsValues
        case DocumentPart(url=url, name=name):
            if not url.startswith("data:"):
                raise JobError(
                    "Chat Completions takes a document's bytes, and fetches none",
                    code="not_carried",
                    hint="give it as a path or a data: URL; OpenAI's `request.api: responses` fetches",
                )
            return {"type": "file", "file": plain({"file_data": url, "filename": name})}
        case _:
            return plain_part(part)


def plain_part(part: TextPart | ImagePart | OpaquePart) -> dict[str, object]:
    """A part that both APIs write alike."""
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(url=url, detail=detail):
            return {"type": "image_url", "image_url": plain({"url": url, "detail": detail})}
        case OpaquePart(value=value):
            return dict(value)


def tools_of(tools: Sequence[Tool]) -> list[dict[str, object]] | None:
    """The tools, each as a function; None for none."""
    functions = [
        plain(
            {
                "name": tool.name,
                "description": tool.description,
                "parameters": dict(tool.parameters),  # required by Mistral, though it be empty
                "strict": tool.strict,
            }
        )
        for tool in tools
    ]
    return [{"type": "function", "function": function} for function in functions] or None


def response_format(output: Output) -> dict[str, object] | None:
    """What holds the answer to its form; None for free text."""
    match output:
        case Choice(labels=labels):
            name, schema = "choice", label_schema(labels)
        case JsonSchema(schema=given, name=name):
            schema = dict(given)
        case _:
            return None
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": True}}
