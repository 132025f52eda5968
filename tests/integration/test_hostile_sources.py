"""Hostile inputs as sources: every row comes out as a row or as a problem, never as an exception.

The public sets are used where `shared/data` lies beside the checkout; the cases in this file are
always run, and are of the same kinds.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from bulkrate.datasets.content import key_of, row_hash
from bulkrate.datasets.sink import Column, open_sink
from bulkrate.datasets.source import Problem, SourceError, open_source

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def folder(name: str) -> Path:
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"shared/data/{name} is not there")
    return path


def outcome(path: Path, **options: Any) -> tuple[list[dict[str, Any]], dict[str, Problem]]:
    """Good rows, and problems by place; every row is one or the other."""
    good, problems, count = [], {}, 0
    for block in open_source(path, **options).blocks(7):
        count += len(block)
        for index, (row, where) in enumerate(zip(block.rows, block.where, strict=True)):
            if row is None:
                problems[where] = block.problems[index]
            else:
                row_hash(row)
                good.append(row)
    assert count == len(good) + len(problems)
    return good, problems


def lines_of(content: bytes) -> int:
    return sum(bool(line.strip(b" \t\r\n")) for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"))


# --- JSON documents: one per file, named as the suite names them -----------------------------------

DOCUMENTS = {
    "y_object": b'{"asd":"sdf", "dfg":"fgh"}',
    "y_object_duplicated_key": b'{"a":"b","a":"c"}',
    "y_object_escaped_null_in_key": b'{"foo\\u0000bar": 42}',
    "y_object_extreme_numbers": b'{ "min": -1.0e+28, "max": 1.0e+28 }',
    "y_object_with_newlines": b'{\n"a": "b"\n}',
    "y_array_empty": b"[]",
    "y_structure_lonely_string": b'"asd"',
    "n_array_unclosed": b'[""',
    "n_array_a_invalid_utf8": b"[a\xe5]",
    "n_number_NaN": b"[NaN]",
    "n_number_hex": b"[0x1]",
    "n_object_trailing_comma": b'{"id":0,}',
    "n_object_single_quote": b"{'a':0}",
    "n_object_unquoted_key": b"{a: 1}",
    "n_object_non_string_key": b"{1:1}",
    "n_object_trailing_comment": b'{"a":"b"}/**/',
    "n_object_unterminated_value": b'{"a":"a',
    "n_string_unescaped_ctrl_char": b'["a\x00a"]',
    "n_string_unescaped_newline": b'["new\nline"]',
    "n_structure_100000_opening_arrays": b"[" * 100_000,
    "n_structure_open_array_object": b'[{"":' * 50_000,
    "n_structure_no_data": b"",
    "n_structure_UTF8_BOM_no_data": b"\xef\xbb\xbf",
    "n_structure_null_byte_outside_string": b"[\x00]",
    "n_multidigit_number_then_00": b"123\x00",
    "i_object_key_lone_2nd_surrogate": b'{"\\uDFAA":0}',
    "i_string_UTF-16LE_with_BOM": '\ufeff["\u00e9"]'.encode("utf-16-le"),
    "i_structure_UTF-8_BOM_empty_object": b"\xef\xbb\xbf{}",
    "i_structure_500_nested_arrays": b"[" * 500 + b"]" * 500,
    "i_number_huge_exp": b"[0.4e" + b"0" * 500 + b"1]",
    "i_number_very_big_negative_int": b"[-237462374673276894279832749832423479823246327846]",
}


def documents() -> Iterator[tuple[str, bytes]]:
    yield from DOCUMENTS.items()
    for path in sorted((DATA / "jsontestsuite" / "test_parsing").glob("*.json")):
        yield path.stem, path.read_bytes()


@pytest.fixture(params=["built in", "jsontestsuite"])
def json_documents(request: pytest.FixtureRequest) -> dict[str, bytes]:
    if request.param == "built in":
        return DOCUMENTS
    files = sorted((folder("jsontestsuite") / "test_parsing").glob("*.json"))
    assert len(files) == 318
    return {path.stem: path.read_bytes() for path in files}


def test_each_document_as_a_file_of_lines(json_documents, tmp_path):
    accepted = 0
    for name, content in json_documents.items():
        path = tmp_path / "one.jsonl"
        path.write_bytes(content)
        good, problems = outcome(path)
        assert len(good) + len(problems) == lines_of(content), name
        if name.startswith("n_"):
            assert good == [], name
            assert len(problems) == lines_of(content), name
        one_line_object = content.lstrip().startswith(b"{") and b"\n" not in content.strip()
        if name.startswith("y_") and one_line_object:
            assert problems == {}, name
            assert good == [json.loads(content)], name
            accepted += 1
        if name.startswith("y_") and not content.lstrip().startswith(b"{"):
            # Valid JSON that is no object is no row, and is told apart from broken JSON.
            codes = {problem.code for problem in problems.values()}
            assert good == [], name
            if b"\n" not in content.strip():
                assert codes == {"not_an_object"}, name
    assert accepted >= 4


def test_each_document_as_a_json_file(json_documents, tmp_path):
    for name, content in json_documents.items():
        path = tmp_path / "one.json"
        path.write_bytes(content)
        good, problems = outcome(path)
        if name.startswith("n_"):
            assert good == [], name
        if name.startswith("n_") and content.strip(b" \t\r\n\xef\xbb\xbf"):
            assert problems, name


def test_each_document_as_a_value_of_its_own_line_in_one_file(json_documents, tmp_path):
    """The whole suite as one source: valid documents accepted, broken ones rejected with their line."""
    one_line = {
        name: content for name, content in json_documents.items() if b"\n" not in content.strip(b"\n")
    }
    path = tmp_path / "all.jsonl"
    path.write_bytes(
        b"".join(
            b'{"id":%s,"v":%s}\n' % (orjson.dumps(name), text.strip(b"\n")) for name, text in one_line.items()
        )
    )
    good, problems = outcome(path)
    assert len(good) + len(problems) == len(one_line)
    lines = {name: f"all.jsonl:{number}" for number, name in enumerate(one_line, 1)}
    accepted = {row["id"] for row in good}
    for name in one_line:
        if name.startswith("y_"):
            assert name in accepted, name
        elif name.startswith("n_"):
            assert lines[name] in problems, name
        assert (name in accepted) != (lines[name] in problems)
    values = {row["id"]: row["v"] for row in good}
    for name in accepted:
        if name.startswith("y_"):
            assert values[name] == json.loads(one_line[name]), name


def test_each_document_as_csv(json_documents, tmp_path):
    for content in json_documents.values():
        path = tmp_path / "one.csv"
        path.write_bytes(b"a,b\n" + content)
        outcome(path)
        path.write_bytes(content)
        try:
            outcome(path)
        except SourceError as error:
            assert error.code in ("missing_header", "undecodable", "duplicate_columns", "broken_header")


# --- naughty strings ------------------------------------------------------------------------------

STRINGS = [
    "",
    "undefined",
    "NULL",
    "007",
    "1E+02",
    "-0",
    "0x0",
    "=1+1",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    '"',
    '""',
    "'\"'",
    "a,b;c\td|e",
    "line\nfeed",
    "carriage\rreturn",
    "\r\n",
    " \u00a0\u2003",
    "\ufeff",
    "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e",
    "\x01\x02\x7f",
    "田中さんにあげて下さい",
    "👾 🙇 💁 👩‍👩‍👧‍👦 🇺🇸",
    "الكل في المجمو عة",
    "Z̮̞̠͙͔ͅḀ̗̞͈̻̗Ḷ͙͎̯̹̞͓G̻O̭̗̮",
    "{% raw %}{{ 7*7 }}",
    "%s%n$(touch /tmp/x)`id`",
    "\u202eright to left\u202c",
    "\uffff\ufffe",
]


@pytest.fixture(params=["built in", "blns"])
def naughty(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "built in":
        return STRINGS
    strings: list[str] = json.loads((folder("blns") / "blns.json").read_text(encoding="utf-8"))
    assert len(strings) > 400
    return strings


@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl", "csv.gz", "jsonl.zst", "parquet"])
def test_naughty_strings_come_back_exactly(naughty, tmp_path, extension):
    rows = [{"id": str(number), "text": text} for number, text in enumerate(naughty)]
    sink = open_sink(tmp_path / f"blns.{extension}", [Column("id"), Column("text")])
    sink.write(rows)
    sink.commit()
    good, problems = outcome(tmp_path / f"blns.{extension}")
    assert problems == {}
    assert good == rows


def test_naughty_strings_written_by_others(naughty, tmp_path):
    rows = [{"id": str(number), "text": text} for number, text in enumerate(naughty)]
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows)
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\r\n" for row in rows), encoding="utf-8")
    (tmp_path / "t.json").write_text(json.dumps(rows, ensure_ascii=False, indent=2), encoding="utf-8")
    for name in ("t.csv", "t.jsonl", "t.json"):
        assert outcome(tmp_path / name) == (rows, {}), name


def test_naughty_strings_as_keys(naughty):
    keys = [key_of({"id": text}, ["id"]) for text in naughty]
    digests = {key[1] for key in keys if not isinstance(key, Problem)}
    assert len(digests) == len(set(naughty) - {""})
    assert {key.code for key in keys if isinstance(key, Problem)} == {"empty_key"}


# --- byte sequences -------------------------------------------------------------------------------

SEQUENCES = [
    ("1", True, b"abc"),
    ("2", True, "©‐𝒜\u0080\uffff\U0010ffff".encode()),
    ("3", True, b"\x7f"),
    ("4", True, b"a\x00b"),
    ("5", False, b"\xf7\xbf\xbf\xbf"),
    ("6", False, b"\xf4\x90\x80\x80"),
    ("7", False, b"\xc0\xaf"),
    ("8", False, b"\xe0\x80\xaf"),
    ("9", False, b"\xed\xa0\x80"),
    ("10", False, b"\xed\xa0\x80\xed\xb0\x80"),
    ("11", False, b"\x80"),
    ("12", False, b"\xc2"),
    ("13", False, b"\xf0\x9d\x92"),
    ("14", False, b"\xfe\xff"),
    ("15", False, b"caf\xe9"),
    ("16", False, b"\xc2\x00"),
]


@pytest.fixture(params=["built in", "utf8tests"])
def sequences(request: pytest.FixtureRequest) -> list[tuple[str, bool, bytes]]:
    """(name, whether it is UTF-8, bytes)"""
    if request.param == "built in":
        return SEQUENCES
    path = folder("utf8tests")
    expected = {}
    for line in (path / "utf8tests.txt").read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            name, verdict, *_ = line.split(":")
            expected[name] = verdict.strip().startswith("valid")
    cases = []
    for raw in (path / "utf8tests.bin").read_bytes().splitlines():
        name_bytes, _, rest = raw.partition(b":")
        _, _, payload = rest.partition(b":")
        name = name_bytes.decode("ascii")
        cases.append((name, expected.pop(name), payload))
    assert expected == {}
    assert len(cases) > 200
    return cases


def check_sequences(path: Path, cases: list[tuple[str, bool, bytes]], first_line: int) -> None:
    good, problems = outcome(path)
    texts = {row["id"]: row["text"] for row in good}
    for number, (name, valid, payload) in enumerate(cases, first_line):
        where = f"{path.name}:{number}"
        if valid:
            assert texts[name] == payload.decode(), name
            assert where not in problems
        else:
            assert problems[where].code == "undecodable", name
            assert name not in texts
    assert len(good) + len(problems) == len(cases)


def test_byte_sequences_as_csv(sequences, tmp_path):
    path = tmp_path / "utf8.csv"
    path.write_bytes(
        b"id,text\n"
        + b"".join(b'%s,"%s"\n' % (name.encode(), raw.replace(b'"', b'""')) for name, _, raw in sequences)
    )
    check_sequences(path, sequences, 2)


def test_byte_sequences_as_jsonl(sequences, tmp_path):
    def escaped(raw: bytes) -> bytes:
        raw = raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b"".join(b"\\u%04x" % byte if byte < 32 else bytes([byte]) for byte in raw)

    path = tmp_path / "utf8.jsonl"
    path.write_bytes(
        b"".join(b'{"id":"%s","text":"%s"}\n' % (n.encode(), escaped(raw)) for n, _, raw in sequences)
    )
    check_sequences(path, sequences, 1)


def test_the_file_of_byte_sequences_as_it_is(tmp_path):
    raw = (folder("utf8tests") / "utf8tests.bin").read_bytes()
    path = tmp_path / "raw.csv"
    path.write_bytes(b"line\n" + raw)
    good, problems = outcome(path)
    assert len(good) + len(problems) == len(raw.splitlines())
    assert all(":valid:" in row["line"] for row in good)
    (tmp_path / "raw.jsonl").write_bytes(raw)
    assert outcome(tmp_path / "raw.jsonl")[0] == []
