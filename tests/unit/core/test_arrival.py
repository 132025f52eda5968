"""What can be told of a result file by its bytes alone."""

from __future__ import annotations

import pytest

from bulkrate.core.arrival import Arrival

LINES = [b'{"custom_id":"a"}', b'{"custom_id":"b"}', b'{"custom_id":"c"}']


def arrived(content: bytes, piece_bytes: int) -> Arrival:
    arrival = Arrival()
    for begin in range(0, len(content), piece_bytes):
        arrival.add(content[begin : begin + piece_bytes])
    return arrival


@pytest.mark.parametrize("piece_bytes", [1, 5, 18, 1_000])
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", 0),
        (b"\n".join([*LINES, b""]), 3),
        (b"\n".join(LINES), 3),
        (b"\n".join(LINES)[:-1], 2),
        (b"\n".join([*LINES[:2], b""]), 2),
    ],
)
def test_a_last_line_that_was_cut_does_not_count(content: bytes, lines: int, piece_bytes: int) -> None:
    arrival = arrived(content, piece_bytes)
    assert arrival.whole_lines == lines
    assert arrival.size_bytes == len(content)


def test_two_downloads_are_told_apart_by_their_bytes_not_by_their_pieces() -> None:
    content = b"\n".join([*LINES, b""])
    assert arrived(content, 7).mark == arrived(content, 100).mark
    assert arrived(content, 7).mark != arrived(content.replace(b"c", b"d"), 7).mark
