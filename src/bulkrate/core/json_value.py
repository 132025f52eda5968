"""Plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` without those that are None: absent and unset are the same thing on every wire we speak."""
    return {name: value for name, value in fields.items() if value is not None}
