"""Plain JSON values: written without what is absent, read as what they should be. Nothing here raises."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

_SURROGATE = re.compile("[\ud800-\udfff]")


def plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`fields` without those that are None: absent and unset are the same thing on every wire we speak."""
    return {name: value for name, value in fields.items() if value is not None}


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def text_of(value: Any) -> str | None:
    """The value if it is a text."""
    return value if isinstance(value, str) else None


def words(value: Any) -> str | None:
    """The value if it is a text that says something."""
    return text_of(value) or None


def count(value: Any) -> int | None:
    """The value if it is a count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def moment(value: Any) -> datetime | None:
    """A point in time: seconds since 1970, of which 0 means none, or RFC 3339 with its zone."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found if found.tzinfo is not None else None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return datetime.fromtimestamp(value, UTC) if number and value else None
    except (ValueError, OverflowError, OSError):
        return None


def json_of(value: Any) -> str | None:
    """JSON text of a value that was read from JSON: whole numbers of any size, half characters as U+FFFD.

    None for one that is nested too deep to be written again.
    """
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # more than 64 bits, half a character, or some 250 levels
        pass
    try:
        return _SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False, separators=(",", ":")))
    except RecursionError:
        return None


def writable(value: Any) -> Any:
    """A value that was read from JSON, as it can be written again by everything here: half characters as
    U+FFFD, whole numbers of more than 64 bits as floats. None for one that is nested too deep.
    """
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        mended = orjson.loads(json_of(value) or "null")
        try:
            orjson.dumps(mended)
        except orjson.JSONEncodeError:
            return None
        return mended
    return value
