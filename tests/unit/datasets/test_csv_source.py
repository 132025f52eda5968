from __future__ import annotations

import csv

import pytest

from bulkrate.datasets.csv_source import CsvSource
from bulkrate.datasets.source import SourceError, open_source


def test_values_stay_text(read, write):
    path = write("t.csv", b"id,amount,flag\n007,1.50,true\n008,,NULL\n")
    assert read(path).rows == [
        {"id": "007", "amount": "1.50", "flag": "true"},
        {"id": "008", "amount": "", "flag": "NULL"},
    ]


def test_where_is_the_physical_line(read, write):
    path = write("t.csv", b'id,text\n1,"two\nlines"\n\n2,x\n\n\n3,"a\r\nb\r\nc"\n4,y')
    reading = read(path)
    assert reading.where == ["t.csv:2", "t.csv:5", "t.csv:8", "t.csv:11"]
    assert [row["id"] for row in reading.good] == ["1", "2", "3", "4"]
    assert reading.good[2]["text"] == "a\r\nb\r\nc"


def test_bad_rows_do_not_stop_the_good_ones(read, write):
    path = write(
        "t.csv",
        b"id,text\n1,ok\n2,a,b\n3\n4,\xff\xfe\n5,ok\n"
        b'6,"x"y\n7,ok\n8,"begins\nhere" and breaks\n9,ok\n10,\0\0\0\n11,one \0 is text\n',
    )
    reading = read(path)
    assert [row["id"] for row in reading.good] == ["1", "5", "7", "9", "11"]
    assert reading.codes == {
        "t.csv:3": "wrong_column_count",
        "t.csv:4": "wrong_column_count",
        "t.csv:5": "undecodable",
        "t.csv:7": "broken_quoting",
        "t.csv:9": "broken_quoting",
        "t.csv:12": "nul_bytes",
    }


def test_a_quote_that_never_ends_names_the_line_where_it_began(read, write):
    reading = read(write("t.csv", b'id,text\n1,ok\n2,"never\n3,x\n4,y\n'))
    assert reading.codes == {"t.csv:3": "unterminated_quote"}
    assert "line 3" in reading.messages[0]
    assert len(reading.rows) == 2


def test_messages_hold_no_content(read, write):
    path = write(
        "t.csv", b'id,text\nsecret,secret,secret\nsecret,"secret"secret\nsecret,\xffsecret\nx,"secret'
    )
    assert not [message for message in read(path).messages if "secret" in message]


def test_byte_order_mark_and_crlf(read, write):
    path = write("t.csv", b"\xef\xbb\xbfid,text\r\n1,x\r\n")
    assert read(path).rows == [{"id": "1", "text": "x"}]


def test_old_mac_line_ends(read, write):
    path = write("t.csv", b"id,text\r1,x\r2,y\r")
    for chunk_bytes in (1, 3, 8, 1 << 20):
        reading = read(CsvSource([path], ["t.csv"], chunk_bytes=chunk_bytes))
        assert reading.rows == [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_found_in_the_header(read, write, delimiter):
    header, row = delimiter.join(["id", "text", "n"]), delimiter.join(["1", "a", "2"])
    path = write("t.csv", f"{header}\n{row}\n".encode())
    assert read(path).rows == [{"id": "1", "text": "a", "n": "2"}]


def test_delimiters_inside_a_quoted_name_do_not_count(read, write):
    path = write("t.csv", b'"a;b;c;d",e\n1,2\n')
    assert read(path).rows == [{"a;b;c;d": "1", "e": "2"}]


def test_tsv_is_split_at_tabs_whatever_the_header_holds(read, write):
    path = write("t.tsv", b"a,b\tc\n1,2\t3\n")
    assert read(path).rows == [{"a,b": "1,2", "c": "3"}]
    assert open_source(path).format == "csv"


def test_a_single_column(read, write):
    path = write("t.csv", b'text\nhello\n""\nworld\n')
    assert read(path).rows == [{"text": "hello"}, {"text": ""}, {"text": "world"}]


def test_header_over_several_lines_and_blank_lines_before_it(read, write):
    path = write("t.csv", b'\n\r\nid,"long\nname"\n1,x\n')
    reading = read(path)
    assert reading.rows == [{"id": "1", "long\nname": "x"}]
    assert reading.where == ["t.csv:5"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "missing_header"),
        (b"\n\n", "missing_header"),
        (b"\xef\xbb\xbf", "missing_header"),
        (b"id,id\n1,2\n", "duplicate_columns"),
        (b"id,\xff\n1,2\n", "undecodable"),
        ("id,text\n1,x\n".encode("utf-16"), "undecodable"),
        ("id,text\n1,x\n".encode("utf-16-le"), "undecodable"),
        (b'id,"text', "broken_header"),
    ],
)
def test_unusable_headers(write, content, code):
    with pytest.raises(SourceError) as caught:
        open_source(write("t.csv", content))
    assert caught.value.code == code
    assert "t.csv" in caught.value.message


def test_files_of_a_glob_may_order_their_columns_differently(read, write):
    write("a.csv", b"id,text\n1,x\n")
    path = write("b.csv", b"text;id\ny;2\n")
    source = open_source(path.parent / "*.csv")
    assert source.columns() == ("id", "text")
    assert read(source, size=1).rows == [{"id": "1", "text": "x"}, {"id": "2", "text": "y"}]


def test_files_of_a_glob_must_have_the_same_columns(write):
    write("a.csv", b"id,text\n1,x\n")
    path = write("b.csv", b"id,body\n2,y\n")
    with pytest.raises(SourceError) as caught:
        open_source(path.parent / "*.csv")
    assert caught.value.code == "different_columns"
    assert "b.csv" in caught.value.message


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 64])
def test_the_size_of_chunks_does_not_show(read, write, chunk_bytes):
    content = 'id,text\r\n1,"é\n✓"\r\n\r\n2,"a\rb"\n3,x,y\n4,"q""q"\n'.encode() + b"5,\xff\n6,end"
    path = write("t.csv", content)
    whole = read(path)
    pieces = read(CsvSource([path], ["t.csv"], chunk_bytes=chunk_bytes), size=2)
    assert (pieces.rows, pieces.where, pieces.codes) == (whole.rows, whole.where, whole.codes)


def test_a_line_over_the_limit_is_one_problem(read, write):
    path = write("t.csv", b"id,text\n1,ok\n2," + b"x" * 500 + b"\n3,ok\n4," + b"y" * 500)
    reading = read(CsvSource([path], ["t.csv"], chunk_bytes=16, max_line_bytes=100))
    assert reading.codes == {"t.csv:3": "line_too_long", "t.csv:5": "line_too_long"}
    assert [row["id"] for row in reading.good] == ["1", "3"]
    assert reading.where == ["t.csv:2", "t.csv:3", "t.csv:4", "t.csv:5"]


def test_fields_larger_than_the_csv_module_allows_by_default(read, write):
    path = write("t.csv", b"id,text\n1," + b"x" * 200_000 + b"\n")
    assert len(read(path).good[0]["text"]) == 200_000
    assert csv.field_size_limit() >= 200_000
