from __future__ import annotations

import orjson
import pytest

from bulkrate.datasets.jsonl_source import MAX_DEPTH, JsonlSource
from bulkrate.datasets.source import open_source


def test_every_line_that_is_not_blank_is_a_row(read, write):
    path = write("t.jsonl", b'\n{"a": 1}\r\n\n  \t\r\n{"a": [1, {"b": null}]}\n{}')
    reading = read(path)
    assert reading.rows == [{"a": 1}, {"a": [1, {"b": None}]}, {}]
    assert reading.where == ["t.jsonl:2", "t.jsonl:5", "t.jsonl:6"]


BAD = [
    (b'{"a": ', "broken_json"),
    (b'{"a": 1} {"a": 2}', "broken_json"),
    (b"{'a': 1}", "broken_json"),
    (b'{"a": NaN}', "broken_json"),
    (b'{"a": Infinity}', "broken_json"),
    (b'{"a": -Infinity}', "broken_json"),
    (b'{"a": "\x01"}', "broken_json"),
    (b'{"a": 1}\0', "broken_json"),
    (b"\0\0\0\0", "broken_json"),
    (b"[1]", "not_an_object"),
    (b'"text"', "not_an_object"),
    (b"null", "not_an_object"),
    (b'{"a": "\xff"}', "undecodable"),
    (b'{"a": "\xed\xa0\x80"}', "undecodable"),
    (b'{"a": "\xc0\xaf"}', "undecodable"),
    (b'{"a": "\\ud800"}', "lone_surrogate"),
    (b'{"a": "\\udc00 x"}', "lone_surrogate"),
    (b'{"\\ud83d": 1}', "lone_surrogate"),
    (b'{"a": 18446744073709551616}', "number_out_of_range"),
    (b'{"a": [{"b": -9223372036854775809}]}', "number_out_of_range"),
    (b'{"a": 1' + b"0" * 5000 + b"}", "number_out_of_range"),
    (b'{"a": 1e999}', "number_out_of_range"),
    (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "too_deep"),
    (b'{"a":' * 300 + b"1" + b"}" * 300, "too_deep"),
    (b"[" * 100_000, "too_deep"),
]


@pytest.mark.parametrize(("line", "code"), BAD)
def test_a_bad_line_is_a_problem_with_its_line(read, write, line, code):
    reading = read(write("t.jsonl", b'{"a": 1}\n' + line + b'\n{"a": 2}\n'))
    assert reading.codes == {"t.jsonl:2": code}
    assert reading.rows == [{"a": 1}, None, {"a": 2}]


def test_all_bad_lines_in_one_file(read, write):
    reading = read(write("t.jsonl", b"\n".join(line for line, _ in BAD)), size=4)
    assert list(reading.codes.values()) == [code for _, code in BAD]
    assert reading.where == [f"t.jsonl:{n + 1}" for n in range(len(BAD))]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (b'{"a": 18446744073709551615, "b": -9223372036854775808}', {"a": 2**64 - 1, "b": -(2**63)}),
        (b'{"a": 1e19, "b": -1.5e300}', {"a": 1e19, "b": -1.5e300}),
        (b'{"a": 123456789012345678.5}', {"a": 123456789012345678.5}),
        (b'{"id": "123456789012345678901234567890"}', {"id": "123456789012345678901234567890"}),
        (b'{"a": 1e19, "id": "123456789012345678901234567890"}', {"a": 1e19, "id": "1234567890" * 3}),
        (b'{"a": "\\u0000\\ud83d\\ude00"}', {"a": "\0😀"}),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b'{"": ""}', {"": ""}),
        (b'{"a": ' + b"[" * 150 + b"]" * 150 + b"}", {"a": orjson.loads(b"[" * 150 + b"]" * 150)}),
    ],
)
def test_odd_but_good_lines(read, write, line, row):
    assert read(write("t.jsonl", line + b"\n")).rows == [row]


def test_byte_order_mark_on_the_first_line_only(read, write):
    reading = read(write("t.jsonl", b'\xef\xbb\xbf{"a": 1}\n\xef\xbb\xbf{"a": 2}\n'))
    assert reading.good == [{"a": 1}]
    assert reading.codes == {"t.jsonl:2": "broken_json"}


def test_messages_hold_no_content(read, write):
    lines = [b'{"secret": secret', b'["secret"]', b'{"secret": "\xffsecret"}', b'{"secret": "\\ud800secret"}']
    reading = read(write("t.jsonl", b"\n".join(lines)))
    assert len(reading.messages) == 4
    assert not [message for message in reading.messages if "secret" in message]


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 64])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_size_of_chunks_does_not_show(read, write, chunk_bytes, size):
    content = '\ufeff{"a":"é"}\r\n\n{"a":2}\n[]\n\n\n{"a":"✓"}\n{"a"\n{"a":5}'.encode()
    path = write("t.jsonl", content)
    reading = read(JsonlSource([path], ["t.jsonl"], chunk_bytes=chunk_bytes), size=size)
    assert reading.rows == [{"a": "é"}, {"a": 2}, None, {"a": "✓"}, None, {"a": 5}]
    assert reading.where == [f"t.jsonl:{n}" for n in (1, 3, 4, 7, 8, 9)]


@pytest.mark.parametrize("chunk_bytes", [16, 64])
def test_a_line_over_the_limit_is_one_problem(read, write, chunk_bytes):
    long = b'{"a": "' + b"x" * 500 + b'"}'
    path = write("t.jsonl", b'{"a": 1}\n' + long + b'\n{"a": 2}\n' + long + b"\n" + long)
    reading = read(JsonlSource([path], ["t.jsonl"], chunk_bytes=chunk_bytes, max_line_bytes=100))
    assert reading.codes == {f"t.jsonl:{n}": "line_too_long" for n in (2, 4, 5)}
    assert reading.good == [{"a": 1}, {"a": 2}]


def test_an_empty_file_has_no_rows(read, write):
    assert read(write("t.jsonl", b"")).rows == []
    assert read(write("u.jsonl", b"\n\n \n")).rows == []


def test_blocks_fill_across_files(read, write):
    write("a.jsonl", b'{"n": 0}\n{"n": 1}\n{"n": 2}\n')
    write("b.jsonl", b"")
    path = write("c.jsonl", b'{"n": 3}\n\n{"n": 4}')
    source = open_source(path.parent / "*.jsonl")
    reading = read(source, size=2)
    assert [row["n"] for row in reading.good] == [0, 1, 2, 3, 4]
    assert reading.where == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3", "c.jsonl:1", "c.jsonl:3"]
    assert source.columns() is None
