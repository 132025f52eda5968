"""Rows handed over unparsed are the rows of the source, whatever the lines and the chunks."""

from __future__ import annotations

import pickle
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bulkrate.datasets.block import Block
from bulkrate.datasets.jsonl_source import JsonlSource
from bulkrate.datasets.source import portions

LINES = st.sampled_from(
    [
        b'{"a":1}',
        b'{"a":"\xc3\xa9"}',
        b"",
        b"  ",
        b"\t\r",
        b"\x0b",
        b"[1]",
        b"broken",
        b"\xff",
        b'{"a":' + b"9" * 30 + b"}",
    ]
)


def flat(blocks: list[Block]) -> list[object]:
    return [
        (block.first + index, row, block.problems.get(index), block.where[index])
        for block in blocks
        for index, row in enumerate(block.rows)
    ]


@given(
    first=st.lists(LINES, max_size=30),
    second=st.lists(LINES, max_size=30),
    bom=st.booleans(),
    end=st.booleans(),
    size=st.integers(1, 7),
    chunk=st.integers(4, 60),
)
def test_portions_hold_the_same_rows(
    tmp_path_factory: object,
    first: list[bytes],
    second: list[bytes],
    bom: bool,
    end: bool,
    size: int,
    chunk: int,
) -> None:
    folder: Path = tmp_path_factory.mktemp("lines")
    paths = [folder / "1.jsonl", folder / "2.jsonl"]
    paths[0].write_bytes((b"\xef\xbb\xbf" if bom else b"") + b"\n".join(first) + (b"\n" if end else b""))
    paths[1].write_bytes(b"\n".join(second))
    source = JsonlSource(paths, ["1", "2"], chunk_bytes=chunk, max_line_bytes=25)
    blocks: list[Block] = []
    for portion in portions(source, size):
        mine = list(pickle.loads(pickle.dumps(portion)).blocks(3))
        assert mine[0].first == portion.first
        assert portion.first // size == (portion.first + sum(map(len, mine)) - 1) // size
        blocks += mine
    assert flat(blocks) == flat(list(source.blocks(4)))
