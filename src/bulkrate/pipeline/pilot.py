"""The pilot: a run of the job over rows drawn at random, whose answers tell how long the others will be.

It is a run like any other, with a tag of its own: resumed, billed and kept like one. The main run takes its
answers over as it does those of any earlier run of the job, by key and fingerprint, so that no row is paid
for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from bulkrate.core.retry import PASSING
from bulkrate.core.run_states import RunState
from bulkrate.core.vector import RowState, Vector
from bulkrate.errors import BulkrateError, CanaryFailed
from bulkrate.jobs.spec import CanarySpec, Job, SinkSpec
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.outcomes import OutcomeReader
from bulkrate.pipeline.pilot_runs import finished_pilot, pilots_of
from bulkrate.pipeline.prepare import job_key
from bulkrate.pipeline.report import bill_of, failures_of
from bulkrate.pipeline.row_files import numbers
from bulkrate.pipeline.run_folder import PARTITION_ROWS, RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pipeline.twins import forget_unsent
from bulkrate.pricing.plan import AnswerLength

if TYPE_CHECKING:
    from bulkrate.pipeline.workspace import Workspace

ROWS = 100
# Reasoning is billed as output, and its length varies most.
ROWS_IF_REASONING = 200
MOST_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class PilotAnswers:
    """What a pilot's rows came to.

    `drawn` is in the order they were drawn; rows without an answer are not in it, but for those that failed
    and were billed. `answered` are the rows, by number, whose answer the main run takes over.
    """

    run: str
    rows: int
    drawn: Sequence[AnswerLength]
    answered: Mapping[int, AnswerLength]
    cost: Decimal | None


def default_rows(job: Job) -> int:
    """How many rows a pilot of this job draws."""
    thinks = job.request is not None and job.request.reasoning is not None
    return ROWS_IF_REASONING if thinks else ROWS


def pilot_job(job: Job, rows: Sequence[int], lane: str | None) -> Job:
    """The job over the rows that were drawn, in the order they were. Its answers go beside the job's own."""
    sink = job.sink_path.with_name(f"{job.name}.pilot.jsonl")
    travels = job.lane.model_copy(update={"use": lane or job.lane.use, "rescue": "none", "deadline": None})
    return job.model_copy(
        update={
            "only_rows": tuple(rows),
            "lane": travels,
            "sink": SinkSpec(path=str(sink), include=job.sink.include),
            "canary": None,  # it is one itself
            "on_rejected": "skip",
        }
    )


def rows_at(vectors: Sequence[Vector], places: Iterable[int]) -> list[int]:
    """The row numbers of the pending rows at these places among all pending ones."""
    asked = sorted(set(places))
    found: dict[int, int] = {}
    before, at = 0, 0
    for partition, vector in enumerate(vectors):
        pending = vector.states.count(RowState.PENDING)
        if at < len(asked) and asked[at] < before + pending:
            rows = list(vector.rows_in(RowState.PENDING))
            while at < len(asked) and asked[at] < before + pending:
                found[asked[at]] = partition * PARTITION_ROWS + rows[asked[at] - before]
                at += 1
        before += pending
    return [found[place] for place in places]


def answers_of(workspace: Workspace, run: RunRecord, is_open: Callable[[int], bool]) -> PilotAnswers:
    """What a finished pilot came to, of the rows that would still be sent without it."""
    ledger, folder = workspace.ledger, RunFolder(workspace.home.run_dir(run.id))
    order = workspace.setup(run).job.only_rows or ()
    found: dict[int, AnswerLength] = {}
    answered: dict[int, AnswerLength] = {}
    first = 0
    ascending = sorted(order)
    reader = OutcomeReader(folder, ["input_tokens", "output_tokens"])
    for part, vector in ledger.vectors(run.id):
        inputs = numbers(folder.manifest(part.number, ["tokens"]), "tokens")
        outcomes = reader.partition(part.first_row, vector)
        for index, output in enumerate(outcomes["output_tokens"]):
            row, succeeded = ascending[first + index], vector.states[index] == RowState.SUCCEEDED
            if output is None or not (succeeded or output) or not is_open(row):
                continue
            found[row] = AnswerLength(inputs[index], output, outcomes["input_tokens"][index])
            if succeeded:
                answered[row] = found[row]
        first += len(vector)
    return PilotAnswers(
        run=run.id,
        rows=len(order),
        drawn=[found[row] for row in order if row in found],
        answered=answered,
        cost=bill_of(ledger, run, workspace.prices).cost,
    )


def found_pilots(
    workspace: Workspace, setup: Setup, snapshot: str, is_open: Callable[[int], bool]
) -> tuple[PilotAnswers | None, dict[int, AnswerLength]]:
    """The pilot of a job over a source that tells most, and the open rows that any of them has answered."""
    answered: dict[int, AnswerLength] = {}
    telling = finished_pilot(workspace.ledger, setup, snapshot)
    best: PilotAnswers | None = None
    for run in pilots_of(workspace.ledger, setup, snapshot):
        if run.state is RunState.FINISHED and workspace.home.run_dir(run.id).exists():
            found = answers_of(workspace, run, is_open)
            answered |= found.answered
            if telling is not None and run.id == telling.id:
                best = found
    return best, answered


def judge(workspace: Workspace, run: RunRecord, job: Job) -> None:
    """Raise `CanaryFailed` when too many of a pilot's rows failed through their own fault."""
    canary, rows = job.canary or CanarySpec(), workspace.ledger.balance(run.id).rows
    passing = {str(name) for name in PASSING} | {"cancelled"}
    failed = {
        name: count for name, count in failures_of(workspace.ledger, run).items() if name not in passing
    }
    if rows and sum(failed.values()) > canary.max_failed * rows:
        said = ", ".join(f"{count:,} {name}" for name, count in failed.items())
        raise CanaryFailed(
            f"the pilot failed: {sum(failed.values()):,} of {rows:,} rows ({said}). Nothing else was sent",
            hint=f"`bulkrate results {run.id}` shows each row's; mend the job, or raise canary.max_failed",
        )


def make_way(workspace: Workspace, setup: Setup) -> None:
    """Forget runs of the whole job that were prepared and sent nothing: made again, they take the pilot's
    answers over. Raises BulkrateError for one that is under way: there is nothing left to pilot."""
    for run in workspace.ledger.runs(job_key=job_key(setup), unfinished=True):
        if not forget_unsent(workspace.ledger, workspace.home, run):
            raise BulkrateError(
                f"run {run.id} of this job is under way: a pilot would come too late",
                code="under_way",
                hint=f"`bulkrate status {run.id}` shows it",
            )
