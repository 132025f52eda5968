"""A batch provider as a model: files, batches, rows and meters, moved by events, without HTTP.

A batch moves one step per status poll, so tests never wait; time is passed in and only stamps what
happens (and closes the window of a batch that outlives it). All the faults of rows and batches act here;
what a request line and a result line look like is the dialect's ``Codec``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final

from bulkrate.testing import answers
from bulkrate.testing.answers import Answer, Answerer, TokenCounter
from bulkrate.testing.blob import Blob
from bulkrate.testing.faults import Fate, Fault, FaultPlan
from bulkrate.testing.meter import Meter
from bulkrate.testing.records import (
    Batch,
    Codec,
    JobError,
    Limits,
    Phase,
    Reason,
    Refused,
    RowContext,
    Scan,
    StoredFile,
    Usage,
)

DEFAULT_WINDOW_S: Final = 86_400
_OUTPUT_FATES: Final = frozenset({Fate.ANSWERED, Fate.TRUNCATED, Fate.BAD_JSON})


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
        track_ids: bool = True,
    ) -> None:
        """A provider without files.

        A batch completes at its ``polls``-th status poll (at least 1). ``models``: the only models batches
        may name, ``None`` for any. ``track_ids``: count accepted rows per custom id (about 150 bytes each).
        """
        if polls < 1:
            raise ValueError("a batch needs at least one poll to complete")
        self.codec, self.limits, self.polls, self.models = codec, limits, polls, models
        self.plan = plan or FaultPlan()
        self.meter = Meter()
        self.files: dict[str, StoredFile] = {}
        self.batches: dict[str, Batch] = {}
        self._now = now or (lambda: datetime.now(UTC))
        self._answer = answer or answers.default_answer
        self._count_tokens = count_tokens or answers.count_tokens
        self._track_ids = track_ids
        self._runnable = 0  # batches created so far that could run
        self._first_ordinal = 0  # of the batches under the present plan
        self._calls: Counter[str] = Counter()
        self._made: Counter[str] = Counter()
        self._contents: set[int] = set()
        self._truncating: set[int] = set()
        self._broken: set[int] = set()

    # -- faults ----------------------------------------------------------------------------------------

    def set_plan(self, plan: FaultPlan) -> None:
        """Have other faults from now on, for batches and calls still to come; the present ones behave."""
        self.plan = plan
        self._first_ordinal = self._runnable
        self._calls.clear()

    def call_fault(self, operation: str) -> Fault | None:
        """Count one call of ``operation`` and say what interrupts it, if anything does."""
        nth = self._calls[operation]
        self._calls[operation] += 1
        return self.plan.on_call(operation, nth)

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
        window_s: int = DEFAULT_WINDOW_S,
        metadata: dict[str, str] | None = None,
    ) -> Batch:
        """Record a batch over an uploaded file.

        Like the real ones, malformed input and an exceeded token queue are accepted here and turn the batch
        failed at its first step; which it will be is settled now, so that the meter counts a batch whose
        creator died.
        """
        source = self.files[input_file_id]
        scan = self.codec.scan(
            source.blob.lines(),
            endpoint=endpoint,
            limits=self.limits,
            models=self.models,
            count_tokens=self._count_tokens,
        )
        if not scan.errors:
            self._admit(scan)
        at = self._at()
        batch = Batch(
            id=self._new_id("batch_", 32),
            ordinal=-1 if scan.errors else self._runnable,
            endpoint=endpoint,
            window=window,
            metadata=metadata,
            input_file_id=input_file_id,
            created_at=at,
            expires_at=at + window_s,
            blob=source.blob,
            scan=scan,
        )
        self.batches[batch.id] = batch
        self.meter.batches_created += 1
        if scan.errors:
            self.meter.batches_refused += 1
        else:
            self._runnable += 1
            self._count_accepted(scan)
        return batch

    def batch(self, batch_id: str) -> Batch:
        """The batch as it stands, or ``Refused`` with ``NOT_FOUND``."""
        found = self.batches.get(batch_id)
        if found is None:
            raise Refused(Reason.NOT_FOUND, f"No batch found with id '{batch_id}'.")
        self._close_window(found)
        return found

    def poll(self, batch_id: str) -> Batch:
        """One status call: move the batch a step and give it, or refuse with ``UNAVAILABLE``."""
        self.meter.status_calls += 1
        batch = self.batch(batch_id)
        batch.asked += 1
        fault = self._batch_fault("status_503", batch)
        if fault is not None and 0 <= batch.asked - fault.number("from_poll") < fault.count:
            message = "The server is overloaded or not ready yet."
            raise Refused(Reason.UNAVAILABLE, message)
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
            self._finish(batch, Phase.CANCELLED, Fate.CANCELLED)
            return
        if batch.scan.errors:
            self._enter(batch, Phase.FAILED)
            self._close_unused(batch.blob)
            return
        stuck = self._batch_fault("stuck", batch)
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
        forced = self._batch_fault("stuck", batch)
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
        expiring = self._batch_fault("expire_after", batch)
        if phase is Phase.COMPLETED:
            batch.done = batch.rows if expiring is None else min(expiring.count, batch.rows)
            if batch.done < batch.rows:
                self._finish(batch, Phase.EXPIRED, Fate.EXPIRED)
            else:
                self._enter(batch, Phase.FINALIZING)
                self._finish(batch, Phase.COMPLETED, Fate.EXPIRED)
            return
        if phase is Phase.FINALIZING:
            if expiring is None:
                batch.done = batch.rows
                self._enter(batch, phase)
            return
        if phase is Phase.IN_PROGRESS:
            batch.done = batch.rows * max(batch.polls - 1, 0) // self.polls

    def _close_window(self, batch: Batch) -> None:
        if not batch.ended and self._at() >= batch.expires_at:
            batch.rows = batch.scan.rows
            self._finish(batch, Phase.EXPIRED, Fate.EXPIRED)

    def _finish(self, batch: Batch, phase: Phase, unfinished: Fate) -> None:
        """Write the result files of the rows that were run, and end."""
        batch.rows = batch.scan.rows
        usage, output, errors = Usage(), list[bytes](), list[bytes]()
        fates = self._fates(batch, unfinished)
        missing = self._batch_fault("missing", batch)
        batch.done, batch.failed = 0, 0
        for row, (line, context) in enumerate(self._row_contexts(batch)):
            fate = fates.get(row, Fate.ANSWERED)
            written, spent = self.codec.result(line, fate, context)
            if fate in _OUTPUT_FATES:
                output.append(written)
            elif fate is not Fate.MISSING:
                errors.append(written)
            if fate is Fate.MISSING and missing is not None and not missing.number("billed"):
                spent = None
            if spent is not None:
                usage.add(spent)
                self.meter.rows_billed += 1
            # The trap: rows that are in no file still count as completed.
            batch.done += fate in _OUTPUT_FATES or fate is Fate.MISSING
            batch.failed += fate is Fate.REFUSED
        self.meter.billed_input_tokens += usage.input_tokens
        self.meter.billed_cached_tokens += usage.cached_tokens
        self.meter.billed_output_tokens += usage.output_tokens
        batch.usage = usage
        order = self.plan.rng("order", batch.ordinal)
        for lines, purpose in ((output, "output"), (errors, "error")):
            if lines:
                order.shuffle(lines)  # no provider promises an order
                stored = self._store(Blob(lines), f"{batch.id}_{purpose}.jsonl", "batch_output", None)
                if purpose == "output":
                    batch.output_file_id = stored.id
                else:
                    batch.error_file_id = stored.id
        self._enter(batch, phase)
        batch.scan.forget_rows()
        self._close_unused(batch.blob)

    def _fates(self, batch: Batch, unfinished: Fate) -> dict[int, Fate]:
        scan, ordinal = batch.scan, batch.ordinal - self._first_ordinal
        truncate = self.plan.named("truncate")
        below = 0 if truncate is None else truncate.number("below")
        fates = self.plan.fates(
            ordinal,
            rows=batch.rows,
            done=batch.done,
            unfinished=unfinished,
            refused=scan.refused,
            can_truncate=lambda row: 0 <= scan.caps[row] < below,
            can_break=lambda row: bool(scan.structured[row]) and scan.contents[row] not in self._broken,
        )
        if self._truncating:  # cut once, a request stays cut until it comes with a larger cap
            for row, content in enumerate(scan.contents):
                if content in self._truncating and 0 <= scan.caps[row] < below and row not in fates:
                    fates[row] = Fate.TRUNCATED
        self._truncating |= {scan.contents[row] for row, fate in fates.items() if fate is Fate.TRUNCATED}
        self._broken |= {scan.contents[row] for row, fate in fates.items() if fate is Fate.BAD_JSON}
        return fates

    def _row_contexts(self, batch: Batch) -> Iterator[tuple[bytes, RowContext]]:
        at = self._at()
        bad_rows = self._batch_fault("bad_rows", batch)
        status = bad_rows.number("status") if bad_rows is not None else 400
        for row, line in enumerate(batch.blob.lines()):
            tail = f"{batch.id[6:14]}{row:08x}"
            context = RowContext(
                f"batch_req_{tail}", f"req_{tail}", at, status, self._ask, self._count_tokens
            )
            yield line, context

    def _ask(self, body: Mapping[str, Any]) -> Answer:
        given = self._answer(body)
        return Answer(given) if isinstance(given, str) else given

    # -- admission and counts --------------------------------------------------------------------------

    def _admit(self, scan: Scan) -> None:
        queue = self.plan.named("token_queue")
        if queue is None:
            return
        enqueued = sum(
            batch.scan.prompt_tokens
            for batch in self.batches.values()
            if not batch.ended and not batch.scan.errors and batch.scan.model == scan.model
        )
        if enqueued + scan.prompt_tokens > queue.count:
            message = (
                f"Enqueued token limit reached for {scan.model} in organization org-misbehaving. "
                f"Limit: {queue.count:,} enqueued tokens. "
                "Please try again once some in_progress batches have been completed."
            )
            scan.errors.append(JobError("token_limit_exceeded", message))

    def _count_accepted(self, scan: Scan) -> None:
        meter = self.meter
        meter.rows_accepted += scan.rows
        meter.accepted_input_tokens += scan.prompt_tokens
        for content in scan.contents:
            if content in self._contents:
                meter.rows_accepted_again += 1
            else:
                self._contents.add(content)
        if self._track_ids:
            meter.accepted_by_custom_id.update(scan.custom_ids)

    # -- small parts -----------------------------------------------------------------------------------

    def _batch_fault(self, name: str, batch: Batch) -> Fault | None:
        return self.plan.on_batch(name, batch.ordinal - self._first_ordinal)

    def _enter(self, batch: Batch, phase: Phase) -> None:
        batch.phase = phase
        batch.at.setdefault(phase, self._at())

    def _store(self, blob: Blob, name: str, purpose: str, expires_at: int | None) -> StoredFile:
        stored = StoredFile(self._new_id("file-", 22), name, purpose, self._at(), expires_at, blob)
        self.files[stored.id] = stored
        return stored

    def _close_unused(self, blob: Blob) -> None:
        in_files = any(item.blob is blob for item in self.files.values())
        if not in_files and all(item.ended for item in self.batches.values() if item.blob is blob):
            blob.close()

    def _new_id(self, prefix: str, length: int) -> str:
        self._made[prefix] += 1
        key = f"{self.plan.seed}/{prefix}/{self._made[prefix]}".encode()
        return prefix + blake2b(key, digest_size=16).hexdigest()[:length]

    def _at(self) -> int:
        return int(self._now().timestamp())
