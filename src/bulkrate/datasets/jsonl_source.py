"""JSON Lines: one object per line.

Every line that is not blank is a row. Lines end with a line feed (a carriage return before it is
white space). A name that occurs twice in an object keeps its last value, as JSON parsers do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from bulkrate.datasets.block import Block, BlockBuilder, Problem
from bulkrate.datasets.byte_stream import CHUNK_BYTES, MAX_LINE_BYTES, chunks, digest, whole_lines

__all__ = ["MAX_DEPTH", "JsonlSource", "UnparsedLines", "explain", "limits"]

MAX_DEPTH = 200
"""Levels of nesting a row may have: request bodies nest a few more, and orjson writes 254."""

_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_PLAIN = frozenset({str, int, bool, type(None)})
_NOT_AN_OBJECT = Problem("not_an_object", "the line is valid JSON but not an object")


class JsonlSource:
    """Rows of JSON Lines files, in order."""

    format = "jsonl"

    def __init__(
        self,
        files: Sequence[Path],
        names: Sequence[str],
        *,
        chunk_bytes: int = CHUNK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        self.files = tuple(files)
        self._names = tuple(names)
        self._chunk_bytes = chunk_bytes
        self._max_line_bytes = max_line_bytes

    def columns(self) -> None:
        """None: objects name their own columns."""
        return

    def snapshot(self) -> str:
        """Hex digest of the files' bytes."""
        return digest(self.files)

    def blocks(self, size: int = 10_000) -> Iterator[Block]:
        """Blocks of `size` rows (the last one smaller)."""
        build = BlockBuilder(size)
        for piece in self._pieces():
            yield from _parsed(piece, build)
        if build.rows:
            yield build.take()

    def portions(self, size: int) -> Iterator[UnparsedLines]:
        """Portions as they are read, cut at line ends and at every multiple of `size` rows."""
        first = 0
        for piece in self._pieces():
            rest: _Piece | None = piece
            while rest is not None:
                portion, rest = _cut(rest, first, size - first % size)
                first += portion.rows
                if portion.rows:
                    yield portion

    def _pieces(self) -> Iterator[_Piece]:
        for path, name in zip(self.files, self._names, strict=True):
            number = 1
            for text in whole_lines(chunks(path, self._chunk_bytes), self._max_line_bytes):
                if isinstance(text, Problem):
                    yield _Piece(f"{name}:", number, text)
                    number += 1
                    continue
                lines = text.split(b"\n")
                if not lines[-1]:
                    lines.pop()
                if number == 1:
                    lines[0] = lines[0].removeprefix(_BOM)
                yield _Piece(f"{name}:", number, lines)
                number += len(lines)


class _Piece(NamedTuple):
    """Lines as they are in a file, or the problem of one; the first is line `number`."""

    prefix: str
    number: int
    lines: list[bytes] | Problem


@dataclass(frozen=True, slots=True)
class UnparsedLines:
    """The lines of some rows: a `Portion` that costs a copy of its bytes to hand over."""

    first: int
    rows: int
    piece: _Piece

    def blocks(self, size: int) -> Iterator[Block]:
        """The rows, parsed, in blocks of `size` (the last one smaller)."""
        build = BlockBuilder(size, self.first)
        yield from _parsed(self.piece, build)
        if build.rows:
            yield build.take()


def _cut(piece: _Piece, first: int, most: int) -> tuple[UnparsedLines, _Piece | None]:
    """A portion of at most so many rows of `piece`, and what is left of it."""
    lines = piece.lines
    if isinstance(lines, Problem):
        return UnparsedLines(first, 1, piece), None
    blank = [index for index, line in enumerate(lines) if not line.strip(_SPACE)]
    cut = most
    for index in blank:
        if index >= cut:
            break
        cut += 1
    if cut >= len(lines):
        return UnparsedLines(first, len(lines) - len(blank), piece), None
    head = piece._replace(lines=lines[:cut])
    return UnparsedLines(first, most, head), piece._replace(number=piece.number + cut, lines=lines[cut:])


def _parsed(piece: _Piece, build: BlockBuilder) -> Iterator[Block]:
    """Add the rows of `piece`; yields the blocks that become full."""
    prefix, number, lines = piece
    build.place(prefix, number)
    if isinstance(lines, Problem):
        build.reject(lines)
        if build.full:
            yield build.take()
        return
    done = 0
    while done < len(lines):
        part = lines[done : done + build.room]
        _read(part, build, prefix, number)
        done += len(part)
        number += len(part)
        if build.full:
            yield build.take()


def _read(lines: list[bytes], build: BlockBuilder, prefix: str, number: int) -> None:
    """Append one row per line that is not blank; `number` is the first line's."""
    rows = build.rows
    append, loads, plain = rows.append, orjson.loads, _PLAIN.issuperset
    # Line of the next row = number + rows so far: counting lines would cost on every row.
    number -= len(rows)
    for line in lines:
        try:
            row = loads(line)
        except orjson.JSONDecodeError as error:
            if line.strip(_SPACE):
                build.reject(explain(line, error))
            else:
                number += 1
                build.place(prefix, number + len(rows))
            continue
        if type(row) is not dict:
            build.reject(_NOT_AN_OBJECT)
        elif plain(map(type, row.values())):
            append(row)
        elif problem := limits(row, line):
            build.reject(problem)
        else:
            append(row)


def explain(line: bytes, error: orjson.JSONDecodeError) -> Problem:
    """Why `line` is not JSON, without any of its content."""
    try:
        line.decode()
    except UnicodeDecodeError as bad:
        return Problem("undecodable", f"the line is not valid UTF-8 (byte {bad.start + 1})")
    if "surrogate" in error.msg:
        return Problem("lone_surrogate", f"half of a surrogate pair at column {error.colno}: not a character")
    if "infinity" in error.msg:
        return Problem("number_out_of_range", f"a number beyond double precision at column {error.colno}")
    if "depth" in error.msg:
        return Problem("too_deep", f"nested deeper than {MAX_DEPTH} levels")
    return Problem("broken_json", f"not valid JSON at column {error.colno}")


def limits(row: dict[str, Any], line: bytes) -> Problem | None:
    """A problem if the row is nested too deep or holds an integer that does not fit 64 bits.

    orjson reads such an integer as a float, which would change a row silently (an id, most likely).
    """
    found = _beyond(row.values(), MAX_DEPTH - 1)
    if found == _TOO_DEEP:
        return Problem("too_deep", f"nested deeper than {MAX_DEPTH} levels")
    if found == _HUGE and _has_huge_integer(line):
        return Problem("number_out_of_range", "an integer does not fit 64 bits and would lose digits")
    return None


_HUGE, _TOO_DEEP = 1, 2


def _beyond(values: Iterable[Any], levels: int) -> int:
    """_TOO_DEEP: more than `levels` levels lie below. _HUGE: a float is as large as a lost integer. Or 0."""
    found = 0
    for value in values:
        kind = type(value)
        if kind is str or kind is int:
            continue
        if kind is float:
            if not -9223372036854775808.0 < value < 9223372036854775808.0:
                found = _HUGE
        elif kind is dict or kind is list:
            if not levels:
                return _TOO_DEEP
            below = _beyond(value.values() if kind is dict else value, levels - 1)
            if below == _TOO_DEEP:
                return _TOO_DEEP
            found = below or found
    return found


def _has_huge_integer(line: bytes) -> bool:
    found = False

    def check(digits: str) -> int:
        nonlocal found
        # The length first: turning thousands of digits into an int is slow, and refused from 4,300 on.
        found = found or len(digits) > 20 or not -(2**63) <= int(digits) < 2**64
        return 0

    json.loads(line, parse_int=check)
    return found
