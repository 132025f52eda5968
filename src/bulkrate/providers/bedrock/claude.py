"""Claude's own body, for InvokeModel. Pure.

Shape: Bedrock user guide, Anthropic Claude Messages API (`bedrock-2023-05-31`), copy of 2026.
"""

from __future__ import annotations

from typing import Any

from bulkrate.core.json_value import plain
from bulkrate.core.request import (
    DocumentPart,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Request,
    TextPart,
    Tool,
)
from bulkrate.errors import JobError
from bulkrate.providers.bedrock.parts import TOOL, check, file_of, schema_of, tool_schema, turn

VERSION = "bedrock-2023-05-31"
CAP = ("max_tokens",)


def body(request: Request, structured: str) -> dict[str, object]:
    """The request as Claude reads it; `structured` says how it is held to a schema."""
    check(request)
    if request.max_output_tokens is None:
        raise JobError(
            "Claude wants a cap on every answer", hint="set request.max_output_tokens, 1024 for instance"
        )
    tools = [_tool(tool) for tool in request.tools]
    forced = tool_schema(request) if structured == "tool" else None
    if forced is not None:
        tools = [{"name": TOOL, "description": "Gives the answer.", "input_schema": forced}]
    native = schema_of(request.output) if structured == "native" else None
    system = [block for m in request.messages if m.role == "system" for block in _blocks(m)]
    fields = plain(
        {
            "anthropic_version": VERSION,
            "max_tokens": request.max_output_tokens,
            "system": _one_text(system) or None,
            "messages": [
                {"role": turn(m), "content": _one_text(_blocks(m))}
                for m in request.messages
                if m.role != "system"
            ],
            "tools": tools or None,
            "tool_choice": None if forced is None else {"type": "tool", "name": TOOL},
            "temperature": request.temperature,
            "top_p": request.top_p,
            "stop_sequences": list(request.stop) or None,
            "output_config": plain(
                {
                    "effort": request.reasoning,
                    "format": None if native is None else {"type": "json_schema", "schema": native},
                }
            )
            or None,
        }
    )
    fields.update(request.extra)
    return fields


def _tool(tool: Tool) -> dict[str, object]:
    return plain(
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": {"type": "object", **tool.parameters},
            "strict": tool.strict,
        }
    )


def _blocks(message: Message) -> list[dict[str, Any]]:
    if isinstance(message.content, str):
        return [{"type": "text", "text": message.content}]
    return [_block(part) for part in message.content or ()]


def _one_text(blocks: list[dict[str, Any]]) -> object:
    """One text as a string, which is what it most often is; else the blocks."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return blocks[0]["text"]
    return blocks


def _block(part: Part) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(url=url):
            return {"type": "image", "source": _source(url, "image")}
        case DocumentPart(url=url, name=name):
            return plain({"type": "document", "source": _source(url, "document"), "title": name})
        case OpaquePart(value=value):
            return dict(value)


def _source(url: str, what: str) -> dict[str, str]:
    media_type, data = file_of(url, what)
    return {"type": "base64", "media_type": media_type, "data": data}
