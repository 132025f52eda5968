from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from bulkrate.datasets.sink import Column, open_sink
from bulkrate.datasets.source import SourceError, open_source

T0 = dt.datetime(2024, 1, 2, 3, 4, 5)

# column type, values in Arrow, values as a source gives them
VALUES = [
    (pa.string(), ["a", "", None], ["a", "", None]),
    (pa.large_string(), ["a", None], ["a", None]),
    (pa.string_view(), ["a", None], ["a", None]),
    (pa.int8(), [1, None], [1, None]),
    (pa.uint64(), [2**64 - 1, None], [2**64 - 1, None]),
    (pa.bool_(), [True, None], [True, None]),
    (pa.null(), [None], [None]),
    (pa.float64(), [1.5, None], [1.5, None]),
    (pa.float32(), [float("inf"), float("-inf"), 0.5], ["Infinity", "-Infinity", 0.5]),
    (
        pa.timestamp("us"),
        [T0, T0.replace(microsecond=600), None],
        ["2024-01-02T03:04:05", "2024-01-02T03:04:05.000600", None],
    ),
    (pa.timestamp("s"), [T0], ["2024-01-02T03:04:05"]),
    (pa.timestamp("ns"), [1704164645000000001], ["2024-01-02T03:04:05.000000001"]),
    (pa.timestamp("ms", "Europe/Berlin"), [T0.replace(tzinfo=dt.UTC)], ["2024-01-02T03:04:05Z"]),
    (pa.date32(), [dt.date(2024, 1, 2), None], ["2024-01-02", None]),
    (pa.date64(), [dt.date(2024, 1, 2), None], ["2024-01-02", None]),
    (pa.time32("s"), [dt.time(1, 2, 3), None], ["01:02:03", None]),
    (pa.time64("us"), [dt.time(1, 2, 3, 500000)], ["01:02:03.500000"]),
    (pa.time64("ns"), [dt.time(1, 2, 3, 5)], ["01:02:03.000005000"]),
    (pa.duration("ms"), [dt.timedelta(seconds=2), None], [2000, None]),
    (pa.decimal128(10, 2), [Decimal("12.50"), None], ["12.50", None]),
    (pa.binary(), [b"\xff\x00", b"", None], ["/wA=", "", None]),
    (pa.binary(2), [b"\xff\x00", None], ["/wA=", None]),
    (pa.list_(pa.int64()), [[1, None], [], None], [[1, None], [], None]),
    (pa.large_list(pa.string()), [["a"], None], [["a"], None]),
    (pa.list_(pa.date32(), 2), [[dt.date(2024, 1, 2), None], None], [["2024-01-02", None], None]),
    (pa.list_(pa.list_(pa.timestamp("s"))), [[[T0], None], None], [[["2024-01-02T03:04:05"], None], None]),
    (
        pa.struct([("t", pa.timestamp("s")), ("x", pa.struct([("b", pa.binary())]))]),
        [{"t": T0, "x": {"b": b"\xff"}}, {"t": None, "x": None}, None],
        [{"t": "2024-01-02T03:04:05", "x": {"b": "/w=="}}, {"t": None, "x": None}, None],
    ),
    (
        pa.map_(pa.string(), pa.date32()),
        [[("k", dt.date(2024, 1, 2))], [], None],
        [{"k": "2024-01-02"}, {}, None],
    ),
    (pa.map_(pa.int32(), pa.float64()), [[(7, 0.5)], None], [{"7": 0.5}, None]),
]


@pytest.mark.parametrize(("kind", "values", "plain"), VALUES, ids=[str(kind) for kind, _, _ in VALUES])
def test_values_become_plain_and_come_back(read, tmp_path, kind, values, plain):
    column = pa.array(values, kind)
    # A neighbour before and after, cut off: slices must not leak.
    table = pa.table({"v": pa.concat_arrays([column, column, column]).slice(len(values), len(values))})
    path = tmp_path / "t.arrow"
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    reading = read(path)
    assert [row["v"] for row in reading.good] == plain
    assert [row["v"] for row in read(path, size=1).good] == plain

    source = open_source(path)
    sink = open_sink(tmp_path / "out.parquet", [Column("v", source.schema.field("v").type)])
    sink.write(reading.good)
    sink.commit()
    back = pq.read_table(tmp_path / "out.parquet").column("v")
    assert [row["v"] for row in read(tmp_path / "out.parquet").good] == plain
    if kind not in (
        pa.string_view(),
        pa.date64(),
        pa.timestamp("s"),
        pa.time32("s"),
    ) and not pa.types.is_nested(kind):
        assert back.type == kind
        assert (
            back.to_pylist() == column.to_pylist()
            if kind != pa.timestamp("ns")
            else back.equals(pa.chunked_array([column]))
        )


def test_nan_is_null(read, tmp_path):
    pq.write_table(pa.table({"v": [1.0, float("nan"), None]}), tmp_path / "t.parquet")
    assert [row["v"] for row in read(tmp_path / "t.parquet").good] == [1.0, None, None]


def test_dictionaries_and_uuids(read, tmp_path):
    labels = pa.array(["x", "y", None, "x"]).dictionary_encode()
    ids = pa.ExtensionArray.from_storage(
        pa.uuid(), pa.array([b"0123456789abcdef"] * 3 + [None], pa.binary(16))
    )
    pq.write_table(pa.table({"label": labels, "id": ids}), tmp_path / "t.parquet")
    reading = read(tmp_path / "t.parquet")
    assert [row["label"] for row in reading.good] == ["x", "y", None, "x"]
    assert reading.good[0]["id"] == "30313233-3435-3637-3839-616263646566"
    source = open_source(tmp_path / "t.parquet")
    sink = open_sink(tmp_path / "o.parquet", [Column(f.name, f.type) for f in source.schema])
    sink.write(reading.good)
    sink.commit()
    assert read(tmp_path / "o.parquet").rows == reading.rows


@pytest.mark.parametrize("layout", ["file", "stream", "feather", "parquet"])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_layouts_and_blocks(read, tmp_path, layout, size):
    table = pa.table({"n": list(range(50)), "t": [f"row {n}" for n in range(50)]})
    path = tmp_path / (
        "t.parquet" if layout == "parquet" else "t.feather" if layout == "feather" else "t.arrow"
    )
    if layout == "parquet":
        pq.write_table(table, path, row_group_size=20)
    elif layout == "feather":
        pyarrow.feather.write_feather(table, path, compression="zstd", chunksize=20)
    else:
        new = pa.ipc.new_file if layout == "file" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as out, new(out, table.schema) as writer:
            writer.write_table(table, max_chunksize=20)
    reading = read(path, size=size)
    assert reading.rows == table.to_pylist()
    assert reading.where[0] == f"{path.name} row 1"
    assert reading.where[-1] == f"{path.name} row 50"
    assert open_source(path).columns() == ("n", "t")
    assert open_source(path).format == ("parquet" if layout == "parquet" else "arrow")


def test_text_that_is_not_utf8_is_a_problem_of_its_row(read, tmp_path):
    bad = pa.array([b"ok", b"\xff\xfe", b"fine", b"\xed\xa0\x80"]).view(pa.string())
    nested = pa.StructArray.from_arrays([bad.take(pa.array([0, 0, 1, 0]))], ["x"])
    pq.write_table(pa.table({"t": bad, "s": nested}), tmp_path / "t.parquet")
    reading = read(tmp_path / "t.parquet", size=3)
    assert reading.codes == {f"t.parquet row {n}": "undecodable" for n in (2, 3, 4)}
    assert reading.good == [{"t": "ok", "s": {"x": "ok"}}]


def test_a_damaged_row_group_gives_all_its_rows_as_problems(read, tmp_path):
    path = tmp_path / "t.parquet"
    table = pa.table({"t": [f"row {n} {n**9}" for n in range(3000)]})
    pq.write_table(table, path, row_group_size=1000, write_page_checksum=True, use_dictionary=False)
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    content = bytearray(path.read_bytes())
    middle = column.data_page_offset + column.total_compressed_size // 2
    content[middle : middle + 50] = b"\xff" * 50
    path.write_bytes(content)
    reading = read(path, size=700)
    assert len(reading.rows) == 3000
    assert set(reading.codes.values()) == {"corrupt_data"}
    assert set(reading.codes) == {f"t.parquet row {n}" for n in range(1001, 2001)}


def test_an_arrow_stream_that_ends_early(read, tmp_path):
    path = tmp_path / "t.arrow"
    table = pa.table({"n": list(range(3000))})
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)
    path.write_bytes(path.read_bytes()[:-4000])
    reading = read(path)
    assert [row["n"] for row in reading.good] == list(range(2000))
    assert reading.codes == {"t.arrow row 2001": "truncated_stream"}


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.feather"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1 not really PAR1", b"ARROW1\0\0 no", b"\xff" * 100])
def test_files_that_are_something_else(write, name, content):
    with pytest.raises(SourceError) as caught:
        open_source(write(name, content))
    assert caught.value.code in ("unreadable_parquet", "unreadable_arrow")
    assert name in caught.value.message


def test_columns_of_several_files(read, tmp_path):
    pq.write_table(pa.table({"a": pa.array([1], pa.int32()), "b": ["x"]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": ["y"], "a": pa.array([2], pa.int64())}), tmp_path / "2.parquet")
    source = open_source("*.parquet", base=tmp_path)
    assert read(source).rows == [{"a": 1, "b": "x"}, {"b": "y", "a": 2}]
    assert source.schema.field("a").type == pa.int64()
    pq.write_table(pa.table({"a": [3], "c": ["z"]}), tmp_path / "3.parquet")
    with pytest.raises(SourceError) as caught:
        open_source("*.parquet", base=tmp_path)
    assert caught.value.code == "different_columns"
    pq.write_table(pa.table({"a": [[3]], "b": ["z"]}), tmp_path / "3.parquet")
    with pytest.raises(SourceError) as caught:
        open_source("*.parquet", base=tmp_path)
    assert caught.value.code == "different_columns"


def test_duplicate_columns(tmp_path):
    table = pa.table([pa.array([1]), pa.array([2])], names=["a", "a"])
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(SourceError) as caught:
        open_source(tmp_path / "t.arrow")
    assert caught.value.code == "duplicate_columns"
