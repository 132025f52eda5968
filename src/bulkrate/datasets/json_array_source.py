"""A whole-file JSON array of objects, streamed: an element is held, never the array.

Slower than JSON Lines, because the ends of elements must be looked for. An element that is not
JSON is one rejected row; what comes after the array, or a missing end, is one more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import orjson

from bulkrate.datasets.block import Block, BlockBuilder, Problem
from bulkrate.datasets.byte_stream import (
    BrokenStreamError,
    chunks,
)
from bulkrate.datasets.jsonl_source import JsonlSource, explain, limits
from bulkrate.errors import SourceError

__all__ = ["JsonArraySource"]

_BOM = b"\xef\xbb\xbf"
_SPACE = b" \t\r\n"
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# What the scanner steps over at once (an object without nesting, a string) or stops at; a quote alone
# opens a string whose end is not in the buffer yet.
_OUTSIDE = re.compile(
    rb'\{[^{}\[\]"]*+(?:%(string)b[^{}\[\]"]*+)*+\}|%(string)b|["\[\]{},]' % {b"string": _STRING}, re.DOTALL
)
_BLANK = re.compile(rb"[ \t\r\n]*")
_INSIDE = re.compile(rb'["\\]')


class JsonArraySource(JsonlSource):
    """Rows of `.json` files that each hold one array of objects."""

    def blocks(self, size: int = 10_000) -> Iterator[Block]:
        """Blocks of `size` rows (the last one smaller)."""
        build = BlockBuilder(size)
        for path, name in zip(self.files, self._names, strict=True):
            item = 1
            for line, element in _elements(path, name, self._chunk_bytes, self._max_line_bytes):
                build.place(f"{name}:{line} item ", item)
                item += 1
                if isinstance(element, Problem):
                    build.reject(element)
                else:
                    _append(build, element)
                if build.full:
                    yield build.take()
        if build.rows:
            yield build.take()


def _append(build: BlockBuilder, element: bytes) -> None:
    try:
        row = orjson.loads(element)
    except orjson.JSONDecodeError as error:
        build.reject(explain(element, error))
        return
    if type(row) is not dict:
        build.reject(Problem("not_an_object", "the item is valid JSON but not an object"))
    elif problem := limits(row, element):
        build.reject(problem)
    else:
        build.rows.append(row)


def _elements(
    path: Path, name: str, chunk_bytes: int, max_element_bytes: int
) -> Iterator[tuple[int, bytes | Problem]]:
    """(line where it begins, text) of each element of the array."""
    too_long = Problem("line_too_long", f"the item is longer than {max_element_bytes:,} bytes")
    buffer = bytearray()  # from the beginning of the current element
    at = 0  # scanned up to here
    line = 1  # of buffer[0]
    depth = 0
    in_string = False
    skipping = 0  # the line where an element over the limit began
    first = True
    count = 0
    closed = False

    def begin() -> int:
        """The line of the first character of the current element."""
        blank = _BLANK.match(buffer).end()  # type: ignore[union-attr]
        return skipping or line + buffer.count(b"\n", 0, blank)

    def cut(end: int) -> tuple[int, bytes | Problem]:
        """The element buffer[:end], and the line of its first character; drops it and its comma."""
        nonlocal at, line, skipping
        begins = begin()
        text = bytes(buffer[:end])
        line += text.count(b"\n")
        del buffer[: end + 1]
        at = 0
        if skipping or end > max_element_bytes:
            skipping = 0
            return begins, too_long
        return begins, text.strip(_SPACE)

    stream = chunks(path, chunk_bytes)
    while True:
        try:
            chunk = next(stream, None)
        except BrokenStreamError as error:
            yield begin(), error.problem
            return
        if chunk is None:
            break
        buffer += chunk
        if first:
            if len(buffer) < len(_BOM) and _BOM.startswith(buffer):
                continue
            if buffer.startswith(_BOM):
                del buffer[:3]
            if not buffer.strip(_SPACE):
                line += buffer.count(b"\n")
                buffer.clear()
                continue
            opening = len(buffer) - len(buffer.lstrip(_SPACE))
            if buffer[opening] != ord("["):
                raise SourceError(
                    f"{name} is not a JSON array",
                    code="mixed_formats",
                    hint="set `format: jsonl` for JSON Lines",
                )
            line += buffer.count(b"\n", 0, opening)
            del buffer[: opening + 1]
            first = False
        while not closed and (stop := (_INSIDE if in_string else _OUTSIDE).search(buffer, at)):
            at = stop.end()
            mark = stop.group()
            if in_string:
                if mark == b"\\":
                    if at == len(buffer):
                        at -= 1  # what it escapes is in the next chunk
                        break
                    at += 1
                else:
                    in_string = False
            elif len(mark) > 1:
                continue
            elif mark == b'"':
                in_string = True
            elif mark in b"[{":
                depth += 1
            elif mark == b"," and depth == 0:
                count += 1
                yield cut(at - 1)
            elif mark in b"]}":
                if depth:
                    depth -= 1
                elif mark == b"]":
                    begins, last = cut(at - 1)
                    if last or count:
                        yield begins, last
                    closed = True
        else:
            at = len(buffer)
        if closed:
            if buffer.strip(_SPACE):
                break
            line += buffer.count(b"\n")
            buffer.clear()
        elif len(buffer) > max_element_bytes:
            skipping = begin()
            line += buffer.count(b"\n", 0, at)
            del buffer[:at]
            at = 0
    if first:
        return
    if closed:
        if buffer.strip(_SPACE):
            yield begin(), Problem("broken_json", "there is more text after the end of the array")
        return
    yield begin(), Problem("truncated_json", "the array is not closed: its last item is incomplete")
