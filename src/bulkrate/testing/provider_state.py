"""A batch provider as a model: files, batches, rows and meters, moved by events, without HTTP.

A batch moves one step per status poll, so tests never wait; time is passed in and only stamps what
happens (and closes the window of a batch that outlives it). All the faults of rows and batches act here;
what a request line and a result line look like is the dialect's ``Codec``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

from bulkrate.testing import answers
from bulkrate.testing.answers import Answerer, TokenCounter
from bulkrate.testing.blob import Blob
from bulkrate.testing.fault_schedule import FaultSchedule
from bulkrate.testing.faults import UNKNOWN_WORDS, Fate, FaultPlan
from bulkrate.testing.meter import Acceptance, Meter
from bulkrate.testing.records import (
    Batch,
    Codec,
    JobError,
    Limits,
    Phase,
    Reason,
    Refused,
    Scan,
    StoredFile,
    nearly,
    no_batch,
    strangers,
)
from bulkrate.testing.result_files import ResultWriter

WINDOW_S: Final = 86_400


class ProviderState:
    """Everything a provider knows. Not thread-safe: one thread or event loop owns it."""

    def __init__(
        self,
        codec: Codec,
        limits: Limits,
        *,
        plan: FaultPlan | None = None,
        polls: int = 2,
        now: Callable[[], datetime] | None = None,
        answer: Answerer | None = None,
        count_tokens: TokenCounter | None = None,
        models: Sequence[str] | None = None,
        window_s: int = WINDOW_S,
        track_ids: bool = True,
    ) -> None:
        """A provider without files.

        A batch completes at its ``polls``-th status poll (at least 1). ``models``: the only models batches
        may name, ``None`` for any. ``track_ids``: count accepted rows per custom id (about 150 bytes each).
        """
        if polls < 1:
            raise ValueError("a batch needs at least one poll to complete")
        self.codec, self.limits, self.polls, self.models = codec, limits, polls, models
        self.faults, self._window_s = FaultSchedule(plan or FaultPlan()), window_s
        self.meter = Meter()
        self._accepted = Acceptance(self.meter, track_ids=track_ids)
        self.files: dict[str, StoredFile] = {}
        self.batches: dict[str, Batch] = {}
        self._now = now or (lambda: datetime.now(UTC))
        self._count_tokens = count_tokens or answers.count_tokens
        self.writer = ResultWriter(codec, answer or answers.default_answer, self._count_tokens)
        self._runnable = 0  # batches created so far that could run
        self.on_end: Callable[[Batch], None] = lambda batch: None
        self._made: Counter[str] = Counter()

    def set_plan(self, plan: FaultPlan) -> None:
        """Have other faults from now on, for batches and calls still to come; the present ones behave."""
        self.faults.begin(plan, self._runnable)

    # -- files -----------------------------------------------------------------------------------------

    def add_file(self, blob: Blob, *, name: str, purpose: str, expires_at: int | None = None) -> StoredFile:
        """Store a file that a client uploaded."""
        self.meter.uploads += 1
        self.meter.uploaded_lines += blob.line_count
        self.meter.uploaded_bytes += blob.size_bytes
        return self._store(blob, name, purpose, expires_at)

    def file(self, file_id: str) -> StoredFile:
        """The file, or ``Refused`` with ``NOT_FOUND``."""
        found = self.files.get(file_id)
        if found is None:
            message = f"No such File object: {file_id}"
            raise Refused(Reason.NOT_FOUND, message, param="id")
        return found

    def download(self, file_id: str) -> StoredFile:
        """The file whose content is about to be sent."""
        found = self.file(file_id)
        self.meter.downloads += 1
        self.meter.downloaded_bytes += found.blob.size_bytes
        return found

    def delete_file(self, file_id: str) -> None:
        """Forget a file; a batch created from it goes on."""
        stored = self.file(file_id)
        del self.files[file_id]
        self._close_unused(stored.blob)

    # -- batches ---------------------------------------------------------------------------------------

    def create_batch(
        self,
        input_file_id: str,
        *,
        endpoint: str,
        window: str,
        metadata: dict[str, str] | None = None,
    ) -> Batch:
        """Record a batch over an uploaded file.

        Like the real ones, malformed input and an exceeded token queue are accepted here and turn the batch
        failed at its first step (``token_queue=…,at=create`` refuses at once, as Azure does); which it will
        be is settled now, so that the meter counts a batch whose creator died.
        """
        source = self.files[input_file_id]
        scan = self.scanned(source.blob, endpoint)
        if not scan.errors:
            self._admit(scan)
        ordinal = -1 if scan.errors else self._runnable
        self._runnable += not scan.errors
        at, lag = self.at(), self.faults.on_create("list_lag", ordinal)

        def record(
            name: str, metadata: dict[str, str] | None, blob: Blob, scan: Scan, *, foreign: bool = False
        ) -> Batch:
            batch = Batch(
                id=self._new_id("batch_", 32),
                ordinal=ordinal,
                endpoint=endpoint,
                window=window,
                metadata=metadata,
                input_file_id=name,
                created_at=at,
                expires_at=at + self._window_s,
                blob=blob,
                scan=scan,
                empty_ids=self.faults.on_create("empty_ids", ordinal) is not None,
                hidden_lists=0 if lag is None else lag.count,
                foreign=foreign,
            )
            self.batches[batch.id] = batch
            if not foreign:
                self._accepted.add(scan)
            return batch

        def record_lookalike(*, first: bool) -> None:
            if self.faults.on_create("lookalikes", ordinal):
                theirs, blob = nearly(metadata, first=first), source.blob
                if metadata is None:  # then it is the ids that are somebody else's
                    blob = Blob(line + b"\n" for line in strangers(self.codec, source.blob.lines()))
                record(self._new_id("file-", 22), theirs, blob, self.scanned(blob, endpoint), foreign=True)

        record_lookalike(first=True)
        batch = record(input_file_id, metadata, source.blob, scan)
        if self.faults.on_create("duplicate_create", ordinal):
            record(input_file_id, metadata, source.blob, self.scanned(source.blob, endpoint))
        record_lookalike(first=False)
        return batch

    def scanned(self, blob: Blob, endpoint: str) -> Scan:
        """What a batch over these requests would be; nothing is recorded."""
        return self.codec.scan(
            blob.lines(),
            endpoint=endpoint,
            limits=self.limits,
            models=self.models,
            count_tokens=self._count_tokens,
        )

    def listed(self, *, first_page: bool = True) -> list[Batch]:
        """The batches a list call shows, newest first; each first page brings hidden ones nearer."""
        shown = []
        for batch_id in list(self.batches)[::-1]:
            batch = self.batch(batch_id)
            if batch.hidden_lists == 0:
                shown.append(batch)
            else:
                batch.hidden_lists -= first_page
        return shown

    def batch(self, batch_id: str) -> Batch:
        """The batch as it stands, or ``Refused`` with ``NOT_FOUND``."""
        found = self.batches.get(batch_id)
        if found is None:
            raise no_batch(batch_id)
        self._close_window(found)
        return found

    def poll(self, batch_id: str) -> Batch:
        """One status call: move the batch a step and give it, or refuse with ``UNAVAILABLE``."""
        self.meter.status_calls += 1
        batch = self.batch(batch_id)
        batch.asked += 1
        if self.faults.on_poll("status_404", batch):
            raise no_batch(batch_id)
        if self.faults.on_poll("status_503", batch):
            message = "The server is overloaded or not ready yet."
            raise Refused(Reason.UNAVAILABLE, message)
        unknown = self.faults.on_batch("unknown_status", batch)
        if unknown is not None and batch.asked <= unknown.count and not batch.ended:
            batch.word = UNKNOWN_WORDS[batch.asked % len(UNKNOWN_WORDS)]
            return batch
        batch.word = None
        self.step(batch)
        return batch

    def cancel(self, batch_id: str) -> Batch:
        """Begin to cancel; the rows run so far keep their answers. ``CONFLICT`` when it has ended."""
        batch = self.batch(batch_id)
        if batch.ended:
            raise Refused(Reason.CONFLICT, f"Cannot cancel a batch with status '{batch.phase}'.")
        if batch.phase is not Phase.CANCELLING:
            self._enter(batch, Phase.CANCELLING)
        return batch

    def release(self, batch: Batch) -> None:
        """Let a stuck batch go on."""
        batch.released = True

    def step(self, batch: Batch) -> None:
        """Move a batch one step along its way."""
        if batch.ended:
            return
        if batch.phase is Phase.CANCELLING:
            slow = self.faults.on_batch("slow_cancel", batch)
            batch.cancelling_polls += 1
            if slow is None or batch.cancelling_polls > slow.count or batch.released:
                self._finish(batch, Phase.CANCELLED, Fate.CANCELLED)
            return
        if batch.scan.errors:
            self._enter(batch, Phase.FAILED)
            self._close_unused(batch.blob)
            return
        stuck = self.faults.on_batch("stuck", batch)
        if stuck is not None and batch.phase == stuck.word("phase") and not batch.released:
            batch.held_polls += 1
            if batch.phase is Phase.IN_PROGRESS:
                batch.done = min(stuck.number("done"), batch.rows)
            if not stuck.number("polls") or batch.held_polls <= stuck.number("polls"):
                return
        batch.polls += 1
        self._advance(batch)

    def _next_phase(self, batch: Batch) -> Phase:
        """The phase after ``batch.polls`` steps: the last is the end, the one before it finalizing."""
        left = max(self.polls - batch.polls, 0)
        forced = self.faults.on_batch("stuck", batch)
        if forced is not None and batch.held_polls == 0 and not batch.released:
            # A batch that is to be stuck in a phase must reach it, however few steps there are.
            return Phase(forced.word("phase"))
        if left == 0:
            return Phase.COMPLETED
        return Phase.FINALIZING if left == 1 and batch.polls > 1 else Phase.IN_PROGRESS

    # -- the way of a batch ----------------------------------------------------------------------------

    def _advance(self, batch: Batch) -> None:
        phase = self._next_phase(batch)
        if batch.phase is Phase.VALIDATING and phase is not Phase.VALIDATING:
            batch.rows = batch.scan.rows
            self._enter(batch, Phase.IN_PROGRESS)
        expiring = self.faults.on_batch("expire_after", batch)
        cancelled = self.faults.on_batch("cancel_after", batch)
        short = cancelled or expiring
        if phase is Phase.COMPLETED:
            batch.done = batch.rows if short is None else min(short.count, batch.rows)
            if batch.done == batch.rows:
                self._enter(batch, Phase.FINALIZING)
                self._finish(batch, Phase.COMPLETED, Fate.EXPIRED)
            elif cancelled is not None:
                self._enter(batch, Phase.CANCELLING)
                if self.faults.on_batch("slow_cancel", batch) is None:
                    self._finish(batch, Phase.CANCELLED, Fate.CANCELLED)
            else:
                self._finish(batch, Phase.EXPIRED, Fate.EXPIRED)
            return
        if phase is Phase.FINALIZING:
            if short is None:
                batch.done = batch.rows
                self._enter(batch, phase)
            return
        if phase is Phase.IN_PROGRESS:
            batch.done = batch.rows * max(batch.polls - 1, 0) // self.polls

    def _close_window(self, batch: Batch) -> None:
        if self.limits.expires and not batch.ended and self.at() >= batch.expires_at:
            batch.rows = batch.scan.rows
            self._finish(batch, Phase.EXPIRED, Fate.EXPIRED)

    def _finish(self, batch: Batch, phase: Phase, unfinished: Fate) -> None:
        """Write the result files of the rows that were run, and end."""
        batch.rows = batch.scan.rows
        plan = FaultPlan() if batch.foreign else self.faults.plan
        found = self.writer.write(
            batch, plan, batch.ordinal - self.faults.first_ordinal, unfinished, self.at()
        )
        batch.done, batch.failed = found.done, found.failed
        batch.usage = found.usage if self.faults.on_batch("no_usage", batch) is None else None
        if not batch.foreign:
            self.meter.rows_billed += found.billed
            self.meter.billed_input_tokens += found.usage.input_tokens
            self.meter.billed_cached_tokens += found.usage.cached_tokens
            self.meter.billed_output_tokens += found.usage.output_tokens
        order = self.faults.plan.rng("order", batch.ordinal)
        for purpose, lines in found.files(self.limits, phase).items():
            if lines or self.limits.empty_files:
                order.shuffle(lines)  # no provider promises an order
                stored = self._store(Blob(lines), f"{batch.id}_{purpose}.jsonl", "batch_output", None)
                if batch.output_expires_s is not None:
                    stored.expires_at = stored.created_at + batch.output_expires_s
                if purpose == "output":
                    batch.output_file_id = stored.id
                else:
                    batch.error_file_id = stored.id
        self._enter(batch, phase)
        batch.scan.forget_rows()
        self._close_unused(batch.blob)

    # -- admission and counts --------------------------------------------------------------------------

    def _admit(self, scan: Scan) -> None:
        queue = self.faults.plan.named("token_queue")
        if queue is None:
            return
        enqueued = sum(
            batch.scan.prompt_tokens
            for batch in self.batches.values()
            if not (batch.ended or batch.foreign or batch.scan.errors) and batch.scan.model == scan.model
        )
        if enqueued + scan.prompt_tokens > queue.count:
            message = self.limits.queue_message.format(model=scan.model, limit=queue.count)
            if queue.word("at") == "create":
                raise Refused(Reason.INVALID, message, code="token_limit_exceeded")
            scan.errors.append(JobError("token_limit_exceeded", message))

    # -- small parts -----------------------------------------------------------------------------------

    def _enter(self, batch: Batch, phase: Phase) -> None:
        batch.phase = phase
        batch.at.setdefault(phase, self.at())
        if batch.ended:
            self.on_end(batch)

    def _store(self, blob: Blob, name: str, purpose: str, expires_at: int | None) -> StoredFile:
        stored = StoredFile(self._new_id("file-", 22), name, purpose, self.at(), expires_at, blob)
        self.files[stored.id] = stored
        return stored

    def _close_unused(self, blob: Blob) -> None:
        in_files = any(item.blob is blob for item in self.files.values())
        if not in_files and all(item.ended for item in self.batches.values() if item.blob is blob):
            blob.close()

    def _new_id(self, prefix: str, length: int) -> str:
        self._made[prefix] += 1
        key = f"{self.faults.plan.seed}/{prefix}/{self._made[prefix]}".encode()
        return prefix + blake2b(key, digest_size=16).hexdigest()[:length]

    def at(self) -> int:
        skew = self.faults.plan.named("clock_skew")
        off_s = 0 if skew is None else skew.count if skew.word("way") == "ahead" else -skew.count
        return int(self._now().timestamp()) + off_s
