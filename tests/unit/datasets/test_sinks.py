from __future__ import annotations

import csv
import gzip
import io
import json
import os
from array import array
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from bulkrate.datasets.arrow_values import embedding_type
from bulkrate.datasets.sink import Column, SinkError, check_path, copied_columns, open_sink
from bulkrate.datasets.source import open_source

COLUMNS = [
    Column("id"),
    Column("status"),
    Column("output", "json"),
    Column("error", "error"),
    Column("input_tokens", "integer"),
    Column("score", "number"),
    Column("cached", "boolean"),
]
ROWS = [
    {
        "id": "007",
        "status": "succeeded",
        "output": {"label": "é", "n": [1]},
        "error": None,
        "input_tokens": 12,
        "score": 0.5,
        "cached": True,
    },
    {
        "id": "8",
        "status": "failed",
        "output": None,
        "error": {"class": "refused", "message": 'no, "never"'},
        "input_tokens": None,
    },
    {"id": "=1+1", "status": "succeeded", "output": "plain text\nof two lines", "cached": False},
]


def filled(path, columns=COLUMNS, rows=ROWS):
    sink = open_sink(path, columns)
    sink.write(rows[:1])
    sink.write([])
    sink.write(rows[1:])
    return sink


def test_jsonl_keeps_values_as_they_are(tmp_path):
    filled(tmp_path / "o.jsonl").commit()
    lines = (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()
    names = [column.name for column in COLUMNS]
    assert [json.loads(line) for line in lines] == [{**dict.fromkeys(names), **row} for row in ROWS]
    assert list(json.loads(lines[1])) == names


def test_jsonl_keeps_what_is_not_a_column(tmp_path):
    sink = open_sink(tmp_path / "o.jsonl", [Column("id"), Column("status")])
    sink.write([{"note": [1], "id": 7}])
    sink.commit()
    assert (tmp_path / "o.jsonl").read_bytes() == b'{"id":7,"status":null,"note":[1]}\n'


def test_csv(tmp_path):
    filled(tmp_path / "o.csv").commit()
    content = (tmp_path / "o.csv").read_bytes()
    assert (
        content
        == (
            "id,status,output,error_class,error_message,input_tokens,score,cached\n"
            '007,succeeded,"{""label"":""é"",""n"":[1]}",,,12,0.5,true\n'
            '8,failed,,refused,"no, ""never""",,,\n'
            '=1+1,succeeded,"plain text\nof two lines",,,,,false\n'
        ).encode()
    )


def test_tsv(tmp_path):
    sink = open_sink(tmp_path / "o.tsv", [Column("a"), Column("b")])
    sink.write([{"a": "x,y", "b": "t\tt"}])
    sink.commit()
    assert (tmp_path / "o.tsv").read_bytes() == b'a\tb\nx,y\t"t\tt"\n'


def test_parquet(tmp_path):
    filled(tmp_path / "o.parquet").commit()
    table = pq.read_table(tmp_path / "o.parquet")
    assert table.schema.field("input_tokens").type == pa.int64()
    assert table.schema.field("output").type == pa.string()
    assert table.schema.field("error").type == pa.struct([("class", pa.string()), ("message", pa.string())])
    assert table.to_pylist() == [
        {**ROWS[0], "output": '{"label":"é","n":[1]}'},
        {**ROWS[1], "score": None, "cached": None},
        {**ROWS[2], "error": None, "input_tokens": None, "score": None},
    ]


def test_parquet_of_many_blocks(tmp_path):
    sink = open_sink(tmp_path / "o.parquet", [Column("n", "integer")])
    for start in range(0, 250_000, 10_000):
        sink.write([{"n": n} for n in range(start, start + 10_000)])
    sink.commit()
    file = pq.ParquetFile(tmp_path / "o.parquet")
    assert file.metadata.num_row_groups == 3
    assert file.read().column("n").to_pylist() == list(range(250_000))


@pytest.mark.parametrize("name", ["o.jsonl.gz", "o.csv.gz", "o.jsonl.zst", "o.csv.zst"])
def test_compressed(tmp_path, name):
    filled(tmp_path / name).commit()
    filled(tmp_path / name.rpartition(".")[0]).commit()
    content = (tmp_path / name).read_bytes()
    if name.endswith("gz"):
        inner = gzip.decompress(content)
    else:
        inner = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()
    assert inner == (tmp_path / name.rpartition(".")[0]).read_bytes()


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet", "o.jsonl.gz", "o.csv.zst"])
def test_in_place_only_after_commit(tmp_path, name):
    path = tmp_path / "made" / name
    sink = filled(path)
    assert not path.exists()
    sink.commit()
    first = path.read_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == [name]

    sink = open_sink(path, [Column("other")])
    sink.write([{"other": "x"}])
    sink.abort()
    sink.abort()
    assert path.read_bytes() == first
    assert [entry.name for entry in path.parent.iterdir()] == [name]

    # The same rows again give the same bytes: delivering twice is harmless.
    filled(path).commit()
    assert path.read_bytes() == first


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
def test_no_rows(tmp_path, name):
    open_sink(tmp_path / name, COLUMNS).commit()
    assert (tmp_path / name).exists()
    if name == "o.parquet":
        assert pq.read_table(tmp_path / name).num_rows == 0


@pytest.mark.parametrize("name", ["o.jsonl", "o.csv", "o.parquet"])
def test_answers_that_json_cannot_hold(tmp_path, read, name):
    odd = {"lone": "a\ud800b", "huge": 10**30, "not finite": [float("nan"), float("inf")], "\udc00": 1}
    sink = open_sink(tmp_path / name, [Column("id"), Column("output", "json")])
    sink.write([{"id": "1", "output": odd}, {"id": "2", "output": "pair \ud83d\ude00, half \ude00"}])
    sink.commit()
    if name == "o.jsonl":
        # Read with Python's parser: integers this long are refused by our own source.
        rows = [json.loads(line) for line in (tmp_path / name).read_text(encoding="utf-8").splitlines()]
        first = rows[0]["output"]
    else:
        rows = read(tmp_path / name).good
        first = json.loads(rows[0]["output"])
    assert first == {"lone": "a\ufffdb", "huge": 10**30, "not finite": [None, None], "\ufffd": 1}
    assert rows[1]["output"] == "pair 😀, half \ufffd"


def test_a_return_inside_a_value_is_quoted(tmp_path, read):
    rows = [{"a": "x\ry", "b": "1"}, {"a": "plain", "b": "2"}, {"a": "\r", "b": "\r\n"}]
    sink = open_sink(tmp_path / "o.csv", [Column("a"), Column("b")])
    sink.write(rows)
    sink.commit()
    assert read(tmp_path / "o.csv").rows == rows
    with (tmp_path / "o.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == rows


def test_through_a_symbolic_link(tmp_path):
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    filled(tmp_path / "link.jsonl").commit()
    assert (tmp_path / "link.jsonl").is_symlink()
    assert (tmp_path / "real.jsonl").read_bytes().startswith(b'{"id":"007"')


def test_refusals(tmp_path):
    def refused(name, columns=COLUMNS, **options):
        with pytest.raises(SinkError) as caught:
            open_sink(tmp_path / name, columns, **options)
        return caught.value

    assert refused("o.xlsx").code == "unknown_format"
    assert "parquet" in str(refused("o.xlsx").hint)
    assert "did you mean jsonl" in str(refused("o.json").hint)
    assert refused("o").code == "unknown_format"
    assert refused("o.parquet.gz").code == "unknown_format"
    assert refused("o.csv", [Column("a"), Column("a")]).code == "duplicate_columns"
    assert refused("o.csv", [Column("error", "error"), Column("error_class")]).code == "duplicate_columns"
    (tmp_path / "file").write_text("")
    assert refused("file/o.csv").code == "sink"
    (tmp_path / "folder.csv").mkdir()
    assert refused("folder.csv").code == "sink"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.csv"]


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    pipe, loop = tmp_path / "pipe.jsonl", tmp_path / "loop.jsonl"
    os.mkfifo(pipe)
    (tmp_path / "link.jsonl").symlink_to(pipe)
    loop.symlink_to(loop)
    for path in (pipe, tmp_path / "link.jsonl", loop):
        with pytest.raises(SinkError):
            check_path(path)
        with pytest.raises(SinkError):
            open_sink(path, [Column("a", "string")])
    with pytest.raises(SinkError, match="a device"):
        check_path(Path("/dev/null"), "jsonl")
    assert pipe.is_fifo()


def test_a_name_as_long_as_a_name_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 124 + ".jsonl")
    check_path(path)
    sink = open_sink(path, [Column("a", "string")])
    sink.write([{"a": "x"}])
    sink.commit()
    assert path.read_text() == '{"a":"x"}\n'
    with pytest.raises(ValueError, match="texte"):
        open_sink(tmp_path / "o.csv", [Column("a", "texte")])


@pytest.mark.parametrize("kind", ["integer", "number", "boolean", "error", pa.date32(), pa.list_(pa.int64())])
def test_a_value_of_another_type_names_the_column_and_not_the_value(tmp_path, kind):
    sink = open_sink(tmp_path / "o.parquet", [Column("n", kind)])
    with pytest.raises(SinkError) as caught:
        sink.write([{"n": "secret"}])
    sink.abort()
    assert "'n'" in caught.value.message
    assert "secret" not in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_copied_columns(tmp_path, write):
    text = open_source(write("t.csv", b"id,text\n1,x\n"))
    assert copied_columns(text) == (Column("id", "string"), Column("text", "string"))
    lines = open_source(write("t.jsonl", b'{"b": 1}\n{"a": 2, "b": 3}\n[]\n{"c": 4}\n'))
    assert copied_columns(lines) == (Column("b", "json"), Column("a", "json"), Column("c", "json"))
    assert copied_columns(lines, ["a"]) == (Column("a", "json"),)
    pq.write_table(
        pa.table({"n": pa.array([1], pa.int8()), "d": pa.array([0], pa.date32())}), tmp_path / "t.parquet"
    )
    table = open_source(tmp_path / "t.parquet")
    assert copied_columns(table, ["d", "n"]) == (Column("d", pa.date32()), Column("n", pa.int8()))


# -- embeddings ----------------------------------------------------------------------------------------------

VECTORS = [array("f", [0.1, -2.0, 3e-8]), None, array("f", [1.0, 2.0, 3.0])]


@pytest.mark.parametrize("size", [3, -1])
def test_embeddings_are_lists_of_32_bit_floats_in_parquet(tmp_path, size):
    path = tmp_path / "a.parquet"
    sink = open_sink(path, [Column("id"), Column("output", pa.list_(pa.float32(), size))])
    sink.write([{"id": str(n), "output": vector} for n, vector in enumerate(VECTORS)])
    sink.write([{"id": "3", "output": None}])
    sink.commit()
    column = pq.read_table(path)["output"]
    assert column.type == pa.list_(pa.float32(), size)
    assert column.null_count == 2
    assert [None if v is None else array("f", v) for v in column.to_pylist()] == [*VECTORS, None]


def test_embeddings_of_several_sizes_have_a_place_too(tmp_path):
    path = tmp_path / "a.parquet"
    sink = open_sink(path, [Column("output", embedding_type({2, 3}))])
    sink.write([{"output": array("f", [1, 2, 3])}, {"output": array("f", [1, 2])}])
    sink.commit()
    assert pq.read_table(path)["output"].to_pylist() == [[1, 2, 3], [1, 2]]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_embeddings_are_short_decimals_in_text(tmp_path, name):
    sink = open_sink(tmp_path / name, [Column("output", embedding_type({3}))])
    sink.write([{"output": VECTORS[0]}])
    sink.commit()
    assert "[0.100000001,-2.0,2.99999989e-8]" in (tmp_path / name).read_text().replace('""', '"')


def test_an_embedding_of_another_size_is_no_row_of_the_column(tmp_path):
    sink = open_sink(tmp_path / "a.parquet", [Column("output", embedding_type({3}))])
    with pytest.raises(SinkError, match="output"):
        sink.write([{"output": array("f", [1, 2])}, {"output": array("f", [1, 2, 3, 4])}])
    sink.abort()
