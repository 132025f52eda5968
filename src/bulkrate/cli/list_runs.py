"""`bulkrate list`: the runs of the state directory, newest first."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

COUNTS = ("ROWS", "SUCCEEDED", "FAILED", "REJECTED", "PENDING")
HEADER = ("RUN", "JOB", "STATE", *COUNTS, "CREATED (UTC)")

Limit = Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Show this many at most.")]


def list_runs(context: typer.Context, limit: Limit = None, json: options.Json = False) -> int:
    """List runs, newest first."""
    from bulkrate.cli.choosing import workspace_of

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        runs: list[dict[str, Any]] = []
        for run in workspace.ledger.runs(limit=limit):
            balance = workspace.ledger.balance(run.id)
            runs.append(
                {
                    "run": run.id,
                    "job": run.job_name,
                    "model": f"{run.provider}/{run.model}",
                    "state": str(run.state),
                    "rows": {
                        "total": balance.rows,
                        "succeeded": balance.succeeded,
                        "failed": balance.failed,
                        "rejected": balance.rejected,
                        "pending": balance.pending,
                    },
                    "created_at": run.created_at.isoformat(),
                    "finished_at": None if run.finished_at is None else run.finished_at.isoformat(),
                    "sink": run.sink,
                }
            )
        if json:
            terminal.document({"runs": runs})
        elif not runs:
            terminal.note(f"there are no runs in {workspace.home.root}")
        else:
            terminal.table(HEADER, [_cells(run) for run in runs])
    return 0


def _cells(run: dict[str, Any]) -> tuple[str, ...]:
    counts = tuple(str(count) for count in run["rows"].values())
    return (run["run"], run["job"], run["state"], *counts, run["created_at"][:16].replace("T", " "))
