"""Bytes of a file in bounded pieces, decompressed, cut at line ends.

A stream that ends early or is damaged gives everything before the damage, then one problem.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import zstandard

from bulkrate.datasets.block import Problem
from bulkrate.errors import SourceError

__all__ = [
    "CHUNK_BYTES",
    "MAX_LINE_BYTES",
    "BrokenStreamError",
    "check_magic",
    "chunks",
    "compression_of",
    "digest",
    "whole_lines",
]

# Small enough for the allocator to reuse and the processor to cache: 1 MB costs a fifth more of all reading.
CHUNK_BYTES = 1 << 17
MAX_LINE_BYTES = 64 << 20
# Fed to the zstd decoder in one go. It cannot be told to stop after so much output, and a hostile
# frame grows by up to 32,000 times: 2 kB in keep its worst output near 64 MB.
_ZSTD_FEED_BYTES = 2 << 10

_MAGIC = {"gz": (b"\x1f\x8b", "gzip"), "zst": (b"\x28\xb5\x2f\xfd", "Zstandard")}
_SKIPPABLE_ZSTD = tuple(bytes((0x50 + i, 0x2A, 0x4D, 0x18)) for i in range(16))


class BrokenStreamError(Exception):
    """The compressed stream ends early or is damaged; what came before it was good."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


def compression_of(path: Path) -> str | None:
    """ "gz", "zst" or None, by the file's extension."""
    suffix = path.suffix.lower()
    return {".gz": "gz", ".gzip": "gz", ".zst": "zst", ".zstd": "zst"}.get(suffix)


def check_magic(path: Path, name: str) -> None:
    """Raise `SourceError` if `path` cannot be opened, or is not compressed as its extension says."""
    try:
        with path.open("rb") as file:
            head = file.read(4)
    except OSError as error:
        raise SourceError(f"{name} cannot be read: {error.strerror}", code="unreadable") from error
    kind = compression_of(path)
    if kind is None or not head:
        return
    magic, title = _MAGIC[kind]
    if not head.startswith(magic) and not (kind == "zst" and head in _SKIPPABLE_ZSTD):
        raise SourceError(
            f"{name} is not {title} data, although its name says so",
            code="not_compressed",
            hint=f"rename it without {path.suffix}, or compress it again",
        )


def chunks(path: Path, chunk_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The file's decompressed content in non-empty pieces.

    Raises `BrokenStreamError` after the last good piece, `SourceError` if the disk says no.
    """
    kind = compression_of(path)
    try:
        if kind == "gz":
            yield from _gzip_chunks(path, chunk_bytes)
        elif kind == "zst":
            yield from _zstd_chunks(path, chunk_bytes)
        else:
            with path.open("rb", buffering=0) as file:
                while chunk := file.read(chunk_bytes):
                    yield chunk
    except OSError as error:
        raise SourceError(f"{path.name} cannot be read: {error.strerror}", code="unreadable") from error


_TRUNCATED = Problem("truncated_stream", "the compressed stream ends early: the rows that follow are missing")
_CORRUPT = Problem("corrupt_stream", "the compressed stream is damaged: the rows that follow are missing")


def _gzip_chunks(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        while True:
            try:
                # read1, because read would throw away what it holds when the end is missing.
                chunk = file.read1(chunk_bytes)
            except EOFError:
                raise BrokenStreamError(_TRUNCATED) from None
            except (gzip.BadGzipFile, zlib.error):
                raise BrokenStreamError(_CORRUPT) from None
            if not chunk:
                return
            yield chunk


def _zstd_chunks(path: Path, chunk_bytes: int) -> Iterator[bytes]:
    # stream_reader takes a stream that ends early for a whole one; decompressobj knows the difference.
    frame = None
    problem = None
    held: list[bytes] = []
    held_bytes = 0
    with path.open("rb", buffering=1 << 17) as file:
        while problem is None and (compressed := file.read(_ZSTD_FEED_BYTES)):
            while compressed:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                try:
                    held.append(frame.decompress(compressed))
                except zstandard.ZstdError:
                    problem = _CORRUPT
                    break
                held_bytes += len(held[-1])
                if not frame.eof:
                    break
                compressed, frame = frame.unused_data, None
            if held_bytes >= chunk_bytes:
                yield b"".join(held)
                held, held_bytes = [], 0
    if held_bytes:
        yield b"".join(held)
    if problem or frame is not None:
        raise BrokenStreamError(problem or _TRUNCATED)


def whole_lines(
    stream: Iterable[bytes], max_line_bytes: int = MAX_LINE_BYTES, *, lone_returns: bool = False
) -> Iterator[bytes | Problem]:
    r"""Pieces of `stream` that end at a line end (the last one may lack it), never empty.

    A line over `max_line_bytes` is left out and gives a `Problem` in its place, and so does the
    point where a compressed stream breaks (with the incomplete line before it). Memory stays
    within `max_line_bytes` and a few chunks. Lines end with \n; with `lone_returns` also with \r alone.
    """
    too_long = Problem("line_too_long", f"the line is longer than {max_line_bytes:,} bytes")
    held: list[bytes] = []
    held_bytes = 0
    skipping = False
    try:
        for chunk in stream:
            cut = chunk.rfind(b"\n") + 1
            if not cut and lone_returns:
                # A return in the last place may be the first half of \r\n.
                cut = chunk.rfind(b"\r", 0, -1) + 1
            if not cut:
                if not skipping:
                    held.append(chunk)
                    held_bytes += len(chunk)
                    if held_bytes > max_line_bytes:
                        skipping, held, held_bytes = True, [], 0
                continue
            whole = b"".join((*held, chunk[:cut])) if held else chunk[:cut]
            if skipping or held_bytes:
                end = whole.find(b"\n") + 1
                if not end:
                    end = whole.find(b"\r") + 1
                if skipping or end > max_line_bytes:
                    yield too_long
                    whole = whole[end:]
                    skipping = False
            held = [chunk[cut:]] if cut < len(chunk) else []
            held_bytes = len(chunk) - cut
            if whole:
                yield whole
    except BrokenStreamError as error:
        yield error.problem
        return
    if skipping:
        yield too_long
    elif held:
        yield b"".join(held)


def digest(files: Iterable[Path]) -> str:
    """Hex digest (BLAKE2b, 32 bytes) of the files' bytes in order, streamed.

    Names and times do not count; where one file ends and the next begins does.
    """
    whole = hashlib.blake2b(digest_size=32)
    for path in files:
        try:
            with path.open("rb") as file:
                part = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=32))
        except OSError as error:
            raise SourceError(f"{path.name} cannot be read: {error.strerror}", code="unreadable") from error
        whole.update(part.digest())
    return whole.hexdigest()
