"""The answer log: what makes a single answer durable before anybody is told of it.

One directory holds one log. Answers are appended to an open segment of JSON lines; a commit thread writes
what has gathered and syncs it once (group commit), so an answer costs a share of an fsync. A full or
finished segment is sealed: rewritten as Parquet (zstd) and the lines removed.

    00000.parquet    sealed: columns `id`, `answer` (JSON text)
    00001.jsonl      open: {"crc":"9ae0daaf","id":"row-7","answer":{...}}

The checksum covers everything after its own field. A crash can leave a torn tail, which opening cuts off;
a damaged line before a good one is skipped and counted, so that no readable answer is ever given up. An id
is answered once: a later answer for it is refused.

Order on disk: a new file is synced, then its directory, before the first answer in it is acknowledged; a
sealed file is synced, renamed and its directory synced before the lines it replaces are removed.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from bulkrate.errors import LedgerError
from bulkrate.ledger import answer_segment
from bulkrate.signals import signal

COMMIT_DELAY_S = 0.002
COMMIT_RECORDS = 512
SEGMENT_BYTES = 64 * 1024 * 1024

_SEGMENT_SHIFT = 40  # a place is segment number << 40 | byte offset, or | row number when sealed
_OFFSET_MASK = (1 << _SEGMENT_SHIFT) - 1


class AnswerLog:
    """An append-only log of answers by id. One process at a time may hold it; threads may share it.

    Memory is the index: an id and an integer per answer (about 170 bytes).
    """

    def __init__(
        self,
        directory: Path,
        *,
        commit_delay_s: float = COMMIT_DELAY_S,
        commit_records: int = COMMIT_RECORDS,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        """Open or create the log in `directory`. Raises LedgerError when another process holds it."""
        self.directory = directory
        self.damaged = 0  # lines skipped on opening
        self.cut_bytes = 0  # torn tail removed on opening
        self._commit_delay_s = commit_delay_s
        self._commit_records = commit_records
        self._segment_bytes = segment_bytes
        self._places: dict[str, int] = {}
        self._sealed: set[int] = set()
        # `_io`: held while writing or sealing; files and index change only under it. `_wake`: for moments.
        self._io = threading.Lock()
        self._wake = threading.Condition()
        self._queue: list[tuple[str, bytes, Future[bool]]] = []
        self._pending: dict[str, Future[bool]] = {}
        self._closing = False
        self._failure: LedgerError | None = None
        self._file = -1
        self._directory_fd = _open_directory(directory)
        try:
            self._segment = self._recover()
            self._file, self._size = self._open_segment(self._segment)
        except BaseException:
            self._release()
            raise
        self._committer = threading.Thread(target=self._commit_loop, name="answer-log", daemon=True)
        self._committer.start()

    # --- writing ---

    def submit(self, answer_id: str, answer: Mapping[str, Any]) -> Future[bool]:
        """Queue an answer; the future is True once it is on disk, False if the id was answered before.

        The future fails with LedgerError when the disk refuses; the log then takes no more answers, since
        after a failed sync nobody knows what is on disk. Opening it again finds out.
        """
        line = answer_segment.encode_line(answer_id, answer)
        future: Future[bool] = Future()
        future.set_running_or_notify_cancel()  # a waiter that gives up must not undo the write
        with self._wake:
            if self._failure is not None:
                future.set_exception(self._failure)
            elif self._closing:
                future.set_exception(LedgerError("the answer log is closed", code="answer_log_closed"))
            elif answer_id in self._places:
                future.set_result(False)
            elif (first := self._pending.get(answer_id)) is not None:
                first.add_done_callback(lambda done: _follow(done, future))
            else:
                self._pending[answer_id] = future
                self._queue.append((answer_id, line, future))
                self._wake.notify()
        return future

    async def append(self, answer_id: str, answer: Mapping[str, Any]) -> bool:
        """Write an answer and wait until it is on disk; False when the id was answered before."""
        return await asyncio.wrap_future(self.submit(answer_id, answer))

    def append_sync(self, answer_id: str, answer: Mapping[str, Any]) -> bool:
        """`append` for code that runs in a thread."""
        return self.submit(answer_id, answer).result()

    # --- reading ---

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, answer_id: object) -> bool:
        return answer_id in self._places

    def ids(self) -> list[str]:
        """The ids that have an answer on disk, in the order they were written."""
        with self._wake:
            return list(self._places)

    def get(self, answer_id: str) -> dict[str, Any] | None:
        """The answer of an id, or None. Sealed segments are read by row groups: for many, use `entries`."""
        with self._wake:
            place = self._places.get(answer_id)
            if place is None:
                return None
            segment, at = place >> _SEGMENT_SHIFT, place & _OFFSET_MASK
            line = b"" if segment in self._sealed else answer_segment.line_at(self._file, at)
        if not line:
            return answer_segment.parquet_answer(self._parquet(segment), at)
        answer: dict[str, Any] = orjson.loads(line)["answer"]
        return answer

    def entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """All answers on disk, in the order they were written, in bounded memory."""
        with self._wake:
            sealed, size = sorted(self._sealed), self._size
            file = self._jsonl(self._segment).open("rb", buffering=answer_segment.READ_BYTES)
        with file:  # stays readable when it is sealed meanwhile
            for number in sealed:
                for answer_id, text in answer_segment.parquet_rows(self._parquet(number)):
                    yield answer_id, orjson.loads(text)
            for _, line in answer_segment.lines(file, size):
                if (entry := answer_segment.decode_line(line)) is not None:
                    yield entry["id"], entry["answer"]

    # --- the end ---

    def seal(self) -> None:
        """Wait for what is queued, then turn the open segment into Parquet. The log may go on after it."""
        with self._wake:
            waiting = list(self._pending.values())
        for future in waiting:
            future.result()
        with self._io:
            self._seal_open()

    def close(self) -> None:
        """Write and sync what is queued, then let go. Twice is harmless."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._committer.join()
        if self._file >= 0 and self._size == 0:
            self._jsonl(self._segment).unlink()  # nothing was written to it
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- the commit thread ---

    def _commit_loop(self) -> None:
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    self._wake.wait()
                if len(self._queue) < self._commit_records and not self._closing:
                    self._wake.wait_for(
                        lambda: self._closing or len(self._queue) >= self._commit_records,
                        timeout=self._commit_delay_s,
                    )
                group, self._queue = self._queue, []
                if not group:
                    return
            with self._io:
                try:
                    signal("answer_log.write.before")
                    _write_all(self._file, b"".join(line for _, line, _ in group))
                    signal("answer_log.sync.before")
                    os.fsync(self._file)
                    signal("answer_log.sync.after")
                except OSError as error:
                    self._fail(error, group)
                    return
                with self._wake:
                    for answer_id, line, _ in group:
                        self._places[answer_id] = self._segment << _SEGMENT_SHIFT | self._size
                        self._size += len(line)
                        del self._pending[answer_id]
            for _, _, future in group:
                future.set_result(True)
            if self._size >= self._segment_bytes:
                try:
                    with self._io:
                        self._seal_open()
                except OSError as error:
                    self._fail(error, [])
                    return

    def _fail(self, error: OSError, group: list[tuple[str, bytes, Future[bool]]]) -> None:
        failure = _write_error(error)
        with self._wake:
            self._failure = failure
            group = group + self._queue
            self._queue = []
            self._pending.clear()
        for _, _, future in group:
            future.set_exception(failure)

    def _seal_open(self) -> None:
        if self._size == 0:
            return
        number = self._segment
        final = self._parquet(number)
        rows = [
            (answer_id, place & _OFFSET_MASK)
            for answer_id, place in self._places.items()
            if place >> _SEGMENT_SHIFT == number
        ]
        temporary = final.with_suffix(".parquet.tmp")
        answer_segment.write_parquet(temporary, rows, self._file)
        temporary.rename(final)
        os.fsync(self._directory_fd)
        signal("answer_log.seal.after")
        old, (fresh, size) = self._file, self._open_segment(number + 1)
        with self._wake:
            for row, (answer_id, _) in enumerate(rows):
                self._places[answer_id] = number << _SEGMENT_SHIFT | row
            self._sealed.add(number)
            self._segment, self._file, self._size = number + 1, fresh, size
        os.close(old)
        self._jsonl(number).unlink()
        os.fsync(self._directory_fd)

    # --- opening ---

    def _recover(self) -> int:
        """Read every segment into the index; returns the number of the segment to append to."""
        for leftover in self.directory.glob("*.tmp"):
            leftover.unlink()
        for path in sorted(self.directory.glob("*.parquet")):
            number = int(path.stem)
            self._sealed.add(number)
            for row, answer_id in enumerate(answer_segment.parquet_ids(path)):
                self._places.setdefault(answer_id, number << _SEGMENT_SHIFT | row)
        segments = []
        for path in sorted(self.directory.glob("*.jsonl")):
            number = int(path.stem)
            if number in self._sealed:
                path.unlink()  # the crash came between sealing it and removing it
            else:
                segments.append(number)
        for number in segments:
            self._index(number)
        return max([*segments, *(number + 1 for number in self._sealed)], default=0)

    def _index(self, number: int) -> None:
        path = self._jsonl(number)
        size, good, damaged = path.stat().st_size, 0, 0
        with path.open("rb", buffering=answer_segment.READ_BYTES) as lines:
            for offset, line in answer_segment.lines(lines, size):
                entry = answer_segment.decode_line(line)
                if entry is None:
                    damaged += 1
                    continue
                self._places.setdefault(entry["id"], number << _SEGMENT_SHIFT | offset)
                self.damaged += damaged
                good, damaged = offset + len(line), 0
        if good < size:
            self.cut_bytes += size - good
            with path.open("r+b") as file:
                file.truncate(good)
                os.fsync(file.fileno())

    def _open_segment(self, number: int) -> tuple[int, int]:
        fd = os.open(self._jsonl(number), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.fsync(fd)
        os.fsync(self._directory_fd)
        return fd, os.fstat(fd).st_size

    def _release(self) -> None:
        for fd in (self._file, self._directory_fd):
            if fd >= 0:
                os.close(fd)
        self._file = self._directory_fd = -1

    def _jsonl(self, number: int) -> Path:
        return self.directory / f"{number:05d}.jsonl"

    def _parquet(self, number: int) -> Path:
        return self.directory / f"{number:05d}.parquet"


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _open_directory(directory: Path) -> int:
    if not directory.is_dir():
        directory.mkdir(parents=True)
        sync_directory(directory.parent)
    fd = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise LedgerError(
            f"the answer log {directory} is in use by another process",
            code="answer_log_busy",
            hint="wait for it to end, or stop it",
        ) from None
    return fd


def _write_error(error: OSError) -> LedgerError:
    return LedgerError(
        f"the answer log cannot be written: {error.strerror}",
        code="answer_log_write",
        hint="free some disk space and start again: answers already acknowledged are safe",
    )


def _follow(first: Future[bool], second: Future[bool]) -> None:
    failure = first.exception()
    if failure is None:
        second.set_result(False)
    else:
        second.set_exception(failure)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
