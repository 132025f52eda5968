"""CSV and TSV: a header, then one record per row; values stay text.

Quoting is checked strictly. When a quoted field goes wrong, the record from the line where it began
to the line where it went wrong is one rejected row, and reading goes on behind it. Text is UTF-8
(a byte order mark is skipped). One NUL is a character like any other; several in a row are what an
interrupted write leaves behind, and reject the row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from bulkrate.datasets.block import Block, BlockBuilder, Problem
from bulkrate.datasets.byte_stream import CHUNK_BYTES, MAX_LINE_BYTES, chunks, digest, whole_lines
from bulkrate.errors import SourceError

__all__ = ["MAX_FIELD_CHARACTERS", "CsvSource"]

MAX_FIELD_CHARACTERS = 16 << 20
"""The csv module holds a field at four bytes a character, and this is where a quote that never ends stops."""

_DELIMITERS = ",;\t|"
_HEADER_BYTES = 1 << 16  # read at a time when only the header is wanted


class _LineError(Exception):
    """Raised out of the reader in place of a line that cannot be given to it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class _NoLine:
    """An iterator that raises once, then ends: `chain` goes on with the next piece."""

    def __init__(self, problem: Problem) -> None:
        self._problem: Problem | None = problem

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        if self._problem is None:
            raise StopIteration
        problem, self._problem = self._problem, None
        raise _LineError(problem)


class CsvSource:
    """Rows of CSV files with the same columns, in order."""

    format = "csv"

    def __init__(
        self,
        files: Sequence[Path],
        names: Sequence[str],
        *,
        delimiter: str | None = None,
        chunk_bytes: int = CHUNK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ) -> None:
        """`delimiter`: None to find it in each header. Raises `SourceError` for an unusable header."""
        self.files = tuple(files)
        self._names = tuple(names)
        self._chunk_bytes = chunk_bytes
        self._max_line_bytes = max_line_bytes
        self._headers: list[tuple[str, tuple[str, ...]]] = []
        for path, name in zip(self.files, self._names, strict=True):
            header = self._header(path, name, delimiter)
            self._headers.append(header)
            if set(header[1]) != set(self._headers[0][1]):
                raise SourceError(
                    f"{name} has other columns than {self._names[0]}",
                    code="different_columns",
                    hint=f"{', '.join(header[1])} against {', '.join(self._headers[0][1])}",
                )

    def columns(self) -> tuple[str, ...]:
        """The names in the first file's header."""
        return self._headers[0][1]

    def snapshot(self) -> str:
        """Hex digest of the files' bytes."""
        return digest(self.files)

    def blocks(self, size: int = 10_000) -> Iterator[Block]:
        """Blocks of `size` rows (the last one smaller)."""
        build = BlockBuilder(size)
        for path, name, (delimiter, columns) in zip(self.files, self._names, self._headers, strict=True):
            yield from self._file_blocks(build, path, f"{name}:", delimiter, columns)
        if build.rows:
            yield build.take()

    def _file_blocks(
        self, build: BlockBuilder, path: Path, prefix: str, delimiter: str, columns: tuple[str, ...]
    ) -> Iterator[Block]:
        text = _Text(path, self._chunk_bytes, self._max_line_bytes)
        reader = csv.reader(text.lines(), delimiter=delimiter, strict=True)
        while not next(reader):
            pass
        rows, size, width = build.rows, build.size, len(columns)
        missing = 0  # lines the reader never saw
        start = reader.line_num + 1  # the line where the next record begins
        build.place(prefix, start)
        while True:
            try:
                for fields in reader:
                    if len(fields) == width and not text.odd:
                        rows.append(dict(zip(columns, fields)))  # noqa: B905  (checked above, and slower)
                    elif fields:
                        problem = _check(fields, width)
                        if problem:
                            build.reject(problem)
                        else:
                            rows.append(dict(zip(columns, fields, strict=True)))
                    following = reader.line_num + missing + 1
                    # A record over several lines, or a blank line (fields is empty).
                    if following != start + 1 or not fields:
                        build.place(prefix, following)
                    start = following
                    if len(rows) == size:
                        yield build.take()
                        rows = build.rows
                return
            except csv.Error as error:
                problem = _explain(error, start, reader.line_num + missing)
            except _LineError as error:
                problem = error.problem
                missing += 1
            build.reject(problem)
            start = reader.line_num + missing + 1
            build.place(prefix, start)
            if len(rows) == size:
                yield build.take()
                rows = build.rows

    def _header(self, path: Path, name: str, delimiter: str | None) -> tuple[str, tuple[str, ...]]:
        """The delimiter (the one that makes the most columns, a comma if none makes two) and the names."""
        best: tuple[str, list[str]] | None = None
        failure: Exception | None = None
        for candidate in delimiter or _DELIMITERS:
            try:
                names = self._first_record(path, candidate)
            except (csv.Error, _LineError) as error:
                failure = failure or error  # text after a closing quote: not the delimiter
                continue
            if best is None or len(names) > len(best[1]):
                best = candidate, names
        if best is None or (failure and len(best[1]) == 1):
            raise SourceError(f"the header of {name} cannot be read: {failure}", code="broken_header")
        delimiter, names = best
        if not names:
            raise SourceError(f"{name} is empty: a CSV file begins with a header", code="missing_header")
        text = "".join(names)
        if "\0" in text or not _decodable(text):
            raise SourceError(
                f"the header of {name} is not UTF-8 text", code="undecodable", hint="save the file as UTF-8"
            )
        twice = sorted({column for column in names if names.count(column) > 1})
        if twice:
            raise SourceError(
                f"{name} has two columns named {', '.join(map(repr, twice))}",
                code="duplicate_columns",
                hint="give every column a name of its own",
            )
        return delimiter, tuple(names)

    def _first_record(self, path: Path, delimiter: str) -> list[str]:
        text = _Text(path, min(self._chunk_bytes, _HEADER_BYTES), self._max_line_bytes)
        reader = csv.reader(text.lines(), delimiter=delimiter, strict=True)
        return next((fields for fields in reader if fields), [])


class _Text:
    """The lines of one file as text. `odd` once a byte that is not UTF-8, or a NUL, has been seen."""

    def __init__(self, path: Path, chunk_bytes: int, max_line_bytes: int) -> None:
        self.odd = False
        self._path = path
        self._chunk_bytes = chunk_bytes
        self._max_line_bytes = max_line_bytes

    def lines(self) -> Iterator[str]:
        # A setting of the whole process, so it is only ever raised: nobody else's reading breaks.
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
        # Chaining StringIOs keeps the work per line out of Python.
        return chain.from_iterable(self._pieces())

    def _pieces(self) -> Iterator[Iterator[str]]:
        stream = chunks(self._path, self._chunk_bytes)
        first = True
        for piece in whole_lines(stream, self._max_line_bytes, lone_returns=True):
            if isinstance(piece, Problem):
                yield _NoLine(piece)
                continue
            try:
                text = piece.decode()
            except UnicodeDecodeError:
                self.odd = True
                text = piece.decode(errors="surrogateescape")
            if "\0" in text:
                self.odd = True
            yield io.StringIO(text.removeprefix("\ufeff") if first else text, newline="")
            first = False


def _decodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check(fields: list[str], width: int) -> Problem | None:
    text = "".join(fields)
    if not text.isascii() and not _decodable(text):
        return Problem("undecodable", "the row holds bytes that are not UTF-8")
    if "\0" in text and any("\0\0" in field for field in fields):
        return Problem("nul_bytes", "the row holds a run of NUL bytes, as an interrupted write leaves them")
    if len(fields) != width:
        return Problem("wrong_column_count", f"the row has {len(fields)} fields, the header has {width}")
    return None


def _explain(error: csv.Error, start: int, end: int) -> Problem:
    text = str(error)
    if "unexpected end" in text:
        return Problem("unterminated_quote", f"a quoted field of the row begun on line {start} never ends")
    if "field larger" in text:
        return Problem(
            "field_too_long", f"a field is too long, or its quote never ends: lines {start} to {end}"
        )
    if end > start:
        return Problem("broken_quoting", f"broken quoting: the row took lines {start} to {end}")
    return Problem("broken_quoting", "a closing quote is followed by more text")
