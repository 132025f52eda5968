from __future__ import annotations

import struct
from pathlib import Path

import pytest

from bulkrate.tokens.gguf import GGUFError, read_metadata


def string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf(*pairs: bytes, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs)) + b"".join(pairs)


PAIRS = (
    string("name") + struct.pack("<I", 8) + string("Smöl"),
    string("count") + struct.pack("<II", 4, 7),
    string("ratio") + struct.pack("<Id", 12, 0.5),
    string("flag") + struct.pack("<I?", 7, True),
    string("kinds") + struct.pack("<IIQ3i", 9, 5, 3, 1, -2, 3),
    string("words") + struct.pack("<IIQ", 9, 8, 2) + string("a") + string(""),
)


def test_all_kinds_of_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(*PAIRS) + b"tensors follow")
    assert read_metadata(path) == {
        "name": "Smöl",
        "count": 7,
        "ratio": 0.5,
        "flag": True,
        "kinds": [1, -2, 3],
        "words": ["a", ""],
    }


@pytest.mark.parametrize("length", range(len(gguf(*PAIRS))))
def test_a_file_cut_short_is_an_error(tmp_path: Path, length: int) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf(*PAIRS)[:length])
    with pytest.raises(GGUFError):
        read_metadata(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04 something else", "model.gguf is not a GGUF file"),
        (gguf(version=1), "GGUF version 1; 2 and 3 are known"),
        (gguf(string("k") + struct.pack("<I", 99)), "value type 99"),
        (gguf(string("k") + struct.pack("<I", 8) + struct.pack("<Q", 1 << 60)), "ends inside its header"),
        (gguf(string("k") + struct.pack("<IIQ", 9, 4, 1 << 60)), "ends inside its header"),
    ],
)
def test_what_is_not_a_header_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(GGUFError, match=message):
        read_metadata(path)
