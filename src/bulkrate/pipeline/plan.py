"""Plan: every row counted, and what the job would cost, by model and lane. Spends nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from bulkrate.core.vector import RowState
from bulkrate.errors import BulkrateError
from bulkrate.jobs.spec import Job
from bulkrate.pipeline.history import seen_batches
from bulkrate.pipeline.pilot import default_rows, found_pilots, pilot_job, rows_at
from bulkrate.pipeline.pilot_runs import pilots_of
from bulkrate.pipeline.plan_count import Progress, count_rows
from bulkrate.pipeline.plan_digests import digests_of, name_of
from bulkrate.pipeline.plan_price import Pricer, pilot_document
from bulkrate.pipeline.prepare import earlier_runs, tag_for
from bulkrate.pipeline.run_folder import PARTITION_ROWS, RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pipeline.workspace import Workspace
from bulkrate.pricing.pilot import draw
from bulkrate.pricing.plan import Plan
from bulkrate.pricing.turnaround import PRIOR_SOURCE
from bulkrate.providers.registry import get_provider


def make_plan(
    workspace: Workspace,
    job: Job,
    models: Sequence[str] = (),
    *,
    job_file: Path | None = None,
    on_progress: Progress = lambda rows: None,
) -> Plan:
    """The plan of a job, with its own model first and `models` ("provider/name") beside it."""
    return Planning(workspace, job, models, on_progress=on_progress).plan(job_file=job_file)


class Planning:
    """A job whose rows were counted: draws a pilot from them, and makes the plan, with the pilot or without.

    Raises what a job, a source and a model can be wrong in.
    """

    def __init__(
        self,
        workspace: Workspace,
        job: Job,
        models: Sequence[str] = (),
        *,
        on_progress: Progress = lambda rows: None,
    ) -> None:
        self._workspace = workspace
        self.setup = setup = Setup(job, workspace.env, workspace.prices)
        setup.check()
        name = name_of(setup)
        self._setups = {
            name: setup,
            **{other: with_model(setup, other) for other in models if other != name},
        }
        self._at = workspace.clock.now()
        self._snapshot = setup.source.snapshot()
        # A pilot's rows are drawn from all that are to be sent: its answers do not count as taken over here.
        pilots = {run.id for run in pilots_of(workspace.ledger, setup, self._snapshot)}
        earlier = earlier_runs(workspace.ledger, workspace.home, setup)
        with tempfile.TemporaryDirectory(prefix="bulkrate-plan-") as scratch:
            self._counted = count_rows(
                workspace.ledger,
                [run for run in earlier if run.id not in pilots],
                self._setups,
                RunFolder(Path(scratch)),
                at=self._at,
                on_progress=on_progress,
            )

    def pilot_job(self, rows: int | None = None, lane: str | None = None) -> Job:
        """The job of a pilot over so many rows, drawn at random; the same rows every time it is asked."""
        job = self.setup.job
        seed = tag_for(self.setup, self._snapshot, "")
        places = draw(self._counted.lengths[name_of(self.setup)].rows, rows or default_rows(job), seed)
        return pilot_job(job, rows_at(self._counted.checked.vectors, places), lane)

    def _is_open(self, row: int) -> bool:
        partition, index = divmod(row, PARTITION_ROWS)
        return self._counted.checked.vectors[partition].states[index] == RowState.PENDING

    def plan(
        self,
        *,
        job_file: Path | None = None,
        store_cost: Decimal | None = None,
        reprocess: Decimal | None = None,
    ) -> Plan:
        """The plan, by the pilot that tells most, with what the user says of storing and of asking again."""
        counted, setup, job = self._counted, self.setup, self.setup.job
        pilot, answered = found_pilots(self._workspace, setup, self._snapshot, self._is_open)
        within_s = job.lane.deadline_s or setup.limits.window_s
        pricer = Pricer(self._workspace, self._at, within_s, counted.shards)
        lengths = counted.lengths[name_of(setup)]
        own, whole = pricer.own(setup, lengths, pilot, answered.values(), counted.quote.notes)
        alike = pricer.anew(setup, counted.anew, whole, lengths.rows)
        others = [
            pricer.other(each, counted.lengths[name], alike, lengths.rows)
            for name, each in self._setups.items()
            if name != own.model
        ]
        seen = seen_batches(self._workspace.ledger, job.provider, within_s, self._at)
        return Plan(
            job=job.name,
            job_file=None if job_file is None else str(job_file.absolute()),
            document=setup.document(),
            made_at=self._at,
            rows={
                "total": counted.checked.balance.rows,
                "to_send": own.rows,
                "rejected": counted.checked.balance.rejected,
                "repeated": counted.checked.aliases,
                "reused": counted.checked.reused,
                "pilot": len(answered),
            },
            problems=counted.problems,
            lengths=lengths,
            shards=counted.shards,
            lane=job.lane.use,
            window_s=setup.limits.window_s,
            deadline_s=job.lane.deadline_s,
            turnaround={"prior": PRIOR_SOURCE, "own_batches": seen.batches, "own_late": seen.late},
            models=(own, *others),
            digests=digests_of(setup, self._snapshot, self._at),
            store_cost=store_cost,
            reprocess=reprocess,
            pilot=None if pilot is None else pilot_document(pilot),
        )


def with_model(setup: Setup, model: str) -> Setup:
    """The same job asked of another model, on whatever lane that has: which one is what is asked."""
    provider, slash, name = model.partition("/")
    if not slash or not name:
        hint = f"write it as provider/name: openai/{model}"
        raise BulkrateError(f"which provider's {model}?", code="usage", hint=hint)
    job = setup.job
    lanes = get_provider(provider, setup.env).traits(name).lanes
    lane = job.lane.model_copy(update={"use": lanes[0], "rescue": "none"})
    if job.request is None:
        changed = job.model_copy(update={"model": model, "lane": lane})
    else:
        request = job.request.model_copy(update={"model": model})
        changed = job.model_copy(update={"request": request, "lane": lane})
    return Setup(changed, setup.env, setup.prices)
