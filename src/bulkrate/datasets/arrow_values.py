"""Arrow values as JSON has them, and back.

Templates, hashes and JSON Lines need plain values, so a source gives:

- timestamps, dates and times as ISO 8601 text (with a time zone: in UTC, ending in Z)
- durations as integers in their unit; decimals as text with all digits
- binary as base64, UUIDs as text; maps as objects; dictionary-encoded columns as their values
- NaN as null; infinities as "Infinity" and "-Infinity"

Embeddings are the one value that is not JSON's own: an `array` of 32-bit floats, which goes into Arrow as it
is, without a Python number for each.

A sink that is told the column's type takes these forms back, so Parquet in gives Parquet out.
"""

from __future__ import annotations

import base64
import math
import uuid
from array import array
from collections.abc import Collection
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["embedding_type", "from_plain", "is_plain", "stored_type", "to_plain"]


def to_plain(array: pa.Array) -> list[Any]:
    """The values of `array`. Raises `UnicodeDecodeError` for a string that is not UTF-8."""
    import pyarrow as pa
    import pyarrow.compute as pc

    kind, is_ = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return [None if v is None else str(uuid.UUID(bytes=v)) for v in array.storage.to_pylist()]
        return to_plain(array.storage)
    if is_.is_dictionary(kind):
        return to_plain(array.dictionary_decode())
    if is_.is_run_end_encoded(kind):
        return to_plain(pc.run_end_decode(array))
    if is_.is_floating(kind):
        return _floats(array)
    if is_.is_timestamp(kind):
        # Without a zone the clock reading is UTC: no time zone database is needed to print it.
        text = _trim(pc.strftime(array.cast(pa.timestamp(kind.unit)), format="%Y-%m-%dT%H:%M:%S"))
        return (pc.binary_join_element_wise(text, "Z", "") if kind.tz else text).to_pylist()  # type: ignore[no-any-return]
    if is_.is_time(kind):
        return _trim(array.cast(pa.string())).to_pylist()  # type: ignore[no-any-return]
    if is_.is_date(kind) or is_.is_decimal(kind):
        return array.cast(pa.string()).to_pylist()  # type: ignore[no-any-return]
    if is_.is_duration(kind):
        return array.cast(pa.int64()).to_pylist()  # type: ignore[no-any-return]
    if _is_binary(kind):
        return [None if v is None else base64.b64encode(v).decode("ascii") for v in array.to_pylist()]
    if is_.is_struct(kind):
        names = [field.name for field in kind]
        columns = [to_plain(column) for column in array.flatten()]
        rows = (
            [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
            if columns
            else [{} for _ in range(len(array))]
        )
        return _with_nulls(array, rows)
    if is_.is_fixed_size_list(kind):
        present = iter(to_plain(array.flatten()))  # leaves out null lists
        return [[next(present) for _ in range(kind.list_size)] if v else None for v in _valid(array)]
    if is_.is_map(kind):
        keys, offsets = _children(array, array.keys)
        items, _ = _children(array, array.items)
        return _with_nulls(
            array,
            [{_name(k): v for k, v in zip(keys[a:b], items[a:b], strict=True)} for a, b in pairwise(offsets)],
        )
    if is_.is_list(kind) or is_.is_large_list(kind):
        values, offsets = _children(array, array.values)
        return _with_nulls(array, [values[a:b] for a, b in pairwise(offsets)])
    if is_plain(kind):
        return array.to_pylist()  # type: ignore[no-any-return]
    # Intervals, unions, list views: rare, and nothing writes them to Parquet. Text is readable.
    return [None if value is None else str(value) for value in array.to_pylist()]


def _trim(clock: pa.Array) -> pa.Array:
    """Without a fraction of a second that is zero: it would only cost tokens."""
    import pyarrow.compute as pc

    return pc.replace_substring_regex(clock, pattern=r"\.0+$", replacement="")


def _floats(array: pa.Array) -> list[Any]:
    values: list[Any] = array.to_pylist()
    # One pass over the sum finds both NaN and infinities; most columns have neither.
    total = sum(value for value in values if value is not None)
    if total - total == 0:
        return values
    return [value if value is None or value - value == 0 else _not_finite(value) for value in values]


def _not_finite(value: float) -> str | None:
    if math.isnan(value):
        return None
    return "Infinity" if value > 0 else "-Infinity"


def _children(array: pa.Array, child: pa.Array) -> tuple[list[Any], list[int]]:
    """Plain values of the part of a list's child that belongs to `array`, and offsets into it."""
    offsets = array.offsets.to_pylist()
    first, last = offsets[0], offsets[-1]
    return to_plain(child.slice(first, last - first)), [offset - first for offset in offsets]


def _valid(array: pa.Array) -> list[bool]:
    return array.is_valid().to_pylist()  # type: ignore[no-any-return]


def _with_nulls(array: pa.Array, values: list[Any]) -> list[Any]:
    if not array.null_count:
        return values
    return [value if valid else None for value, valid in zip(values, _valid(array), strict=True)]


def _name(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)


def is_plain(kind: pa.DataType) -> bool:
    """Whether values of this type are the same in JSON."""
    import pyarrow as pa

    is_ = pa.types
    return bool(_is_text(kind) or is_.is_integer(kind) or is_.is_boolean(kind) or is_.is_null(kind))


def _is_binary(kind: pa.DataType) -> bool:
    import pyarrow as pa

    is_ = pa.types
    return bool(
        is_.is_binary(kind)
        or is_.is_large_binary(kind)
        or is_.is_fixed_size_binary(kind)
        or is_.is_binary_view(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type a sink stores a copied column of type `kind` as: the same, without encodings.

    Dictionary and run-end encodings are dropped (Parquet has its own); what has no plain form that
    can be taken back becomes string.
    """
    import pyarrow as pa

    is_ = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return kind if kind.extension_name == "arrow.uuid" else stored_type(kind.storage_type)
    if is_.is_dictionary(kind) or is_.is_run_end_encoded(kind):
        return stored_type(kind.value_type)
    if is_.is_string_view(kind):
        return pa.string()
    if is_.is_binary_view(kind):
        return pa.binary()
    if is_.is_struct(kind):
        return pa.struct([field.with_type(stored_type(field.type)) for field in kind])
    if is_.is_map(kind):
        return pa.map_(stored_type(kind.key_type), stored_type(kind.item_type))
    if is_.is_fixed_size_list(kind):
        return pa.list_(stored_type(kind.value_type), kind.list_size)
    if is_.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(stored_type(kind.value_type)))
    if is_.is_list(kind):
        return pa.list_(kind.value_field.with_type(stored_type(kind.value_type)))
    if is_.is_primitive(kind) and not is_.is_interval(kind):
        return kind
    if _is_text(kind) or _is_binary(kind) or is_.is_decimal(kind) or is_.is_null(kind):
        return kind
    return pa.string()


def from_plain(values: list[Any], kind: pa.DataType) -> pa.Array:
    """An array of type `stored_type(kind)` from the forms `to_plain` gives.

    Raises `pa.ArrowInvalid`, `pa.ArrowTypeError`, `TypeError` or `ValueError` for values of another type.
    """
    import pyarrow as pa

    kind = stored_type(kind)
    is_ = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        raw = [None if value is None else uuid.UUID(value).bytes for value in values]
        return pa.ExtensionArray.from_storage(kind, pa.array(raw, kind.storage_type))
    if is_.is_floating(kind):
        return pa.array([float(v) if isinstance(v, str) else v for v in values], kind)
    if is_.is_timestamp(kind) or is_.is_date(kind) or is_.is_decimal(kind):
        return pa.array(values, pa.string()).cast(kind)
    if is_.is_time(kind):
        ticks = [None if value is None else _ticks(value, kind.unit) for value in values]
        return pa.array(ticks, pa.int32() if kind.bit_width == 32 else pa.int64()).cast(kind)
    if is_.is_duration(kind):
        return pa.array(values, pa.int64()).cast(kind)
    if _is_binary(kind):
        return pa.array([None if v is None else base64.b64decode(v) for v in values], kind)
    if is_.is_struct(kind):
        null = pa.array([value is None for value in values], pa.bool_())
        columns = [
            from_plain([None if value is None else value.get(field.name) for value in values], field.type)
            for field in kind
        ]
        if not columns:
            return pa.array(values, kind)
        return pa.StructArray.from_arrays(columns, fields=list(kind), mask=null)
    if is_.is_map(kind):
        pairs = [None if value is None else list(value.items()) for value in values]
        offsets = _offsets(pairs, pa.int32())
        flat = [pair for pair_list in pairs if pair_list for pair in pair_list]
        keys = from_plain([_key(key, kind.key_type) for key, _ in flat], kind.key_type)
        return pa.MapArray.from_arrays(offsets, keys, from_plain([v for _, v in flat], kind.item_type), kind)
    if any(type(value) is array for value in values):
        return _from_arrays(values, kind)
    if is_.is_fixed_size_list(kind):
        flat = [item for value in values for item in (value or [None] * kind.list_size)]
        null = pa.array([value is None for value in values], pa.bool_())
        return pa.FixedSizeListArray.from_arrays(from_plain(flat, kind.value_type), type=kind, mask=null)
    if is_.is_list(kind) or is_.is_large_list(kind):
        large = is_.is_large_list(kind)
        flat = [item for value in values if value for item in value]
        build = pa.LargeListArray if large else pa.ListArray
        offsets = _offsets(values, pa.int64() if large else pa.int32())
        return build.from_arrays(offsets, from_plain(flat, kind.value_type), type=kind)
    return pa.array(values, kind)


def embedding_type(dimensions: Collection[int]) -> pa.DataType:
    """The type of a column of embeddings: a list of a fixed size, where all have the same."""
    import pyarrow as pa

    return pa.list_(pa.float32(), next(iter(dimensions)) if len(dimensions) == 1 else -1)


def _from_arrays(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Embeddings, copied as bytes."""
    import pyarrow as pa

    fixed = pa.types.is_fixed_size_list(kind)
    if fixed and any(len(value) != kind.list_size for value in values if value is not None):
        raise ValueError("a list of another size")
    missing = bytes(4 * kind.list_size) if fixed else b""
    data = pa.py_buffer(b"".join(missing if value is None else value for value in values))
    numbers = pa.Array.from_buffers(pa.float32(), data.size // 4, [None, data])
    if fixed:
        null = pa.array([value is None for value in values], pa.bool_())
        return pa.FixedSizeListArray.from_arrays(numbers, type=kind, mask=null)
    return pa.ListArray.from_arrays(_offsets(values, pa.int32()), numbers, type=kind)


def _offsets(lists: list[Any], kind: pa.DataType) -> pa.Array:
    """Offsets of consecutive lists; a null offset makes a null list."""
    import pyarrow as pa

    offsets: list[int | None] = []
    position = 0
    for items in lists:
        offsets.append(None if items is None else position)
        position += len(items or ())
    return pa.array([*offsets, position], kind)


def _key(text: str, kind: pa.DataType) -> Any:
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return text == "true"
    if pa.types.is_integer(kind) or pa.types.is_duration(kind):
        return int(text)
    return text


def _ticks(text: str, unit: str) -> int:
    """ "01:02:03.000005" as a count of `unit` since midnight."""
    clock, _, fraction = text.partition(".")
    hours, minutes, seconds = map(int, clock.split(":"))
    nanoseconds = (hours * 3600 + minutes * 60 + seconds) * 10**9 + int(fraction.ljust(9, "0") or "0")
    return nanoseconds // {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
