"""`bulkrate clean`: forget old runs."""

from __future__ import annotations

from typing import Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

OlderThan = Annotated[
    float,
    typer.Option(
        "--older-than",
        parser=options.seconds,
        metavar="30d|12h|SECONDS",
        help="Forget runs that were last touched longer ago than this.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say which they are.")]


def clean(
    context: typer.Context, older_than: OlderThan, dry_run: DryRun = False, json: options.Json = False
) -> int:
    """Delete finished runs, and runs that were never approved: ledger rows and files.

    The answers that were written to sinks stay. A run that is under way is never touched. What a deleted
    run has answered cannot be taken over by later runs of its job.
    """
    from bulkrate.cli.choosing import workspace_of

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        before = options.ago(workspace.clock.now(), older_than)
        gone = workspace.forgettable(before) if dry_run else workspace.forget(before)
        if json:
            terminal.document({"dry_run": dry_run, "runs": gone})
        else:
            count = "1 run" if len(gone) == 1 else f"{len(gone)} runs"
            terminal.note(f"{count} {'would be ' if dry_run else ''}deleted from {workspace.home.root}")
            terminal.data(f"{run}\n".encode() for run in gone)
    return 0
