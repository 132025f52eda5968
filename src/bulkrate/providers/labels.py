"""Labels in dialects that have no choice of their own: an object whose one property is one of them."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

# The property that carries the label.
LABEL = "label"


def label_schema(labels: Sequence[str]) -> dict[str, object]:
    """The JSON Schema of an answer that is one of the labels."""
    return {
        "type": "object",
        "properties": {LABEL: {"type": "string", "enum": list(labels)}},
        "required": [LABEL],
        "additionalProperties": False,
    }


def unwrapped(text: str, label: str) -> str:
    """What the property `label` of the answer says; else the text as it is."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    inner = value.get(label) if isinstance(value, dict) else None
    return inner if isinstance(inner, str) else text
