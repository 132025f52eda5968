"""Reading the key-value header of a GGUF file: the tokenizer and chat template, never the weights.

Layout from the GGUF specification, versions 2 and 3 (little-endian), as of 2026-11-24:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class GGUFError(ValueError):
    """The file is not a GGUF file this reader knows, or it ends inside its header."""


def read_metadata(path: Path) -> dict[str, Any]:
    """All key-value pairs of the header. Reads about 2 MB of a file of any size.

    Raises ``GGUFError`` for a file that is not GGUF version 2 or 3 or is cut short, ``OSError`` as ``open``
    does.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise GGUFError(f"{path.name} is not a GGUF file")
        version = _scalar(file, "I")
        if version not in (2, 3):
            raise GGUFError(f"{path.name} is GGUF version {version}; 2 and 3 are known")
        _scalar(file, "Q")  # tensors, whose table follows the pairs
        pairs = _scalar(file, "Q")
        return {_string(file): _value(file, _scalar(file, "I")) for _ in range(pairs)}


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        item_kind, length = _scalar(file, "I"), _scalar(file, "Q")
        if item_kind in _SCALARS:
            return list(_unpack(file, f"<{length}{_SCALARS[item_kind]}"))
        return [_value(file, item_kind) for _ in range(length)]
    if kind not in _SCALARS:
        raise GGUFError(f"value type {kind} is not in the specification")
    return _scalar(file, _SCALARS[kind])


def _string(file: BinaryIO) -> str:
    length = _scalar(file, "Q")
    data = file.read(length)
    if len(data) < length:
        raise GGUFError("the file ends inside its header")
    return data.decode("utf-8")


def _scalar(file: BinaryIO, code: str) -> Any:
    return _unpack(file, "<" + code)[0]


def _unpack(file: BinaryIO, layout: str) -> tuple[Any, ...]:
    size = struct.calcsize(layout)
    data = file.read(size)
    if len(data) < size:
        raise GGUFError("the file ends inside its header")
    return struct.unpack(layout, data)
