"""Reopen: the failed rows of a finished run are pending again."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from bulkrate.core.budget import Scope
from bulkrate.core.run_states import RunEvent
from bulkrate.core.vector import RowState
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.pipeline.budget import limit_run
from bulkrate.pipeline.run_folder import RunFolder


def reopen(ledger: Ledger, home: Home, run: str, at: datetime, *, max_cost: Decimal | None) -> int:
    """Make the failed rows pending again; returns how many. `max_cost` is what sending them may cost, on top
    of what the run did."""
    folder = RunFolder(home.run_dir(run))
    reopened = 0
    with ledger.transaction("retry") as tx:
        for part, vector in ledger.vectors(run):
            failed = list(vector.rows_in(RowState.FAILED))
            aliases = folder.pairs(folder.aliases_path, part.first_row, part.first_row + part.rows)
            for index in failed:
                if part.first_row + index in aliases:
                    vector.alias(index)
                else:
                    vector.reopen(index)
            reopened += len(failed)
            if failed:
                tx.save_vector(run, part.number, vector)
        if reopened and max_cost is not None:
            limit_run(tx, run, tx.held(run, at)[Scope.RUN].amount + max_cost, at)
        if reopened:
            tx.move_run(run, RunEvent.REOPENED, at, finished_at=None)
    return reopened
