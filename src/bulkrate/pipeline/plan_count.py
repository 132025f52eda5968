"""Counting for a plan: every row by every counter, in one pass over the source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from bulkrate.core.vector import RowState
from bulkrate.ledger.ledger import Ledger
from bulkrate.pipeline.check import EarlierRun
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
    """The rows that would be sent, by every counter, and what becomes of the others.

    `lengths` are by model; models that count alike share one.
    """

    checked: Checked
    problems: Mapping[str, int]
    lengths: Mapping[str, Lengths]
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
    counts: list[Counter[int]] = [Counter() for _ in counters]
    for number, vector in enumerate(checked.vectors):
        pending = None if vector.untouched else list(vector.rows_in(RowState.PENDING))
        for counter, found in enumerate(counts):
            said = (
                numbers(folder.manifest(number, ["tokens"]), "tokens")
                if counter == 0
                else folder.counts(number, counter - 1)
            )
            found.update(said if pending is None else [said[index] for index in pending])
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
    lengths = [Lengths(found) for found in counts]
    return Counted(
        checked,
        dict(problems.most_common()),
        {name: lengths[number] for name, number in counter_of.items()},
        len(shards),
        quote,
    )
