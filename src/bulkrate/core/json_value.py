"""Plain JSON values: written without what is absent, read as what they should be. Only the parser raises."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import orjson

# Of requests or tokens of a batch: a count beyond is an error of its writer. Sums must fit into 64 bits.
MOST_COUNT = 10**15

_SURROGATE = re.compile("[\ud800-\udfff]")
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


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
    """The value if it is a text that says something: a name, an id, a message, and therefore something that
    every database can hold. What none can (NUL, half characters) becomes U+FFFD."""
    text = text_of(value)
    return _UNSTORABLE.sub("\ufffd", text) if text else None


def count(value: Any, most: int = MOST_COUNT) -> int | None:
    """The value if it is a count that can be."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if number and 0 <= value <= most and value == int(value) else None


def moment(value: Any) -> datetime | None:
    """A point in time, in UTC: seconds since 1970, of which 0 means none, or RFC 3339 with its zone."""
    try:
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found.astimezone(UTC) if found.tzinfo is not None else None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return datetime.fromtimestamp(value, UTC) if number and value else None
    except (ValueError, OverflowError, OSError):
        return None


def parsed(text: str) -> Any:
    """The JSON value of a text, as it can be written as JSON again: half characters as U+FFFD, NaN and the
    infinities as null, whole numbers of more than 64 bits as floats.

    Raises ValueError or RecursionError for what is no JSON.
    """
    value = _loads(text)
    if _ESCAPED_SURROGATE.search(text):
        value = _loads(_SURROGATE.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
    return value


def _loads(text: str) -> Any:
    return json.loads(text, parse_int=_integer, parse_float=_finite, parse_constant=lambda _: None)


def _integer(digits: str) -> int | float | None:
    if len(digits) <= 20:
        number = int(digits)
        if -(1 << 63) <= number < 1 << 64:
            return number
    return _finite(digits)


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


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
