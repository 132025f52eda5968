"""Rows in: the `Source` protocol, and opening a path or glob as one."""

from __future__ import annotations

import contextlib
import difflib
import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from bulkrate.datasets.block import Block, Portion, Problem
from bulkrate.datasets.byte_stream import BrokenStreamError, check_magic, chunks, compression_of
from bulkrate.errors import SourceError

__all__ = [
    "BLOCK_ROWS",
    "Block",
    "Portion",
    "Problem",
    "Source",
    "SourceError",
    "check_columns",
    "open_source",
    "portions",
]


class Source(Protocol):
    """Files of one format, read as one table in a fixed order.

    `files`: in reading order. `format`: "csv", "jsonl", "parquet" or "arrow".
    """

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def format(self) -> str: ...

    def columns(self) -> tuple[str, ...] | None:
        """Column names known without reading all (None for JSONL: each row has its own)."""
        ...

    def blocks(self, size: int = 10_000) -> Iterator[Block]:
        """All rows, in blocks of `size` (the last one smaller), the same at every call."""
        ...

    def snapshot(self) -> str:
        """Hex digest of the bytes of all files, in order."""
        ...


BLOCK_ROWS = 500
"""Few enough rows for the processor's cache; a partition is a multiple."""


def portions(source: Source, size: int) -> Iterator[Portion]:
    """All rows, in small portions; none has rows on both sides of a multiple of `size` (of BLOCK_ROWS).

    For handing over: formats whose rows can be told apart without being parsed leave that to whoever gets
    a portion.
    """
    unparsed = getattr(source, "portions", None)
    if unparsed is not None:
        return unparsed(size)  # type: ignore[no-any-return]
    return source.blocks(BLOCK_ROWS)


_READERS = {
    "csv": "csv",
    "tsv": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
    "ipc": "arrow",
}
_ACCEPTED = "csv, tsv, jsonl, ndjson, json, parquet, arrow, feather, ipc"


def open_source(
    path: str | Path | Sequence[str | Path],
    format: str | None = None,  # noqa: A002  (the word of the job file)
    base: Path | None = None,
) -> Source:
    """Open a file, a glob (`**` allowed, sorted) or a list of them, relative to `base`.

    `format` is guessed from the extension (before .gz or .zst) unless given. Opening reads headers
    and schemas only. Raises `SourceError` if there is no such file, the format is unknown, a header
    is missing, columns have the same name or differ between files, or a file is not what it says.
    """
    files = _files([path] if isinstance(path, (str, Path)) else path, base)
    names = _names(files)
    reader = _reader(files, names, format)
    for file, name in zip(files, names, strict=True):
        check_magic(file, name)
    if reader in ("csv", "tsv"):
        from bulkrate.datasets.csv_source import CsvSource

        return CsvSource(files, names, delimiter="\t" if reader == "tsv" else None)
    if reader in ("parquet", "arrow"):
        return _open_arrow(reader, files, names)
    if reader == "json" and _are_arrays(files, names):
        from bulkrate.datasets.json_array_source import JsonArraySource

        return JsonArraySource(files, names)
    from bulkrate.datasets.jsonl_source import JsonlSource

    return JsonlSource(files, names)


def _open_arrow(reader: str, files: Sequence[Path], names: Sequence[str]) -> Source:
    for file, name in zip(files, names, strict=True):
        if compression_of(file):
            raise SourceError(
                f"{name}: {reader} files compress their columns themselves",
                code="unknown_format",
                hint=f"decompress it first; {file.suffix} is for CSV and JSON",
            )
    from bulkrate.datasets.arrow_source import ArrowSource

    return ArrowSource(files, names, format=reader)


def _files(paths: Iterable[str | Path], base: Path | None) -> list[Path]:
    found: dict[Path, None] = {}  # a set that keeps the order
    for given in paths:
        path = Path(given).expanduser()
        if base is not None:
            path = base / path
        if path.is_dir():
            raise SourceError(
                f"{given} is a folder", code="is_a_folder", hint=f"name its files, as in {given}/*.jsonl"
            )
        # A file whose name holds brackets is taken by name before it is taken for a pattern.
        if path.exists():
            found[path] = None
        elif glob.has_magic(pattern := str(path)):
            # pathlib's glob cannot take an absolute pattern.
            matches = sorted(Path(match) for match in glob.glob(pattern, recursive=True))  # noqa: PTH207
            files = [match for match in matches if match.is_file()]
            if not files:
                raise SourceError(f"no file matches {given}", code="no_files")
            found.update(dict.fromkeys(files))
        else:
            raise SourceError(f"there is no file {given}", code="no_files", hint=_nearest_file(path))
    if not found:
        raise SourceError("the source names no file", code="no_files")
    return list(found)


def _nearest_file(path: Path) -> str | None:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent.name} either"
    names = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {near[0]}?" if near else None


def _names(files: Sequence[Path]) -> list[str]:
    """What messages call the files: their names, or paths below the common folder if names repeat."""
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    common = os.path.commonpath([file.absolute().parent for file in files])
    return [file.absolute().relative_to(common).as_posix() for file in files]


def _reader(files: Sequence[Path], names: Sequence[str], given: str | None) -> str:
    if given is not None:
        reader = _READERS.get(given.lower().lstrip("."))
        if reader is None:
            near = difflib.get_close_matches(given.lower(), _READERS, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise SourceError(
                f"the format {format} is not known",
                code="unknown_format",
                hint=f"{hint}accepted: {_ACCEPTED}",
            )
        return reader
    readers: dict[str, str] = {}
    for file, name in zip(files, names, strict=True):
        suffix = (Path(file.stem) if compression_of(file) else file).suffix.lower().lstrip(".")
        if suffix not in _READERS:
            seen = f"its extension is .{suffix}" if suffix else "it has no extension"
            raise SourceError(
                f"the format of {name} is not known: {seen}",
                code="unknown_format",
                hint=f"set `format`; accepted: {_ACCEPTED}",
            )
        readers.setdefault(_READERS[suffix], name)
    if len(readers) > 1:
        raise SourceError(
            f"the source mixes formats: {' and '.join(list(readers.values())[:2])}",
            code="mixed_formats",
            hint="use one source per format, or set `format`",
        )
    return next(iter(readers))


def _are_arrays(files: Sequence[Path], names: Sequence[str]) -> bool:
    """Whether the `.json` files hold arrays (else lines), by their first character."""
    kinds: dict[bool, str] = {}
    for file, name in zip(files, names, strict=True):
        head = _first_character(file)
        if head:
            kinds.setdefault(head == b"[", name)
    if len(kinds) > 1:
        raise SourceError(
            f"{kinds[True]} is a JSON array and {kinds[False]} is not",
            code="mixed_formats",
            hint="use one source for arrays and one for JSON Lines",
        )
    return True in kinds


def _first_character(path: Path) -> bytes:
    head = b""
    with contextlib.suppress(BrokenStreamError):
        for chunk in chunks(path, 4096):
            head = (head + chunk).removeprefix(b"\xef\xbb\xbf").lstrip()
            if head and not b"\xef\xbb\xbf".startswith(head):
                break
    return head[:1]


def check_columns(source: Source, needed: Iterable[str]) -> None:
    """Raise `SourceError` naming the first of the `needed` columns that the source does not have.

    Formats without a header (JSONL) pass: there, each row is checked by itself.
    """
    columns = source.columns()
    if columns is None:
        return
    for column in needed:
        if column not in columns:
            near = difflib.get_close_matches(column, columns, n=1, cutoff=0.5)
            shown = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SourceError(
                f"{source.files[0].name} has no column {column!r}",
                code="missing_column",
                hint=f"{hint}columns: {shown}",
            )
