"""`bulkrate status`: how a run stands, from the ledger alone."""

from __future__ import annotations

from typing import Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

MaybeRun = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="A run's id, the beginning of one, a job's name, or a job file. Default: the latest run.",
    ),
]


def status(context: typer.Context, run: MaybeRun = None, json: options.Json = False) -> int:
    """Show how a run stands. Asks nobody: what is shown is what was last seen."""
    from bulkrate.cli.choosing import run_of, workspace_of
    from bulkrate.cli.summary import next_steps, summary_pairs, title_of
    from bulkrate.errors import BulkrateError
    from bulkrate.pipeline.reforecast import full_report

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        if run is not None:
            found = run_of(workspace, run)
        else:
            latest = workspace.ledger.runs(limit=1)
            if not latest:
                raise BulkrateError(
                    f"there are no runs in {workspace.home.root}",
                    code="no_such_run",
                    hint="`bulkrate run FILE` makes one",
                )
            found = latest[0]
        document = full_report(workspace, found)
        if json:
            terminal.document(document)
            return 0
        terminal.rows(title_of(found), summary_pairs(workspace, found, document, batches=True))
        for hint in next_steps(workspace, found, document):
            terminal.hint(hint)
    return 0
