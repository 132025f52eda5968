"""Which runs are pilots, and of what."""

from __future__ import annotations

import orjson

from bulkrate.core.run_states import RunState
from bulkrate.errors import BulkrateError
from bulkrate.jobs.spec import Job
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.report import failures_of
from bulkrate.pipeline.setup import Setup


def pilots_of(ledger: Ledger, setup: Setup, snapshot: str) -> list[RunRecord]:
    """The pilots of this very job over this very source, newest first."""
    found, asked = [], whole_identity(setup.job)
    for run in ledger.runs(job_name=setup.job.name):
        if run.snapshot == snapshot and b'"only_rows"' in run.job_json.encode():
            job = Setup.from_document(orjson.loads(run.job_json), setup.env).job
            if job.only_rows is not None and whole_identity(job) == asked:
                found.append(run)
    return found


def finished_pilot(ledger: Ledger, setup: Setup, snapshot: str) -> RunRecord | None:
    """The largest pilot of this job over this source, the newest of those. One that was cancelled is no
    random choice."""
    ended = [run for run in pilots_of(ledger, setup, snapshot) if run.state is RunState.FINISHED]
    whole = (run for run in ended if "cancelled" not in failures_of(ledger, run))
    return max(whole, key=lambda run: run.rows, default=None)


def refuse_beside_pilot(ledger: Ledger, setup: Setup, snapshot: str) -> None:
    """Raise BulkrateError while a pilot of the job is under way: its rows would be sent a second time."""
    for run in pilots_of(ledger, setup, snapshot):
        if run.state in (RunState.ACTIVE, RunState.CANCELLING):
            raise BulkrateError(
                f"the pilot of this job, run {run.id}, is not finished: its rows would be sent twice",
                code="under_way",
                hint=f"`bulkrate wait {run.id}` finishes it, `bulkrate cancel {run.id}` and waiting ends it",
            )


def whole_identity(job: Job) -> bytes:
    """The identity of the job that a pilot is a part of."""
    return job.model_copy(update={"only_rows": None, "canary": None}).identity()
