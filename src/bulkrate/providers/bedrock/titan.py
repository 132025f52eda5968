"""Titan's embeddings, for InvokeModel: one text a request. Pure.

Shape: Bedrock user guide, Titan Embeddings Text, copy of 2026.
"""

from __future__ import annotations

from bulkrate.core.json_value import plain
from bulkrate.core.request import Request
from bulkrate.errors import JobError


def body(request: Request, structured: str) -> dict[str, object]:
    """The request as Titan reads it."""
    if request.kind != "embed":
        raise JobError(f"{request.model} only makes embeddings", hint="choose a model that chats")
    if len(request.inputs) != 1:
        raise JobError(
            f"Titan embeds one text a request, not {len(request.inputs)}", hint="give each text a row"
        )
    return plain({"inputText": request.inputs[0], "dimensions": request.dimensions, **request.extra})
