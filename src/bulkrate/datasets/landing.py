"""A file that appears whole or not at all."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import secrets
from pathlib import Path
from typing import IO

import zstandard

from bulkrate.datasets.byte_stream import compression_of
from bulkrate.errors import BulkrateError

__all__ = ["LandingFile", "SinkError", "place_of"]


class SinkError(BulkrateError):
    """The results cannot be written there, or not in that format."""

    default_code = "sink"


# A name has 255 bytes on most file systems, and the temporary one is longer than the file's own.
_NAME_BYTES = 200


def place_of(path: Path) -> Path:
    """Where a file for `path` goes: through a symbolic link, the file it points to is replaced, not the link.

    Raises `SinkError` for what is no file: put in its place, one would take a pipe from its reader, and a
    device from the whole machine.
    """
    try:
        place = path.resolve()
        folder, file = path.is_dir(), path.is_file() or not path.exists()
    except (OSError, RuntimeError, ValueError) as error:  # too long, a loop of links, or a NUL
        raise SinkError(f"{path.name!r} cannot be written: {error}") from None
    if folder or not file:
        what = "is a folder" if folder else "is no file, but a device or a pipe"
        raise SinkError(f"{path.name} {what}", hint="name a file for the results")
    return place


class LandingFile:
    """Written beside `path` under a hidden temporary name; `commit` puts it in place.

    `stream` and `write` take bytes and compress by the extension (.gz, .zst). The same bytes in give the
    same file: no time or name is stored. Raises `SinkError` if the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = place_of(path)
        beside = os.fsdecode(os.fsencode(self.path.name)[:_NAME_BYTES])
        self._temporary = self.path.with_name(f".{beside}.{secrets.token_hex(4)}.partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = self._temporary.open("xb")
        except OSError as error:
            raise SinkError(f"{path.name} cannot be written: {error.strerror}") from error
        self.stream: IO[bytes] = self._compressor(compression_of(path))

    def _compressor(self, kind: str | None) -> IO[bytes]:
        if kind == "gz":
            return io.BufferedWriter(
                gzip.GzipFile(filename="", mode="wb", fileobj=self._file, mtime=0, compresslevel=6),
                buffer_size=1 << 16,
            )
        if kind == "zst":
            writer: IO[bytes] = zstandard.ZstdCompressor(level=3).stream_writer(self._file, closefd=False)
            return writer
        return self._file

    def write(self, data: bytes) -> None:
        """Append bytes."""
        try:
            self.stream.write(data)
        except OSError as error:
            raise self.refusal(error) from error

    def refusal(self, error: OSError) -> SinkError:
        """What the disk said, for people."""
        return SinkError(f"{self.path.name} cannot be written: {error.strerror or 'the disk refuses'}")

    def commit(self) -> None:
        """Put the file in place; after this it survives a power cut."""
        try:
            if self.stream is not self._file:
                self.stream.close()  # writes the compressor's end; leaves the file open
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._temporary.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            self.abort()
            raise self.refusal(error) from error

    def abort(self) -> None:
        """Remove what was written; the file in place before stays. May be called at any time."""
        # The compressor first, or it would try to write its end when it is collected.
        for stream in (self.stream, self._file):
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        with contextlib.suppress(FileNotFoundError):
            self._temporary.unlink()
