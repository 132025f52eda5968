"""Whatever a sink writes, a source reads back: any text, any JSON, in any block size."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from bulkrate.datasets.csv_source import CsvSource
from bulkrate.datasets.json_array_source import JsonArraySource
from bulkrate.datasets.jsonl_source import JsonlSource
from bulkrate.datasets.sink import Column, open_sink
from bulkrate.datasets.source import open_source

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# The characters that quoting, escaping and line splitting are about, far more often than by chance.
HOSTILE = st.text(st.sampled_from("\",;|\t\r\n\0\\'\ufeff\u2028\u2029\x0b\x0c\x1c\x85 é😀a=")).filter(
    lambda t: "\0\0" not in t
)
CSV_TEXT = HOSTILE | TEXT.filter(lambda t: "\0\0" not in t)
NAMES = st.lists(CSV_TEXT.filter(lambda t: "\0" not in t), min_size=1, max_size=4, unique=True)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
    | HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def rows_of(path: Any, size: int) -> list[Any]:
    return [row for block in open_source(path).blocks(size) for row in block.rows]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[dict[str, str]]]:
    names = draw(NAMES)
    rows = draw(st.lists(st.tuples(*[CSV_TEXT] * len(names)), max_size=8))
    return names, [dict(zip(names, row, strict=True)) for row in rows]


@settings(max_examples=200, deadline=None)
@given(table=tables(), extension=st.sampled_from(["csv", "tsv", "csv.gz", "csv.zst"]), size=st.integers(1, 9))
def test_csv(tmp_path_factory, table, extension, size):
    names, rows = table
    path = tmp_path_factory.getbasetemp() / f"any.{extension}"
    sink = open_sink(path, [Column(name) for name in names])
    sink.write(rows)
    sink.commit()
    assert rows_of(path, size) == rows


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.dictionaries(TEXT, JSON, max_size=4), max_size=6),
    extension=st.sampled_from(["jsonl", "jsonl.gz", "jsonl.zst"]),
    size=st.integers(1, 9),
)
def test_jsonl(tmp_path_factory, rows, extension, size):
    path = tmp_path_factory.getbasetemp() / f"any.{extension}"
    sink = open_sink(path, [])
    sink.write(rows)
    sink.commit()
    assert rows_of(path, size) == rows


@settings(max_examples=50, deadline=None)
@given(values=st.lists(st.none() | TEXT | HOSTILE, max_size=8), size=st.integers(1, 9))
def test_parquet(tmp_path_factory, values, size):
    path = tmp_path_factory.getbasetemp() / "any.parquet"
    rows = [{"t": value} for value in values]
    sink = open_sink(path, [Column("t")])
    sink.write(rows)
    sink.commit()
    assert rows_of(path, size) == rows


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=200) | HOSTILE.map(str.encode), size=st.integers(1, 9))
def test_any_bytes_are_rows_or_problems(tmp_path_factory, content, size):
    for name, lead in (("any.jsonl", b""), ("any.csv", b"id,text\n"), ("any.json", b"[")):
        path = tmp_path_factory.getbasetemp() / name
        path.write_bytes(lead + content)
        for block in open_source(path).blocks(size):
            assert {i for i, row in enumerate(block.rows) if row is None} == set(block.problems)


MARKS = [
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\r\n",
    b"a",
    b"\xff",
    b"\0",
    b'{"a":1}',
    b"[",
    b"]",
    b"\\",
    b"\xc3",
    b"\xa9",
]


@settings(max_examples=300, deadline=None)
@given(
    content=st.lists(st.sampled_from(MARKS), max_size=40).map(b"".join),
    chunk_bytes=st.integers(1, 20),
    size=st.integers(1, 5),
)
def test_neither_chunks_nor_blocks_show(tmp_path_factory, content, chunk_bytes, size):
    path = tmp_path_factory.getbasetemp() / "any"
    for kind, lead in ((CsvSource, b"a,b\n"), (JsonlSource, b""), (JsonArraySource, b"[")):
        path.write_bytes(lead + content)
        readings = []
        for source, rows in (
            (kind([path], ["any"]), 100),
            (kind([path], ["any"], chunk_bytes=chunk_bytes), size),
        ):
            blocks = list(source.blocks(rows))
            readings.append(
                [
                    (row, where, block.problems.get(index))
                    for block in blocks
                    for index, (row, where) in enumerate(zip(block.rows, block.where, strict=True))
                ]
            )
        assert readings[0] == readings[1]
