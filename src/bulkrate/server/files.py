"""The files the server holds: `files/<id>.data` and, written after it, `files/<id>.json`.

The record makes the file: content without a record is the leftover of a crash and is removed on opening.
A removal takes the record first, and is on disk before it is answered: whoever deleted an input file may
count on no batch being created from it later.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from bulkrate.server import durable, records
from bulkrate.server.api_error import ApiError
from bulkrate.server.records import FileRecord

_COPY_BYTES = 1 << 20


class FileStore:
    """Files by id. Safe to use from several threads of one process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.RLock()
        durable.make_directory(directory)
        kept = [records.decode_file(path.read_bytes()) for path in directory.glob("*.json")]
        self._files = {record.id: record for record in sorted(kept, key=lambda record: record.sequence)}
        self._next = max((record.sequence for record in kept), default=0) + 1
        for path in directory.iterdir():
            if path.suffix == durable.TEMPORARY or path.stem not in self._files:
                path.unlink()

    def receive(
        self, source: BinaryIO, *, file_id: str, filename: str, purpose: str, now: int, life_s: int | None
    ) -> FileRecord:
        """Keep an upload; durable when this returns."""
        return self.write(
            lambda file: shutil.copyfileobj(source, file, _COPY_BYTES),
            file_id=file_id,
            filename=filename,
            purpose=purpose,
            now=now,
            life_s=life_s,
        )

    def write(
        self,
        fill: Callable[[BinaryIO], None],
        *,
        file_id: str,
        filename: str,
        purpose: str,
        now: int,
        life_s: int | None,
    ) -> FileRecord:
        """Keep what `fill` writes; durable when this returns. The same id again replaces the content."""
        with durable.atomic_file(self._data(file_id)) as file:
            fill(file)
        with self._lock:
            old = self._files.get(file_id)
            record = FileRecord(
                id=file_id,
                sequence=old.sequence if old else self._next,
                filename=filename,
                purpose=purpose,
                size_bytes=self._data(file_id).stat().st_size,
                created_at=now,
                expires_at=None if life_s is None else now + life_s,
            )
            durable.write_atomically(self._json(file_id), records.encode(record))
            self._files[file_id] = record
            self._next = max(self._next, record.sequence + 1)
            return record

    def get(self, file_id: str) -> FileRecord:
        """A file's record. Raises ApiError 404."""
        with self._lock:
            record = self._files.get(file_id)
        if record is None:
            raise ApiError(404, f"No such File object: {file_id}", param="id")
        return record

    def all(self) -> list[FileRecord]:
        """Every file, oldest first."""
        with self._lock:
            return list(self._files.values())

    def open(self, file_id: str) -> BinaryIO:
        """A file's content; stays readable when the file is deleted meanwhile. Raises ApiError 404."""
        with self._lock:
            self.get(file_id)
            return self._data(file_id).open("rb")

    def link(self, file_id: str, target: Path) -> None:
        """Give the content a second name, so that deleting the file does not take it. Raises ApiError 404."""
        with self._lock:
            self.get(file_id)
            try:
                os.link(self._data(file_id), target)
            except OSError:  # a file system without hard links
                with self._data(file_id).open("rb") as source, durable.atomic_file(target) as copy:
                    shutil.copyfileobj(source, copy, _COPY_BYTES)

    def delete(self, file_id: str) -> None:
        """Remove a file for good. Raises ApiError 404."""
        with self._lock:
            self.get(file_id)
            durable.remove_file(self._json(file_id))
            del self._files[file_id]
            self._data(file_id).unlink(missing_ok=True)

    def sweep(self, now: int) -> None:
        """Remove the files whose time is over."""
        with self._lock:
            over = [record.id for record in self._files.values() if (record.expires_at or now + 1) <= now]
            for file_id in over:
                self.delete(file_id)

    def _data(self, file_id: str) -> Path:
        return self._directory / f"{file_id}.data"

    def _json(self, file_id: str) -> Path:
        return self._directory / f"{file_id}.json"
