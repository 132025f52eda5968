"""`bulkrate tick`: every live run, once. For cron."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

if TYPE_CHECKING:
    from bulkrate.ledger.records import RunRecord

HEADER = ("RUN", "JOB", "STATE", "ROWS", "SUCCEEDED", "FAILED", "REJECTED", "PENDING")


def tick(context: typer.Context, json: options.Json = False) -> int:
    """Do what is due for every approved run, and return. Single calls are made for 50 seconds. Exit code 1
    when a run cannot be advanced."""
    import anyio

    from bulkrate.cli.choosing import workspace_of

    terminal: Terminal = context.obj
    errors: list[dict[str, Any]] = []

    def failed(run: RunRecord | None, error: Exception) -> None:
        entry = describe(run, error)
        errors.append(entry)
        terminal.error(entry["code"], entry["message"], entry["hint"])

    with workspace_of(terminal) as workspace:
        ticked = anyio.run(lambda: workspace.tick(on_error=failed))
        runs = []
        for run in ticked:
            balance = workspace.ledger.balance(run.id)
            rows = {
                "total": balance.rows,
                "succeeded": balance.succeeded,
                "failed": balance.failed,
                "rejected": balance.rejected,
                "pending": balance.pending,
            }
            runs.append({"run": run.id, "job": run.job_name, "state": str(run.state), "rows": rows})
    if json:
        terminal.document({"runs": runs, "errors": errors})
    elif runs:  # cron mails whatever is said: nothing when there is nothing to do
        terminal.table(HEADER, [_cells(run) for run in runs])
    return 1 if errors else 0


def describe(run: RunRecord | None, error: Exception) -> dict[str, Any]:
    """An error of one run (of none: of the ledger) in words and for programs."""
    from bulkrate.errors import BulkrateError, DiskError

    error = DiskError.of(error) or error
    known = isinstance(error, BulkrateError)
    where = "" if run is None else f"run {run.id} of {run.job_name}: "
    what = str(error) if known else f"{type(error).__name__}: {error}"
    return {
        "run": None if run is None else run.id,
        "code": error.code if isinstance(error, BulkrateError) else "unexpected",
        "message": where + what,
        "hint": error.hint if isinstance(error, BulkrateError) else None,
    }


def _cells(run: dict[str, Any]) -> tuple[str, ...]:
    return (run["run"], run["job"], run["state"], *(str(count) for count in run["rows"].values()))
