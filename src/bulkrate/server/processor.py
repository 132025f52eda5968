"""What happens to a batch: validated, run, written out; begun again after a crash where it stood.

Three kinds of threads meet here: the callers' (HTTP), the engine's (`dispatch`), and one clerk for what
takes long and touches the disk. State is on disk before anybody is told of it, so a start after `kill -9`
only has to look at the records: `start` is the whole recovery.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from bulkrate.ledger.answer_log import AnswerLog
from bulkrate.server import answers, durable, results
from bulkrate.server.active import ONE_SEGMENT_BYTES, ActiveBatch
from bulkrate.server.api_error import ApiError, invalid
from bulkrate.server.batch_states import BatchEvent, BatchState
from bulkrate.server.batches import BatchStore
from bulkrate.server.calls import Call
from bulkrate.server.dispatch import Dispatcher, Ticket
from bulkrate.server.files import FileStore
from bulkrate.server.input_file import scan
from bulkrate.server.records import BatchRecord
from bulkrate.server.schedule import INTERACTIVE_PRIORITY
from bulkrate.server.wire import CreateCall
from bulkrate.signals import signal

if TYPE_CHECKING:
    from bulkrate.server.engine import Engine, EngineAnswer

log = logging.getLogger(__name__)

MAX_ROWS = 50_000
"""Requests per batch, OpenAI's limit (Batch guide, 2026-11)."""


class BatchProcessor:
    """The batches of one state directory on one engine. Nobody else may use the directory meanwhile."""

    def __init__(
        self,
        directory: Path,
        engine: Engine,
        *,
        now: Callable[[], float] = time.time,
        max_rows: int = MAX_ROWS,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.engine = engine
        self.now = now
        self.files = FileStore(directory / "files")
        self.batches = BatchStore(directory / "batches", now)
        self.dispatcher = Dispatcher(engine, self._fatal)
        self.failure: BaseException | None = None
        self._max_rows = max_rows
        self._report = on_fatal
        self._active: dict[str, ActiveBatch] = {}
        self._clerk = ThreadPoolExecutor(1, thread_name_prefix="clerk")

    # --- life ---

    def start(self) -> None:
        """Take up every batch where it stood, and begin to work."""
        for record in self.batches.all():
            if record.ended:
                if self.batches.input_path(record.id).exists():
                    self._ask_clerk(self._tidy, record.id)
            elif record.state is BatchState.VALIDATING:
                self._ask_clerk(self._validate, record.id)
            elif record.state is BatchState.IN_PROGRESS:
                self._activate(record)
            else:
                self._ask_clerk(self._write_out, record.id)
        self.dispatcher.start()

    def close(self) -> None:
        """Stop; unfinished batches wait for the next start."""
        self.dispatcher.close()
        self._clerk.shutdown(cancel_futures=True)
        for active in list(self._active.values()):
            active.close()
        self.engine.close()

    @property
    def idle(self) -> bool:
        """Whether nothing is unfinished and nobody waits for an answer."""
        return not self.batches.unfinished() and not self.dispatcher.busy

    # --- what callers ask for ---

    def create(self, call: CreateCall) -> BatchRecord:
        """Create a batch. Durable when this returns; raises ApiError."""
        now = int(self.now())
        batch_id = f"batch_{secrets.token_hex(16)}"

        def make(sequence: int) -> BatchRecord:
            return BatchRecord(
                id=batch_id,
                sequence=sequence,
                endpoint=call.endpoint,
                input_file_id=call.input_file_id,
                completion_window=call.completion_window,
                created_at=now,
                expires_at=now + call.window_s,
                metadata=call.metadata,
                output_life_s=call.output_life_s,
            )

        try:
            if self.files.get(call.input_file_id).purpose != "batch":
                raise invalid("input_file_id", "the file's purpose must be 'batch'")
            signal("server.create.before")
            record = self.batches.add(make, partial(self.files.link, call.input_file_id))
        except ApiError as error:
            if error.status != 404:
                raise
            # The words and the status of the real service (seen in public issues, 2025).
            message = f"Cannot find file {call.input_file_id}, or you do not have access to it."
            raise ApiError(400, message, param="input_file_id") from None
        signal("server.create.after")
        self._ask_clerk(self._validate, record.id)
        return record

    def cancel(self, batch_id: str) -> BatchRecord:
        """Stop a batch; its finished rows are kept. Raises ApiError 404, or 409 when it has ended."""
        self.batches.get(batch_id)
        if self.batches.move(batch_id, BatchEvent.CANCEL_ASKED):
            signal("server.cancel.after")
            self._stop(batch_id)
        record = self.batches.get(batch_id)
        if record.state not in {BatchState.CANCELLING, BatchState.CANCELLED}:
            raise ApiError(409, f"Cannot cancel a batch with status '{record.state.value}'.")
        return record

    def ask(self, call: Call, request_id: str) -> Future[EngineAnswer]:
        """Send an interactive request to the engine; fails with ApiError when the engine refuses it."""
        reply: Future[EngineAnswer] = Future()
        reply.set_running_or_notify_cancel()  # a caller that leaves must not trip the engine's thread
        request = call.engine_request(request_id, INTERACTIVE_PRIORITY)
        self.dispatcher.submit(Ticket(request, reply.set_result, reply.set_exception))
        return reply

    def tally(self, record: BatchRecord) -> answers.Tally:
        """Rows and tokens so far."""
        active = self._active.get(record.id)
        if active is not None and not record.ended:
            return active.tally()
        return answers.Tally(
            record.completed, record.failed, record.input_tokens, record.cached_tokens, record.output_tokens
        )

    def tick(self) -> None:
        """End the batches whose window is over, and remove the files whose time is over."""
        now = int(self.now())
        for record in self.batches.unfinished():
            if record.expires_at <= now and self.batches.move(
                record.id, BatchEvent.WINDOW_CLOSED, _close_window
            ):
                self._stop(record.id)
        self.files.sweep(now)

    # --- from state to state ---

    def _activate(self, record: BatchRecord) -> None:
        active = ActiveBatch(
            record,
            self.batches.input_path(record.id),
            self.batches.log_path(record.id),
            now=self.now,
            on_done=self._all_answered,
            on_fatal=self._fatal,
        )
        self._active[record.id] = active
        if self.batches.log_path(record.id).exists():
            active.open()  # it had begun: its counts must be right before anybody asks
        self.dispatcher.add(active)

    def _validate(self, batch_id: str) -> None:
        record = self.batches.get(batch_id)
        if record.state is not BatchState.VALIDATING:
            return
        path, model = self.batches.input_path(batch_id), self.engine.model
        found = scan(path, endpoint=record.endpoint, model=model, max_rows=self._max_rows)

        def accept(fresh: BatchRecord) -> None:
            fresh.total, fresh.model = found.rows, model

        def reject(fresh: BatchRecord) -> None:
            fresh.problems = found.problems

        if found.problems:
            if self.batches.move(batch_id, BatchEvent.INVALID, reject):
                self._tidy(batch_id)
        elif self.batches.move(batch_id, BatchEvent.VALIDATED, accept):
            signal("server.validate.after")
            self._activate(self.batches.get(batch_id))

    def _all_answered(self, batch_id: str) -> None:
        self._ask_clerk(self._complete, batch_id)

    def _complete(self, batch_id: str) -> None:
        if self.batches.move(batch_id, BatchEvent.ALL_ANSWERED):
            self.dispatcher.remove(batch_id)
            self._write_out(batch_id)

    def _stop(self, batch_id: str) -> None:
        """Write out what there is once none of the batch's rows is with the engine."""
        self.dispatcher.withdraw(batch_id, lambda: self._ask_clerk(self._write_out, batch_id))

    def _write_out(self, batch_id: str) -> None:
        """Result files from the log, then the last state; harmless to repeat."""
        record = self.batches.get(batch_id)
        if record.ended:
            return
        if self.dispatcher.holds(batch_id):
            # Cancelled between its validation and its first row: the engine let it in after that.
            self._stop(batch_id)
            return
        active = self._active.get(batch_id)
        if active is not None:
            active.close()
        signal("server.write_out.before")
        path = self.batches.input_path(batch_id)
        part = record.window_closed or record.state is BatchState.CANCELLING
        with AnswerLog(self.batches.log_path(batch_id), segment_bytes=ONE_SEGMENT_BYTES) as answer_log:
            found = results.gather(answer_log)
            output_id = error_id = None
            if found.tally.completed:
                output_id = self._write_file(
                    record, "output", partial(results.write_output, record, path, answer_log, found)
                )
            # A batch cancelled before it was validated has no rows that anybody promised to answer.
            if found.tally.completed < record.total:
                code = "batch_expired" if record.window_closed else "batch_cancelled"
                error_id = self._write_file(
                    record, "error", partial(results.write_errors, record, path, answer_log, code)
                )
            signal("server.write_out.after")

            def end(fresh: BatchRecord) -> None:
                tally = found.tally
                fresh.completed, fresh.failed = tally.completed, tally.failed
                fresh.input_tokens, fresh.cached_tokens = tally.input_tokens, tally.cached_tokens
                fresh.output_tokens = tally.output_tokens
                fresh.output_file_id, fresh.error_file_id = output_id, error_id

            self.batches.move(batch_id, BatchEvent.PART_WRITTEN if part else BatchEvent.ALL_WRITTEN, end)
            signal("server.end.after")
        self._active.pop(batch_id, None)
        self._tidy(batch_id)

    def _write_file(self, record: BatchRecord, kind: str, fill: Callable[[BinaryIO], None]) -> str:
        # The id follows from the batch's: a second attempt after a crash replaces the first one's file.
        return self.files.write(
            fill,
            file_id=f"file-{record.id.removeprefix('batch_')}-{kind}",
            filename=f"{record.id}_{kind}.jsonl",
            purpose="batch_output",
            now=int(self.now()),
            life_s=record.output_life_s,
        ).id

    def _tidy(self, batch_id: str) -> None:
        """Seal an ended batch's log and let go of its `input.jsonl`, which is there until this is done."""
        if self.batches.log_path(batch_id).exists():
            with AnswerLog(self.batches.log_path(batch_id)) as answer_log:
                answer_log.seal()
        durable.remove_file(self.batches.input_path(batch_id))

    # --- the clerk ---

    def _ask_clerk(self, work: Callable[[str], None], batch_id: str) -> None:
        try:
            self._clerk.submit(self._guarded, work, batch_id)
        except RuntimeError:
            log.debug("closing: %s waits for the next start", batch_id)

    def _guarded(self, work: Callable[[str], None], batch_id: str) -> None:
        try:
            work(batch_id)
        except Exception as error:
            log.error("batch %s: %s failed: %s", batch_id, work.__name__.strip("_"), type(error).__name__)
            self._fatal(error)

    def _fatal(self, error: BaseException) -> None:
        """Something that cannot be gone on from, such as a full disk: what is on disk is right, so stop."""
        if self.failure is None:
            self.failure = error
            if self._report is not None:
                self._report(error)


def _close_window(record: BatchRecord) -> None:
    record.window_closed = True
