"""Claude's own body, for InvokeModel. Pure.

Shape: Bedrock user guide, Anthropic Claude Messages API (`bedrock-2023-05-31`), copy of 2026.
"""

from __future__ import annotations

from bulkrate.core.json_value import plain
from bulkrate.core.request import Request
from bulkrate.errors import JobError
from bulkrate.providers.bedrock.parts import TOOL, check, file_of, schema_of, tool_schema, turn
from bulkrate.providers.claude import blocks_of, content_of, tool_of

VERSION = "bedrock-2023-05-31"
CAP = ("max_tokens",)


def body(request: Request, structured: str) -> dict[str, object]:
    """The request as Claude reads it; `structured` says how it is held to a schema."""
    check(request)
    if request.max_output_tokens is None:
        raise JobError(
            "Claude wants a cap on every answer", hint="set request.max_output_tokens, 1024 for instance"
        )
    tools = [tool_of(tool) for tool in request.tools]
    forced = tool_schema(request) if structured == "tool" else None
    if forced is not None:
        tools = [{"name": TOOL, "description": "Gives the answer.", "input_schema": forced}]
    native = schema_of(request.output) if structured == "native" else None
    system = [block for m in request.messages if m.role == "system" for block in blocks_of(m, _source)]
    fields = plain(
        {
            "anthropic_version": VERSION,
            "max_tokens": request.max_output_tokens,
            "system": content_of(system) or None,
            "messages": [
                {"role": turn(m), "content": content_of(blocks_of(m, _source))}
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


def _source(url: str, what: str) -> dict[str, object]:
    media_type, data = file_of(url, what)
    return {"type": "base64", "media_type": media_type, "data": data}
