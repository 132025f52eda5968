"""A batch that has rows to run: its input file, its answer log, and how far it is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkrate.ledger.answer_log import AnswerLog
from bulkrate.server import answers
from bulkrate.server.api_error import ApiError
from bulkrate.server.calls import Call, read_call
from bulkrate.server.dispatch import Ticket
from bulkrate.server.input_file import read_row, scan
from bulkrate.server.records import BatchRecord
from bulkrate.server.schedule import BATCH_PRIORITY, WaitingBatch

if TYPE_CHECKING:
    from bulkrate.server.engine import EngineAnswer

ONE_SEGMENT_BYTES = 1 << 39
"""A batch is one segment of its log: sealed when it ends, never before."""


class ActiveBatch:
    """Rows in, answers out. Opened when its first row is taken: a queue of batches costs no memory.

    `take` and the ticket's callbacks run in the engine's thread; `on_done` is called once, in any thread,
    when every row has an answer on disk.
    """

    def __init__(
        self,
        record: BatchRecord,
        input_path: Path,
        log_path: Path,
        *,
        now: Callable[[], float],
        on_done: Callable[[str], None],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.id = record.id
        self._record = record
        self._input_path, self._log_path = input_path, log_path
        self._now, self._on_done, self._on_fatal = now, on_done, on_fatal
        self._lock = threading.RLock()
        self._log: AnswerLog | None = None
        self._input = -1
        self._next = 0
        self._waiting = record.total
        self._tally = answers.Tally()

    def view(self) -> WaitingBatch:
        """How many rows wait, and how urgent they are."""
        record = self._record
        return WaitingBatch(self.id, record.expires_at, record.sequence, self._waiting)

    def tally(self) -> answers.Tally:
        """What is answered so far, on disk."""
        with self._lock:
            return self._tally.copy()

    def open(self) -> None:
        """Read the input file and what the log already holds; rows with an answer never run again."""
        with self._lock:
            if self._log is not None:
                return
            record = self._record
            self._log = AnswerLog(self._log_path, segment_bytes=ONE_SEGMENT_BYTES)
            self._scan = scan(
                self._input_path,
                endpoint=record.endpoint,
                model=record.model or "",
                max_rows=record.total,
                answered=self._log,
            )
            self._input = os.open(self._input_path, os.O_RDONLY)
            for _, answer in self._log.entries():
                self._tally.add(answer)
            self._waiting = len(self._scan.waiting)
            done = self._tally.rows >= self._scan.rows
        if done:
            self._on_done(self.id)

    def take(self) -> Ticket | None:
        """The next row that waits; rows that cannot be run at all are answered on the way."""
        self.open()
        while self._waiting:
            row = self._scan.waiting[self._next]
            self._next += 1
            self._waiting -= 1
            start, end = self._scan.offsets[row : row + 2]
            custom_id, body = read_row(os.pread(self._input, end - start, start))
            try:
                call = read_call(self._record.endpoint, body)
            except ApiError as error:
                self._refused(custom_id, error)
                continue
            return Ticket(
                call.engine_request(f"{self.id}:{row}", BATCH_PRIORITY),
                partial(self._answered, custom_id, call),
                partial(self._refused, custom_id),
            )
        return None

    def close(self) -> None:
        """Wait for the answers under way to reach the disk, and let go."""
        with self._lock:
            log, self._log = self._log, None
        if log is not None:
            log.close()
            os.close(self._input)

    def _answered(self, custom_id: str, call: Call, answer: EngineAnswer) -> None:
        self._keep(custom_id, answers.from_engine(answer, call, int(self._now())))

    def _refused(self, custom_id: str, error: ApiError) -> None:
        self._keep(custom_id, answers.from_error(error, int(self._now())))

    def _keep(self, custom_id: str, answer: dict[str, Any]) -> None:
        assert self._log is not None
        self._log.submit(custom_id, answer).add_done_callback(partial(self._kept, answer))

    def _kept(self, answer: dict[str, Any], future: Future[bool]) -> None:
        failure = future.exception()
        if failure is not None:
            self._on_fatal(failure)
            return
        with self._lock:
            if not future.result():
                return
            self._tally.add(answer)
            done = self._tally.rows >= self._scan.rows
        if done:
            self._on_done(self.id)
