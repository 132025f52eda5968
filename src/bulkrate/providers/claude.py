"""Parts of Claude's messages, which are the same at Anthropic and on Bedrock. Pure.

Shapes: anthropic SDK 2.12.0; Bedrock user guide, Anthropic Claude Messages API (copies of 2026).
"""

from __future__ import annotations

from collections.abc import Callable

from bulkrate.core.json_value import plain
from bulkrate.core.request import DocumentPart, ImagePart, Message, OpaquePart, Part, TextPart, Tool

# Where a file comes from: its address, and what it is ("image", "document"), as Claude's `source`.
Source = Callable[[str, str], dict[str, object]]


def blocks_of(message: Message, source: Source) -> list[dict[str, object]]:
    """A message's content as blocks."""
    if isinstance(message.content, str):
        return [{"type": "text", "text": message.content}]
    return [_block(part, source) for part in message.content or ()]


def _block(part: Part, source: Source) -> dict[str, object]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(url=url):
            return {"type": "image", "source": source(url, "image")}
        case DocumentPart(url=url, name=name):
            return plain({"type": "document", "source": source(url, "document"), "title": name})
        case OpaquePart(value=value):
            return dict(value)


def content_of(blocks: list[dict[str, object]]) -> object:
    """Blocks as content: one text as a string, which is what it most often is."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return blocks[0]["text"]
    return blocks


def tool_of(tool: Tool) -> dict[str, object]:
    """A tool's declaration."""
    return plain(
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": {"type": "object", **tool.parameters},
            "strict": tool.strict,
        }
    )
