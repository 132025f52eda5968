"""The batches the server holds: a directory each.

    batches/<id>/batch.json     the record, replaced whole at each change of state
    batches/<id>/input.jsonl    the input file under a second name, until the batch ends
    batches/<id>/answers/       the answer log

A batch exists from the moment its record is on disk; that is before its creation is answered.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

from bulkrate.server import durable, records
from bulkrate.server.api_error import ApiError
from bulkrate.server.batch_states import BATCH_TABLE, BatchEvent, BatchState
from bulkrate.server.records import BatchRecord


class BatchStore:
    """Batch records by id. Safe to use from several threads of one process."""

    def __init__(self, directory: Path, now: Callable[[], float]) -> None:
        self._directory = directory
        self._now = now
        self._lock = threading.RLock()
        durable.make_directory(directory)
        kept = []
        for path in directory.iterdir():
            record = path / "batch.json"
            if record.is_file():
                kept.append(records.decode_batch(record.read_bytes()))
            else:
                shutil.rmtree(path)  # the crash came before the record: nobody was told of it
        self._batches = {record.id: record for record in sorted(kept, key=lambda record: record.sequence)}
        self._next = max((record.sequence for record in kept), default=0) + 1

    def add(self, make: Callable[[int], BatchRecord], link_input: Callable[[Path], None]) -> BatchRecord:
        """Create a batch; `make` gets its sequence number. Durable when this returns."""
        with self._lock:
            record = make(self._next)
            directory = self.directory(record.id)
            durable.make_directory(directory)
            try:
                link_input(self.input_path(record.id))
                durable.write_atomically(directory / "batch.json", records.encode(record))
            except BaseException:
                shutil.rmtree(directory)
                raise
            self._next += 1
            self._batches[record.id] = record
            return record

    def get(self, batch_id: str) -> BatchRecord:
        """A batch's record. Raises ApiError 404."""
        with self._lock:
            record = self._batches.get(batch_id)
        if record is None:
            raise ApiError(404, f"No batch found with id '{batch_id}'.")
        return record

    def all(self) -> list[BatchRecord]:
        """Every batch, oldest first."""
        with self._lock:
            return list(self._batches.values())

    def unfinished(self) -> list[BatchRecord]:
        """The batches that still have something to do, oldest first."""
        return [record for record in self.all() if not record.ended]

    def move(
        self, batch_id: str, event: BatchEvent, change: Callable[[BatchRecord], None] | None = None
    ) -> bool:
        """Apply an event and what comes with it, on disk when this returns; False when it comes too late."""
        with self._lock:
            record = self._batches[batch_id]
            if not BATCH_TABLE.knows(record.state, event):
                return False
            state = BATCH_TABLE.next(record.state, event)
            fresh = records.decode_batch(records.encode(record))
            fresh.state = state
            if state is not BatchState.VALIDATING:
                fresh.times[state.value] = int(self._now())
            if change is not None:
                change(fresh)
            durable.write_atomically(self.directory(batch_id) / "batch.json", records.encode(fresh))
            self._batches[batch_id] = fresh
            return True

    def directory(self, batch_id: str) -> Path:
        """Where a batch lives."""
        return self._directory / batch_id

    def input_path(self, batch_id: str) -> Path:
        """The batch's own name for its input file."""
        return self.directory(batch_id) / "input.jsonl"

    def log_path(self, batch_id: str) -> Path:
        """The directory of the batch's answer log."""
        return self.directory(batch_id) / "answers"
