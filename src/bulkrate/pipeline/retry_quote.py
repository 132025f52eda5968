"""The quote for sending a finished run's failed rows again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bulkrate.core.vector import RowState
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.assemble import PARTITION_ROWS
from bulkrate.pipeline.prepare import Checked, quote_of
from bulkrate.pipeline.run_folder import Partitions, RunFolder
from bulkrate.pricing import Quote

if TYPE_CHECKING:
    from bulkrate.pipeline.workspace import Workspace


def quote_retry(workspace: Workspace, run: RunRecord) -> Quote:
    """What `Workspace.retry` would send: failed rows, equal ones once. Changes nothing."""
    folder = RunFolder(workspace.home.run_dir(run.id))
    vectors = []
    for part, vector in workspace.ledger.vectors(run.id):
        aliases = folder.pairs(folder.aliases_path, part.first_row, part.first_row + part.rows)
        for index in list(vector.rows_in(RowState.FAILED)):
            if part.first_row + index not in aliases:
                vector.reopen(index)
        vectors.append(vector)
    checked = Checked(Partitions(PARTITION_ROWS, run.rows), vectors, duplicates=0, aliases=0, reused=0)
    return quote_of(workspace.setup(run), folder, checked, workspace.clock.now())
