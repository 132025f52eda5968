"""What OpenAI says when it says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulkrate.providers.failures import Said
from bulkrate.providers.openai.wire import QUEUE_CODE, queue_refusal

# "Too many requests" that no waiting cures: the account's money is at its end.
NO_MONEY = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})


def read_error(status: int, body: Any) -> Said:
    """Read an error answer; some servers leave out the `error` around it, or send plain text."""
    error = body.get("error", body) if isinstance(body, Mapping) else body
    fields: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    code = str(fields.get("code") or fields.get("type") or status)
    message = str(fields.get("message") or (error if isinstance(error, str) else "") or "no reason given")
    full = status in (400, 429) and QUEUE_CODE in f"{code} {message}"
    return Said(code, message, code in NO_MONEY, queue_refusal(message) if full else None)
