"""What a `/v1/embeddings` body asks of the engine, and how the answer is written (SDK openai 3.54.0)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bulkrate.core.embedding import decimals, unpack
from bulkrate.server.api_error import ApiError, invalid, missing, unsupported

if TYPE_CHECKING:
    from bulkrate.server.engine import EngineRequest

_READ = frozenset({"model", "input", "dimensions", "encoding_format"})
_IGNORED = frozenset({"user"})
_FORMATS = ("float", "base64")
MAX_INPUTS = 2_048
"""Texts in one request, OpenAI's limit (SDK openai 3.54.0)."""


@dataclass(frozen=True, slots=True)
class EmbedCall:
    """Texts to embed, read. `encoding` is how the vectors are written."""

    model: str
    inputs: tuple[str, ...]
    dimensions: int | None = None
    encoding: str = "float"

    def engine_request(self, request_id: str, priority: int) -> EngineRequest:
        """The same for the engine."""
        from bulkrate.server.engine import EngineRequest

        return EngineRequest(id=request_id, inputs=self.inputs, dimensions=self.dimensions, priority=priority)


def read_embed(body: Mapping[str, Any]) -> EmbedCall:
    """Read a body. Raises ApiError 400."""
    for name in body:
        if name not in _READ and name not in _IGNORED:
            raise ApiError(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)
    model, encoding = body.get("model"), body.get("encoding_format")
    if not isinstance(model, str):
        raise missing("model") if model is None else invalid("model", "expected a string")
    if encoding not in (None, *_FORMATS):
        raise invalid("encoding_format", f"expected one of {', '.join(_FORMATS)}")
    dimensions = body.get("dimensions")
    if dimensions is not None and (type(dimensions) is not int or dimensions < 1):
        raise invalid("dimensions", "expected an integer of at least 1")
    return EmbedCall(model, _inputs(body.get("input")), dimensions, encoding or "float")


def _inputs(given: Any) -> tuple[str, ...]:
    if given is None:
        raise missing("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_INPUTS:
        raise invalid("input", f"expected a string, or a list of 1 to {MAX_INPUTS} strings")
    if any(isinstance(text, int | list) for text in texts):
        raise unsupported("input", "this server reads texts, not token numbers")
    if not all(isinstance(text, str) and text for text in texts):
        raise invalid("input", "expected strings that are not empty")
    return tuple(texts)


def embedding_list(answer: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The body of an answer, from its entry in the answer log."""
    data = [
        {"object": "embedding", "index": index, "embedding": _written(text, answer["encoding"])}
        for index, text in enumerate(answer["embeddings"])
    ]
    tokens = answer["input_tokens"]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _written(text: str, encoding: str) -> str | list[float]:
    return text if encoding == "base64" else decimals(unpack(base64.b64decode(text)))
