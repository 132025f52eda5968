"""What Anthropic says when it says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulkrate.providers.failures import Said


def read_error(status: int, body: Any) -> Said:
    """Read `{"type": "error", "error": {"type": …, "message": …}}`; an edge in front may send plain text."""
    error = body.get("error") if isinstance(body, Mapping) else None
    fields: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    kind = str(fields.get("type") or status)
    message = str(fields.get("message") or (body if isinstance(body, str) else "") or "no reason given")
    return Said(kind, message, no_money=kind == "billing_error")
