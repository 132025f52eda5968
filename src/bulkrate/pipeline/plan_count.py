"""Counting for a plan: every row by every counter, in one pass over the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from bulkrate.core.vector import RowState, Vector
from bulkrate.ledger.ledger import Ledger
from bulkrate.pipeline.check import EarlierRun
from bulkrate.pipeline.digests import DigestBuckets, scattered
from bulkrate.pipeline.outcomes import REUSED
from bulkrate.pipeline.prepare import Checked, assemble_and_check, packer_for, quote_of, rejections
from bulkrate.pipeline.row_files import numbers
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pricing import Quote
from bulkrate.pricing.lengths import Lengths
from bulkrate.tokens import TokenCounter

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Counted:
    """The rows that would be sent, and what becomes of the others.

    `lengths` are by model. Answers of earlier runs are the own model's: any other would be asked those rows,
    too, `anew` by the own model's counter.
    """

    checked: Checked
    problems: Mapping[str, int]
    lengths: Mapping[str, Lengths]
    anew: Lengths
    shards: int
    quote: Quote


def count_rows(
    ledger: Ledger,
    earlier: list[EarlierRun],
    setups: Mapping[str, Setup],
    folder: RunFolder,
    *,
    at: datetime,
    on_progress: Progress,
) -> Counted:
    """Count a job's rows into `folder` for each model; the first of `setups` is the job's own.

    Answers of `earlier` runs are taken over, and their rows not counted.
    """
    own, *_ = setups.values()
    counters: dict[TokenCounter, int] = {}
    counter_of = {name: counters.setdefault(each.counter, len(counters)) for name, each in setups.items()}
    makers = {counter_of[name]: each.make_counter for name, each in setups.items()}
    checked = assemble_and_check(
        own,
        folder,
        ledger=ledger,
        earlier=earlier,
        also=[makers[number] for number in range(1, len(counters))],
        on_progress=on_progress,
    )
    pending, anew = Counter[int](), [Counter[int]() for _ in counters]
    repeats = _repeats_among_reused(own, folder, checked)
    for number, vector in enumerate(checked.vectors):
        known = numbers(folder.manifest(number, ["tokens"]), "tokens")
        counts = [known, *(folder.counts(number, counter) for counter in range(len(counters) - 1))]
        if vector.untouched:
            rows: Iterable[int] = range(len(vector))
            reused: list[int] = []
        else:
            rows = list(vector.rows_in(RowState.PENDING))
            reused = list(_reused_in(folder, checked.partitions.first(number), vector, repeats))
        pending.update([known[index] for index in rows])
        for found, said in zip(anew, counts, strict=True):
            found.update([said[index] for index in (*rows, *reused)])
    packer = packer_for(own, "plan", folder, checked.partitions)
    shards = packer.pending(
        enumerate(checked.vectors),
        first_number=0,
        max_tokens=own.limits.queued_tokens,
        canary_rows=own.job.canary.rows if own.job.canary is not None else 0,
    )
    rejected = rejections(folder, checked.partitions, iter(checked.vectors))
    problems = Counter(rejection.code for rejection in rejected)
    quote = quote_of(own, folder, checked, at, shards=shards)
    first, *others = counter_of.items()
    lengths = {first[0]: Lengths(pending)}
    shared = [Lengths(found) for found in anew]
    lengths |= {name: shared[number] for name, number in others}
    return Counted(checked, dict(problems.most_common()), lengths, shared[0], len(shards), quote)


def _reused_in(folder: RunFolder, first: int, vector: Vector, repeats: Container[int]) -> Iterator[int]:
    """The rows of a partition whose answer was taken over, but for copies of another's."""
    if REUSED in vector.shards:
        aliases = folder.pairs(folder.aliases_path, first, first + len(vector))
        for index, shard in enumerate(vector.shards):
            if shard == REUSED and first + index not in aliases and first + index not in repeats:
                yield index


def _repeats_among_reused(setup: Setup, folder: RunFolder, checked: Checked) -> frozenset[int]:
    """Rows whose answer was taken over, and that of an equal one before, where one would do."""
    if not checked.reused or setup.job.reuse_mode != "exact":
        return frozenset()
    buckets = DigestBuckets(folder.root / "scratch" / "reused")
    try:
        for number, vector in enumerate(checked.vectors):
            if REUSED in vector.shards:
                first = checked.partitions.first(number)
                prints = folder.manifest(number, ["fingerprint"])["fingerprint"].to_pylist()
                rows = (index for index, shard in enumerate(vector.shards) if shard == REUSED)
                buckets.add(scattered((prints[index], first + index) for index in rows))
        return frozenset(row for row, _ in buckets.repeats())
    finally:
        buckets.close()
