from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkrate.datasets.json_array_source import JsonArraySource
from bulkrate.datasets.source import open_source

ROWS = [{"a": 1}, {"b": [1, {"c": '}],{"'}], "d": "\\"}, {}, {"e": "line\nend", "é": None}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("chunk_bytes", [1, 2, 5, 1 << 20])
def test_an_array_gives_its_items(read, write, indent, chunk_bytes):
    path = write(
        "t.json", ("\ufeff \n" + json.dumps(ROWS, indent=indent, ensure_ascii=False) + " \n\n").encode()
    )
    assert read(JsonArraySource([path], ["t.json"], chunk_bytes=chunk_bytes), size=3).rows == ROWS
    assert read(path).rows == ROWS


def test_a_json_file_of_lines_is_read_as_lines(read, write):
    path = write("t.json", b'{"a": 1}\n{"a": 2}\n')
    assert read(path).where == ["t.json:1", "t.json:2"]


def test_problems_carry_line_and_item(read, write):
    path = write("t.json", b'[\n{"a": 1},\n{"a" 2},\n\n7,\n{"a": "\xff"},\n{"a": 5}\n]\n')
    reading = read(path)
    assert reading.codes == {
        "t.json:3 item 2": "broken_json",
        "t.json:5 item 3": "not_an_object",
        "t.json:6 item 4": "undecodable",
    }
    assert reading.good == [{"a": 1}, {"a": 5}]


@pytest.mark.parametrize(
    ("content", "good", "codes"),
    [
        (b"[]", 0, []),
        (b"[ \n ]", 0, []),
        (b"", 0, []),
        (b"[", 0, ["truncated_json"]),
        (b'[{"a": 1}', 0, ["truncated_json"]),
        (b'[{"a": 1}, {"a"', 1, ["truncated_json"]),
        (b'[{"a": 1},]', 1, ["broken_json"]),
        (b'[{"a": 1},,{"a": 2}]', 2, ["broken_json"]),
        (b'[{"a": 1}] x', 1, ["broken_json"]),
        (b'[{"a": 1}][{"a": 2}]', 1, ["broken_json"]),
        (b'[{"a": "1}, {"a": 2}]', 0, ["truncated_json"]),
        (b'[{"a": 18446744073709551616}]', 0, ["number_out_of_range"]),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [1, 1 << 20])
def test_broken_arrays(read, write, content, good, codes, chunk_bytes):
    path = write("t.json", content)
    reading = read(JsonArraySource([path], ["t.json"], chunk_bytes=chunk_bytes))
    assert len(reading.good) == good
    assert list(reading.codes.values()) == codes


@pytest.mark.parametrize("filler", [b"x", b"\\\\", b"\\n", b'","x":"'])
def test_an_item_over_the_limit_is_one_problem(read, write, filler):
    path = write("t.json", b'[{"a": 1},\n{"a": "' + filler * 500 + b'"},\n{"a": 2}]')
    reading = read(JsonArraySource([path], ["t.json"], chunk_bytes=16, max_line_bytes=100))
    assert reading.codes == {"t.json:2 item 2": "line_too_long"}
    assert reading.good == [{"a": 1}, {"a": 2}]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
            st.recursive(
                st.none() | st.integers(-(2**63), 2**63) | st.text(st.characters(exclude_categories=["Cs"])),
                lambda inner: st.lists(inner, max_size=3),
                max_leaves=5,
            ),
            max_size=4,
        ),
        max_size=6,
    ),
    indent=st.sampled_from([None, 1]),
    chunk_bytes=st.integers(1, 40),
)
def test_any_array_comes_back(tmp_path_factory, rows, indent, chunk_bytes):
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(rows, indent=indent), encoding="utf-8")
    source = JsonArraySource([path], ["any.json"], chunk_bytes=chunk_bytes)
    assert [row for block in source.blocks(2) for row in block.rows] == rows
    assert open_source(path).format == "jsonl"
