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
        header = _Header(file, size=path.stat().st_size)
        if header.left < 4 or header.read(4) != b"GGUF":
            raise GGUFError(f"{path.name} is not a GGUF file")
        version = header.scalar("I")
        if version not in (2, 3):
            raise GGUFError(f"{path.name} is GGUF version {version}; 2 and 3 are known")
        header.scalar("Q")  # tensors, whose table follows the pairs
        pairs = header.scalar("Q")
        return {header.string(): header.value(header.scalar("I")) for _ in range(pairs)}


class _Header:
    """A file read from its start, which never asks for more than the file has: lengths in it may be wrong."""

    def __init__(self, file: BinaryIO, *, size: int) -> None:
        self._file = file
        self.left = size

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise GGUFError("the file ends inside its header")
        self.left -= size
        return self._file.read(size)

    def scalar(self, code: str) -> Any:
        return self._items(code, 1)[0]

    def string(self) -> str:
        return self.read(self.scalar("Q")).decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            item_kind, length = self.scalar("I"), self.scalar("Q")
            if item_kind in _SCALARS:
                return list(self._items(_SCALARS[item_kind], length))
            return [self.value(item_kind) for _ in range(length)]
        if kind not in _SCALARS:
            raise GGUFError(f"value type {kind} is not in the specification")
        return self.scalar(_SCALARS[kind])

    def _items(self, code: str, length: int) -> tuple[Any, ...]:
        data = self.read(length * struct.calcsize("<" + code))
        return struct.unpack(f"<{length}{code}", data)
