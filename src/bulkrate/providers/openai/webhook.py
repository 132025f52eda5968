"""OpenAI's webhooks, as far as they are about batches (SDK openai 3.54.0, `types/webhooks/batch_*`)."""

from __future__ import annotations

import json


def batch_of(body: bytes) -> str | None:
    """The batch an event is about; None for events of other kinds. Raises ValueError for what is no event."""
    event = json.loads(body)
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ValueError("not an event")
    if not event["type"].startswith("batch."):
        return None
    data = event.get("data")
    batch_id = data.get("id") if isinstance(data, dict) else None
    if not isinstance(batch_id, str) or not batch_id:
        raise ValueError("an event about a batch that names none")
    return batch_id
