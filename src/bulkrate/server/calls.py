"""The endpoints that an engine's kinds of work are asked for at, and reading a body for one of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from bulkrate.server.chat import ChatCall, read_chat
from bulkrate.server.embed import EmbedCall, read_embed

CHAT: Final = "/v1/chat/completions"
EMBEDDINGS: Final = "/v1/embeddings"
_ENDPOINT_OF: Final = {"chat": CHAT, "embed": EMBEDDINGS}

Call = ChatCall | EmbedCall


def endpoints(kinds: Collection[str]) -> tuple[str, ...]:
    """Where an engine that does these kinds of work is asked."""
    return tuple(endpoint for kind, endpoint in _ENDPOINT_OF.items() if kind in kinds)


def read_call(endpoint: str, body: Mapping[str, Any]) -> Call:
    """Read the body of a request to `endpoint`. Raises ApiError 400."""
    return read_embed(body) if endpoint == EMBEDDINGS else read_chat(body)
