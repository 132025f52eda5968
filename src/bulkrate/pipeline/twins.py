"""Runs that would send the same rows: whichever is approved first keeps the others from it.

A run takes the answers of earlier runs over when it is assembled. What another run of the job (of rows that
were there before the source changed, or a pilot) sends after that, it would send a second time.
"""

from __future__ import annotations

import shutil

import orjson

from bulkrate.core.run_states import RunState
from bulkrate.errors import Refused
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.pilot_runs import whole_identity
from bulkrate.pipeline.setup import Setup

UNSENT = (RunState.ASSEMBLING, RunState.READY)


def begun_since(ledger: Ledger, setup: Setup, run: RunRecord) -> RunRecord | None:
    """Another run of the job, or a pilot of it, that was approved after this one began to be assembled.

    A run with a nonce (`--fresh`) is meant to send everything again.
    """
    if run.nonce:
        return None
    asked = whole_identity(setup.job)
    for other in ledger.runs(job_name=run.job_name):
        later = other.approved_at is not None and other.approved_at > run.created_at
        if later and other.id != run.id and not other.nonce:
            job = Setup.from_document(orjson.loads(other.job_json), setup.env).job
            if whole_identity(job) == asked:
                return other
    return None


def refuse_twin(ledger: Ledger, setup: Setup, run: RunRecord) -> None:
    """Raise `Refused` if another run may send the rows of this one."""
    other = begun_since(ledger, setup, run)
    if other is not None:
        raise Refused(
            f"run {other.id} of this job was begun after run {run.id} was prepared: "
            "rows of both would be paid for twice; nothing was sent",
            code="begun_meanwhile",
            hint="run the job again: it goes on with that run, or takes its answers over",
        )


def forget_unsent(ledger: Ledger, home: Home, run: RunRecord) -> bool:
    """Delete a run that has sent nothing; False if it was approved since it was read. Raises `RunBusy`."""
    with home.run_lock(run.id):
        with ledger.transaction("clean") as tx:
            if tx.run(run.id).state not in UNSENT:
                return False
            tx.delete_run(run.id)
        shutil.rmtree(home.run_dir(run.id), ignore_errors=True)
    return True
