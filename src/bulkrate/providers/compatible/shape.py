"""A batch object of a server that nearly speaks like OpenAI, in OpenAI's shape. Pure.

Upper case, times as text, an error as a plain text: read alike for every server, as they can mean nothing
else. Only the wrapper and words of its own are a server's facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

_TIMES = ("created_at", "expires_at")


def openai_batch(fields: dict[str, Any], *, wrapper: str | None, words: Mapping[str, str]) -> dict[str, Any]:
    """`fields` with the names, words and types that `parse_batch` reads."""
    inner = fields.get(wrapper) if wrapper is not None else None
    batch = dict(inner) if isinstance(inner, dict) else dict(fields)
    word = batch.get("status")
    if isinstance(word, str):
        word = word.lower()
        batch["status"] = words.get(word, word)
    for name in _TIMES:
        if isinstance(batch.get(name), str):
            batch[name] = _seconds(batch[name])
    if not batch.get("errors") and isinstance(said := batch.get("error"), str) and said:
        batch["errors"] = {"data": [{"code": "failed", "message": said}]}
    return batch


def _seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
