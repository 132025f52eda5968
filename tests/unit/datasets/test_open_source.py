from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
import zstandard

from bulkrate.datasets.source import SourceError, check_columns, open_source

ROW = b'{"a": 1}\n'


def refused(*arguments, **options) -> SourceError:
    with pytest.raises(SourceError) as caught:
        open_source(*arguments, **options)
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("t.csv", b"a\n1\n", "csv"),
        ("t.CSV", b"a\n1\n", "csv"),
        ("t.tsv", b"a\n1\n", "csv"),
        ("t.jsonl", ROW, "jsonl"),
        ("t.ndjson", ROW, "jsonl"),
        ("t.json", ROW, "jsonl"),
        ("t.json", b"[" + ROW + b"]", "jsonl"),
        ("t.jsonl.gz", gzip.compress(ROW, mtime=0), "jsonl"),
        ("t.jsonl.zst", zstandard.compress(ROW), "jsonl"),
        ("t.csv.gz", gzip.compress(b"a\n1\n", mtime=0), "csv"),
        ("t.json.zst", zstandard.compress(b"[" + ROW + b"]"), "jsonl"),
    ],
)
def test_format_by_extension(read, write, name, content, kind):
    path = write(name, content)
    assert open_source(path).format == kind
    assert len(read(path).good) == 1


def test_a_given_format_wins_over_the_extension(read, write):
    path = write("export.txt", b"a,b\n1,2\n")
    assert read(path, format="csv").rows == [{"a": "1", "b": "2"}]
    assert read(write("lines.json", b"[1]\n[2]\n"), format="jsonl").where == ["lines.json:1", "lines.json:2"]


def test_relative_to_base_and_globs_sorted(read, write, tmp_path):
    for name in ("b/2.jsonl", "a/10.jsonl", "a/1.jsonl", "a/note.txt", "a/deep/er/0.jsonl"):
        write(name, b'{"f": "%b"}\n' % name.encode())
    reading = read("**/*.jsonl", base=tmp_path)
    assert [row["f"] for row in reading.good] == ["a/1.jsonl", "a/10.jsonl", "a/deep/er/0.jsonl", "b/2.jsonl"]
    assert next(Path(where.split(":")[0]).name for where in reading.where) == "1.jsonl"
    listed = open_source(["b/*.jsonl", "a/1.jsonl", "b/2.jsonl"], base=tmp_path)
    assert [file.name for file in listed.files] == ["2.jsonl", "1.jsonl"]


def test_files_of_the_same_name_are_told_apart(read, write, tmp_path):
    write("x/part.jsonl", b"{\n")
    write("y/part.jsonl", b"{\n")
    assert read("*/part.jsonl", base=tmp_path).where == ["x/part.jsonl:1", "y/part.jsonl:1"]


def test_a_name_with_brackets_is_a_name_first(read, write, tmp_path):
    write("t[1].jsonl", ROW)
    assert read("t[1].jsonl", base=tmp_path).good == [{"a": 1}]


def test_refusals(write, tmp_path):
    write("tickets.csv", b"id,text\n1,x\n")
    assert refused("tickts.csv", base=tmp_path).code == "no_files"
    assert refused("tickts.csv", base=tmp_path).hint == "did you mean tickets.csv?"
    assert refused("no/where.csv", base=tmp_path).code == "no_files"
    assert refused("*.jsonl", base=tmp_path).code == "no_files"
    assert refused([], base=tmp_path).code == "no_files"
    assert refused(tmp_path).code == "is_a_folder"
    unknown = refused(write("t.xlsx", b"PK"))
    assert unknown.code == "unknown_format"
    assert ".xlsx" in unknown.message
    assert "parquet" in str(unknown.hint)
    assert refused(write("t", b"")).code == "unknown_format"
    assert "jsonl" in str(refused(write("t.csv", b"a\n"), format="jsonlines").hint)
    write("t.jsonl", ROW)
    assert refused("t*", base=tmp_path).code in ("mixed_formats", "unknown_format")
    assert refused(["tickets.csv", "t.jsonl"], base=tmp_path).code == "mixed_formats"
    write("1.json", ROW)
    write("2.json", b"\n[" + ROW + b"]")
    assert refused("?.json", base=tmp_path).code == "mixed_formats"
    assert refused(write("t.jsonl.gz", ROW)).code == "not_compressed"
    assert refused(write("t.csv.zst", b"a\n1\n")).code == "not_compressed"
    assert refused(write("t.parquet.gz", gzip.compress(b"x", mtime=0))).code == "unknown_format"


def test_snapshot_is_the_content(write, tmp_path):
    write("a.jsonl", ROW)
    write("b.jsonl", ROW)
    both = open_source("*.jsonl", base=tmp_path).snapshot()
    assert both == open_source(["a.jsonl", "b.jsonl"], base=tmp_path).snapshot()
    assert len(both) == 64
    assert both != open_source("a.jsonl", base=tmp_path).snapshot()
    # Rows may not wander between files unnoticed.
    one = open_source(write("c.jsonl", ROW + ROW)).snapshot()
    assert one != both
    write("b.jsonl", b'{"a": 2}\n')
    assert open_source("[ab].jsonl", base=tmp_path).snapshot() != both
    assert open_source(write("d.jsonl", ROW + ROW)).snapshot() == one


def test_check_columns(write):
    source = open_source(write("t.csv", b"id,text,language\n1,x,en\n"))
    check_columns(source, ["id", "text"])
    with pytest.raises(SourceError) as caught:
        check_columns(source, ["id", "langage"])
    assert caught.value.code == "missing_column"
    assert caught.value.message == "t.csv has no column 'langage'"
    assert caught.value.hint == "did you mean 'language'? columns: id, text, language"
    check_columns(open_source(write("t.jsonl", ROW)), ["anything"])


LINES = b"".join(b'{"n": %d, "pad": "%s"}\n' % (n, b"%x" % (n * 7919 % 65537)) for n in range(5_000))


def packed(kind: str, content: bytes) -> bytes:
    return gzip.compress(content, mtime=0) if kind == "gz" else zstandard.compress(content)


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_several_compressed_parts_in_one_file(read, write, kind):
    content = packed(kind, LINES[:1000]) + packed(kind, LINES[1000:])
    reading = read(write(f"t.jsonl.{kind}", content))
    assert [row["n"] for row in reading.good] == list(range(5_000))
    assert reading.codes == {}


@pytest.mark.parametrize("kind", ["gz", "zst"])
@pytest.mark.parametrize("share", [0.999, 0.6, 0.3])
def test_a_stream_that_ends_early_gives_what_came_before(read, write, kind, share):
    noise = b"".join(
        b'{"n": %d, "pad": "%s"}\n' % (n, hashlib.sha512(b"%d" % n).hexdigest().encode())
        for n in range(5_000)
    )
    whole = packed(kind, noise)
    reading = read(write(f"t.jsonl.{kind}", whole[: int(len(whole) * share)]))
    assert [row["n"] for row in reading.good] == list(range(len(reading.good)))
    assert len(reading.good) > 5_000 * (share - 0.3)
    assert list(reading.codes.values()) == ["truncated_stream"]
    assert reading.where[-1] == f"t.jsonl.{kind}:{len(reading.good) + 1}"


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_csv_stream_that_ends_early(read, write, kind):
    whole = packed(kind, b"id,text\n" + b"".join(b'%d,"%x"\n' % (n, n**20) for n in range(5_000)))
    reading = read(write(f"t.csv.{kind}", whole[:-20]))
    assert list(reading.codes.values()) == ["truncated_stream"]
    assert reading.rows[-1] is None
    assert len(reading.good) > 1_000


@pytest.mark.parametrize("kind", ["gz", "zst"])
def test_a_damaged_stream_is_a_problem(read, write, kind):
    whole = bytearray(packed(kind, LINES))
    whole[len(whole) // 2 :] = b"\xff" * (len(whole) - len(whole) // 2)
    codes = list(read(write(f"t.jsonl.{kind}", bytes(whole))).codes.values())
    assert codes[-1] in ("corrupt_stream", "truncated_stream")


def test_an_array_in_a_stream_that_ends_early(read, write):
    whole = gzip.compress(b"[" + LINES.strip().replace(b"\n", b",\n") + b"]")
    reading = read(write("t.json.gz", whole[:-2000]))
    assert list(reading.codes.values()) == ["truncated_stream"]
    assert len(reading.good) > 100
