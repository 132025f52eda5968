"""Forgetting runs: finished ones and those never approved, their files and what the ledger has of them."""

from __future__ import annotations

import shutil
from datetime import datetime

from bulkrate.core.run_states import RunState
from bulkrate.errors import RunBusy
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord

_ENDED = (RunState.FINISHED, RunState.READY, RunState.ASSEMBLING)


def forgettable(run: RunRecord, older_than: datetime) -> bool:
    """Whether a run may go: nothing is under way, and nobody touched it since."""
    return run.updated_at < older_than and run.state in _ENDED


def forget(ledger: Ledger, home: Home, older_than: datetime) -> list[str]:
    """Delete the forgettable runs; returns their ids. One in use is left."""
    gone = []
    for run in [run.id for run in ledger.runs() if forgettable(run, older_than)]:
        try:
            with home.run_lock(run):
                with ledger.transaction("clean") as tx:
                    # It may have been approved, or retried, since it was listed.
                    if not forgettable(tx.run(run), older_than):
                        continue
                    tx.delete_run(run)
                shutil.rmtree(home.run_dir(run), ignore_errors=True)
        except RunBusy:
            continue
        gone.append(run)
    return gone
