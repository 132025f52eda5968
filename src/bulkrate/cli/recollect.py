"""`bulkrate recollect`: the raw result files, read again."""

from __future__ import annotations

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal


def recollect(context: typer.Context, run: options.RunName, json: options.Json = False) -> int:
    """Decode a run's result files again from disk, and write its answers again. Sends nothing."""
    from bulkrate.cli.choosing import run_of, workspace_of
    from bulkrate.cli.summary import finish
    from bulkrate.core.run_states import RUN_TABLE, RunEvent
    from bulkrate.errors import BulkrateError

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        found = run_of(workspace, run)
        if not RUN_TABLE.knows(found.state, RunEvent.RECOLLECTED):
            raise BulkrateError(
                f"run {found.id} is {found.state}: there is nothing to read again yet", code="not_started"
            )
        workspace.recollect(found.id)
        return finish(terminal, workspace, workspace.run(found.id))
