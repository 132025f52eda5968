"""Identity of rows: the content hash, the key, and what a ready-made batch request looks like."""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import orjson

from bulkrate.core.embedding import decimals
from bulkrate.datasets.block import Problem

__all__ = ["json_line", "json_text", "key_of", "looks_like_openai_batch", "row_hash"]

DIGEST_BYTES = 16


def row_hash(row: Mapping[str, Any]) -> bytes:
    """16-byte BLAKE2b over the row as JSON with sorted keys: the order of columns does not matter.

    Takes every row a source gives. Raises `TypeError` for values JSON does not have.
    """
    return blake2b(orjson.dumps(row, option=orjson.OPT_SORT_KEYS), digest_size=DIGEST_BYTES).digest()


def key_of(row: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, bytes] | Problem:
    """The row's key: text for people, and the 16-byte digest that identifies it.

    A key is its text: 1 and "1" are the same key, so a table keeps its keys when it moves between
    CSV, JSONL and Parquet. (1.0 is "1.0", true is "true".) Several columns are kept apart in the
    digest, so ("a", "bc") differs from ("ab", "c"); the text joins them with " / ".

    A missing, null or empty part, or one that is a list or an object, gives a `Problem`.
    """
    if len(columns) == 1 and type(value := row.get(columns[0])) is str and value:
        encoded_key = value.encode("utf-8", "surrogatepass")
        return value, blake2b(encoded_key, digest_size=DIGEST_BYTES).digest()
    parts = []
    for column in columns:
        value = row.get(column)
        if value is None:
            if column in row:
                return Problem("null_key", f"the key column {_short(column)} is null")
            return Problem("missing_key", f"the key column {_short(column)} is missing")
        if type(value) is str:
            text = value
        elif isinstance(value, (int, float)):
            text = orjson.dumps(value).decode()
        else:
            return Problem("bad_key", f"the key column {_short(column)} holds no text or number")
        if not text:
            return Problem("empty_key", f"the key column {_short(column)} is empty")
        parts.append(text)
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    if len(parts) == 1:
        return parts[0], blake2b(encoded[0], digest_size=DIGEST_BYTES).digest()
    # A length before each part: no two lists of parts give the same bytes.
    framed = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
    return " / ".join(parts), blake2b(framed, digest_size=DIGEST_BYTES).digest()


def _short(column: str) -> str:
    return repr(column if len(column) <= 40 else column[:39] + "…")


def looks_like_openai_batch(row: Mapping[str, Any]) -> bool:
    """Whether the row is a line of an OpenAI batch input file (custom_id, method, url, body)."""
    return (
        isinstance(row.get("custom_id"), str)
        and isinstance(row.get("method"), str)
        and isinstance(row.get("url"), str)
        and isinstance(row.get("body"), Mapping)
    )


def json_line(value: Any) -> bytes:
    """`value` as one line of JSON, with its line end. See `json_text` for odd values."""
    try:
        return orjson.dumps(value, default=_numbers, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return _careful(value) + b"\n"


def json_text(value: Any) -> str | None:
    """`value` as JSON text, but text as it is and None as None.

    Answers may hold what orjson refuses: lone surrogates become U+FFFD, integers of any size are
    kept, numbers that are not finite become null.
    """
    if value is None or type(value) is str:
        return value if value is None else _encodable(value)
    try:
        return orjson.dumps(value, default=_numbers).decode()
    except TypeError:
        return _careful(value).decode()


def _numbers(value: Any) -> list[float]:
    if type(value) is array:
        return decimals(value)
    raise TypeError


def _careful(value: Any) -> bytes:
    return json.dumps(_clean(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return _encodable(value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {_encodable(str(key)): _clean(item) for key, item in value.items()}
    if type(value) is array:
        return decimals(value)
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return value


def _encodable(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        # Pairs that belong together become their character first.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
