"""The shape of Converse, which most models are asked in, and Nova's own body, which is nearly the same. Pure.

Shapes: botocore 1.44.5, `ConverseRequest` of bedrock-runtime; Nova's `messages-v1`, Nova user guide of 2026.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from bulkrate.core.json_value import plain
from bulkrate.core.request import (
    Choice,
    DocumentPart,
    ImagePart,
    JsonSchema,
    Message,
    OpaquePart,
    Part,
    Request,
    TextPart,
    Tool,
)
from bulkrate.errors import JobError
from bulkrate.providers.bedrock.parts import TOOL, check, file_of, in_words, schema_of, tool_schema, turn

NOVA = "messages-v1"
CAP = ("inferenceConfig", "maxTokens")

# Media types whose last word is not Bedrock's name of the format.
_FORMATS = {
    "text/plain": "txt",
    "text/markdown": "md",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z\-()\[\]]+")


def body(request: Request, structured: str) -> dict[str, object]:
    """The request in the shape of Converse."""
    if request.tools:
        raise JobError(
            f"request.tools cannot be sent to {request.model} in a batch: Bedrock refuses each such record",
            hint="Claude and Nova take tools",
        )
    fields = _conversation(request, structured)
    schema = schema_of(request.output) if structured == "native" else None
    config = plain(
        {
            "effort": request.reasoning,
            "textFormat": None if schema is None else _text_format(schema, request),
        }
    )
    if config:
        fields["outputConfig"] = config
    fields.update(request.extra)
    return fields


def nova_body(request: Request, structured: str) -> dict[str, object]:
    """The request in Nova's own shape."""
    if request.reasoning is not None:
        raise JobError(
            "request.reasoning cannot be sent to Nova", hint="give it as Nova's own field, in request.extra"
        )
    tools = [_tool(tool) for tool in request.tools]
    forced = tool_schema(request) if structured == "tool" else None
    if forced is not None:
        tools = [_tool(Tool(TOOL, "Gives the answer.", forced))]
    config = plain(
        {
            "tools": tools or None,
            "toolChoice": None if forced is None else {"tool": {"name": TOOL}},
        }
    )
    fields = {"schemaVersion": NOVA, **_conversation(request, structured)}
    if config:
        fields["toolConfig"] = config
    fields.update(request.extra)
    return fields


def _conversation(request: Request, structured: str) -> dict[str, object]:
    check(request)
    system = [block for m in request.messages if m.role == "system" for block in _blocks(m)]
    instruction = in_words(request.output) if structured == "words" else None
    if instruction is not None:
        system.append({"text": instruction})
    inference = plain(
        {
            "maxTokens": request.max_output_tokens,
            "temperature": request.temperature,
            "topP": request.top_p,
            "stopSequences": list(request.stop) or None,
        }
    )
    return plain(
        {
            "messages": [
                {"role": turn(m), "content": _blocks(m)} for m in request.messages if m.role != "system"
            ],
            "system": system or None,
            "inferenceConfig": inference or None,
        }
    )


def _text_format(schema: Any, request: Request) -> dict[str, object]:
    name = request.output.name if isinstance(request.output, JsonSchema) else None
    if isinstance(request.output, Choice):
        name = "choice"
    # The schema travels as text.
    described = plain({"schema": orjson.dumps(schema).decode(), "name": name})
    return {"type": "json_schema", "structure": {"jsonSchema": described}}


def _tool(tool: Tool) -> dict[str, object]:
    return {
        "toolSpec": plain(
            {
                "name": tool.name,
                "description": tool.description,
                "inputSchema": {"json": {"type": "object", **tool.parameters}},
            }
        )
    }


def _blocks(message: Message) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return [{"text": message.content}]
    return [_block(part) for part in message.content or ()]


def _block(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"text": text}
        case ImagePart(url=url):
            return {"image": _source(url, "image")}
        case DocumentPart(url=url, name=name):
            said = " ".join(_NOT_IN_NAMES.sub(" ", name or "").split())[:200]
            return {"document": {"name": said or "document", **_source(url, "document")}}
        case OpaquePart(value=value):
            return dict(value)


def _source(url: str, what: str) -> dict[str, Any]:
    media_type, data = file_of(url, what)
    kind = _FORMATS.get(media_type) or media_type.rpartition("/")[2]
    return {"format": kind, "source": {"bytes": data}}
