"""Prepare: from a job to a run that is assembled, checked, packed and quoted; nothing is spent."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from bulkrate.core.identity import run_tag
from bulkrate.core.run_states import RunEvent, RunState
from bulkrate.core.vector import Balance, RowState, Vector, total
from bulkrate.jobs.spec import Job
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import PartitionRecord, RunRecord, ShardRecord
from bulkrate.pipeline.assemble import PARTITION_ROWS, assemble
from bulkrate.pipeline.check import EarlierRun, find_aliases, reject_duplicates, take_over
from bulkrate.pipeline.digests import DigestBuckets
from bulkrate.pipeline.outcomes import REUSED
from bulkrate.pipeline.packer import Packer
from bulkrate.pipeline.partition import PartitionAssembler
from bulkrate.pipeline.pilot_runs import refuse_beside_pilot
from bulkrate.pipeline.row_files import numbers
from bulkrate.pipeline.run_folder import Partitions, RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pricing import Quote, TooFew, make_quote
from bulkrate.tokens import TokenCounter

Progress = Callable[[int], None]


@dataclass(slots=True)
class Checked:
    """A source assembled and held against itself."""

    partitions: Partitions
    vectors: list[Vector]
    duplicates: int
    aliases: int
    reused: int

    @property
    def balance(self) -> Balance:
        return total(vector.balance() for vector in self.vectors)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that is not sent: where it is, and why."""

    row: int
    where: str
    code: str
    message: str


def assemble_and_check(
    setup: Setup,
    folder: RunFolder,
    *,
    ledger: Ledger | None = None,
    earlier: list[EarlierRun] | None = None,
    also: Sequence[Callable[[], TokenCounter]] = (),
    on_progress: Progress = lambda rows: None,
) -> Checked:
    """Render and check every row of the job's source into `folder`. Counters of `also` count, too."""
    scratch = folder.root / "scratch"
    keys = DigestBuckets(scratch / "keys")
    fingerprints = DigestBuckets(scratch / "fingerprints")
    try:
        assembler = PartitionAssembler(
            key=setup.job.key,
            encoder=setup.encoder,
            make_counter=setup.make_counter,
            checks=setup.checks,
            folder=folder,
            also=also,
            row_numbers=setup.row_numbers,
        )
        assembled = assemble(
            setup.source,
            assembler,
            keys=keys,
            fingerprints=fingerprints,
            workers=setup.workers,
            on_progress=on_progress,
        )
        partitions = Partitions(PARTITION_ROWS, assembled.rows)
        vectors = assembled.vectors
        duplicates = reject_duplicates(keys, vectors, partitions, folder)
        reused = take_over(earlier, ledger, vectors, partitions, folder) if earlier and ledger else 0
        aliases = 0
        if setup.job.reuse_mode == "exact":
            aliases = find_aliases(fingerprints, vectors, partitions, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return Checked(partitions, vectors, duplicates, aliases, reused)


def quote_of(
    setup: Setup,
    folder: RunFolder,
    checked: Checked,
    at: datetime,
    *,
    shards: Iterable[ShardRecord] | None = None,
) -> Quote:
    """The quote for the rows that are still to be sent; `shards` tells how they are packed, if they are."""
    rows = tokens = longest = 0
    for number, vector in enumerate(checked.vectors):
        counts = numbers(folder.manifest(number, ["tokens"]), "tokens")
        if not vector.untouched:
            counts = [counts[index] for index in vector.rows_in(RowState.PENDING)]
        rows += len(counts)
        tokens += sum(counts)
        longest = max(longest, max(counts, default=0))
    packed = [(rows, tokens)] if shards is None else [(shard.requests, shard.tokens) for shard in shards]
    too_few = _too_few(setup, packed)
    return make_quote(
        provider=setup.job.provider,
        model=setup.model,
        rows=rows,
        input_tokens=tokens,
        input_method=setup.counter.method,
        input_source=setup.counter.source,
        max_output_tokens=setup.max_output_tokens,
        at=at,
        reused_rows=checked.reused + checked.aliases,
        longest_input_tokens=longest,
        notes=_notes(setup, too_few),
        lane=setup.job.lane.use,
        prices=setup.prices,
        too_few=too_few,
    )


def _too_few(setup: Setup, packed: list[tuple[int, int]]) -> TooFew | None:
    """The rows (and tokens) of shards that are no batches; None where there is no least size."""
    lane, fewest = setup.job.lane, setup.limits.min_requests
    if lane.use != "batch" or fewest <= 1:
        return None
    small = [size for size in packed if size[0] < fewest]
    return TooFew(
        rows=sum(rows for rows, _ in small),
        input_tokens=sum(tokens for _, tokens in small),
        lane="live" if lane.rescue == "none" else lane.rescue,
    )


def _notes(setup: Setup, too_few: TooFew | None) -> list[str]:
    notes, fewest = [], setup.limits.min_requests
    if too_few is not None and too_few.rows:
        notes.append(
            f"{too_few.rows:,} rows are too few for a batch of at least {fewest:,}: they go {too_few.lane}"
        )
    elif too_few is not None:
        notes.append(f"a batch has at least {fewest:,} requests: fewer, sent again, go {too_few.lane}")
    request = setup.template.request if setup.template is not None else None
    if setup.template is None and setup.kind != "embed":
        notes.append("caps on output that stand in the file's own lines are not counted")
    if request is not None and any(not isinstance(message.content, str) for message in request.messages):
        notes.append("images and documents are not counted")
    if request is not None and request.raw is not None:
        notes.append(
            "the raw body goes as it is: its size and its texts are counted, nothing else is checked"
        )
    elif request is not None:
        notes += [f"left out: {field}" for field in setup.wire.dropped(request)]
    if setup.job.lane.rescue != "none" and not setup.provider.traits(setup.model).partial_on_cancel:
        notes.append("a batch cancelled for the deadline gives back nothing: all its rows are sent again")
    return notes + list(setup.provider.notes(setup.env))


def rejections(folder: RunFolder, partitions: Partitions, vectors: Iterator[Vector]) -> Iterator[Rejection]:
    """The rejected rows, in row order."""
    duplicates = folder.pairs(folder.duplicates_path)
    for number, vector in enumerate(vectors):
        if RowState.REJECTED not in vector.states:
            continue
        table = folder.manifest(number, ["reject_code", "reject_message", "where"]).to_pylist()
        for index in vector.rows_in(RowState.REJECTED):
            row, line = partitions.first(number) + index, table[index]
            if line["reject_code"] is not None:
                yield Rejection(row, line["where"], line["reject_code"], line["reject_message"])
            else:
                first = duplicates.get(row, 0)
                said = f"the key was seen before, at row {first + 1}"
                yield Rejection(row, f"row {row + 1}", "duplicate_key", said)


def choose_run(ledger: Ledger, setup: Setup, snapshot: str, *, nonce: str) -> RunRecord | None:
    """The run that running this job now means, if there is one.

    A run over the same files that has begun to spend is finished first, even when they have changed since:
    it answers its snapshot, and the next run takes the difference.
    """
    if nonce:
        return None
    unfinished = ledger.runs(job_key=job_key(setup), unfinished=True)
    for run in unfinished:
        if run.state not in (RunState.ASSEMBLING, RunState.READY) and _same_files(run, setup):
            return run
    for run in unfinished:
        if run.snapshot == snapshot:
            return run
    return ledger.run(tag_for(setup, snapshot, nonce))


def _same_files(run: RunRecord, setup: Setup) -> bool:
    """Whether a run reads the files this job names: two jobs may be alike in all but their source."""
    known, here = orjson.loads(run.job_json), setup.document()
    return (known["base"], known["job"]["source"]) == (here["base"], here["job"]["source"])


def job_key(setup: Setup) -> str:
    """Hex digest of the answer-relevant job."""
    from hashlib import blake2b

    return blake2b(setup.job.identity(), digest_size=16).hexdigest()


def tag_for(setup: Setup, snapshot: str, nonce: str) -> str:
    """The run's tag."""
    model = f"{setup.job.provider}/{setup.model}"
    return run_tag(job=setup.job.identity(), snapshot=snapshot, model=model, nonce=nonce)


def path_of(job: Job) -> str | None:
    """The job's file as a ledger can hold it: names of files need not be text."""
    return None if job.file is None else str(job.file).encode("utf-8", "replace").decode()


def begin_run(ledger: Ledger, setup: Setup, snapshot: str, *, nonce: str, at: datetime) -> RunRecord:
    """Record a new run, about to be assembled. Raises BulkrateError while a pilot of the job is under way."""
    if not nonce:
        refuse_beside_pilot(ledger, setup, snapshot)
    record = RunRecord(
        id=tag_for(setup, snapshot, nonce),
        job_name=setup.job.name,
        job_key=job_key(setup),
        job_path=path_of(setup.job),
        job_json=orjson.dumps(setup.document()).decode(),
        snapshot=snapshot,
        nonce=nonce,
        provider=setup.job.provider,
        model=setup.model,
        state=RunState.ASSEMBLING,
        sink=str(setup.job.sink_path),
        created_at=at,
        updated_at=at,
    )
    with ledger.transaction("begin") as tx:
        tx.add_run(record)
    return record


def assemble_run(
    ledger: Ledger,
    home: Home,
    setup: Setup,
    run: RunRecord,
    *,
    at: datetime,
    on_progress: Progress = lambda rows: None,
) -> Checked:
    """Assemble a run from the start (also after a crash), pack its first shards and quote it."""
    folder = RunFolder(home.run_dir(run.id))
    for name in ("partitions", "shards", "raw", "outcomes", "scratch"):
        shutil.rmtree(folder.root / name, ignore_errors=True)
    for path in (folder.aliases_path, folder.duplicates_path):
        path.unlink(missing_ok=True)
    earlier = [] if run.nonce else earlier_runs(ledger, home, setup, run.id)
    checked = assemble_and_check(setup, folder, ledger=ledger, earlier=earlier, on_progress=on_progress)
    packer = packer_for(setup, run.id, folder, checked.partitions)
    shards = packer.pending(
        enumerate(checked.vectors),
        first_number=0,
        max_tokens=setup.limits.queued_tokens,
        canary_rows=setup.job.canary.rows if setup.job.canary is not None else 0,
    )
    quote = quote_of(setup, folder, checked, at, shards=shards)
    with ledger.transaction("assembled") as tx:
        tx.clear_run(run.id)
        for number, vector in enumerate(checked.vectors):
            record = PartitionRecord(
                run=run.id,
                number=number,
                first_row=checked.partitions.first(number),
                rows=len(vector),
                balance=vector.balance(),
            )
            tx.add_partition(record, vector)
        tx.add_shards(shards)
        tx.move_run(
            run.id,
            RunEvent.ASSEMBLED,
            at,
            rows=checked.partitions.rows,
            quote_json=orjson.dumps(quote.to_json()).decode(),
        )
    return checked


def earlier_runs(ledger: Ledger, home: Home, setup: Setup, run: str | None = None) -> list[EarlierRun]:
    """The runs, newest first, whose answers a run of this job may take over; `run` is the one that asks."""
    found = [
        EarlierRun(known.id, RunFolder(home.run_dir(known.id)))
        for known in ledger.runs(job_name=setup.job.name)
        if known.id != run
        and known.provider == setup.job.provider
        and known.state not in (RunState.ASSEMBLING, RunState.READY)
    ]
    return [known for known in found if known.folder.root.exists()]


def packer_for(setup: Setup, run: str, folder: RunFolder, partitions: Partitions) -> Packer:
    """The packer of a run."""
    return Packer(
        run=run,
        folder=folder,
        partitions=partitions,
        limits=setup.limits,
        envelope_bytes=setup.envelope_bytes,
        base_cap=setup.base_cap,
    )


def reused_rows(vectors: Iterator[Vector]) -> int:
    """Rows whose answer was taken over from an earlier run."""
    return sum(vector.shards.count(REUSED) for vector in vectors)
