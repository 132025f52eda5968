"""`bulkrate results`: the rows with their answers, as far as there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="Write this file (.jsonl, .csv or .parquet) instead of stdout."
    ),
]


def results(
    context: typer.Context, run: options.RunName, output: Output = None, json: options.Json = False
) -> int:
    """Print a run's rows joined to their answers, as JSON Lines, in the order of the source.

    Works at any time: rows without an answer yet have the status pending.
    """
    from bulkrate.cli.choosing import run_of, workspace_of
    from bulkrate.datasets.content import json_line

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        found = run_of(workspace, run)
        balance = workspace.ledger.balance(found.id)
        if balance.pending:
            terminal.note(f"{balance.pending:,} of {balance.rows:,} rows are pending")
        if output is None:
            terminal.data(json_line(row) for block in workspace.rows(found.id) for row in block)
            return 0
        delivery = workspace.deliver(found.id, output.absolute())
        if json:
            rows = {"total": delivery.rows, **delivery.by_status}
            terminal.document({"run": found.id, "rows": rows, "sink": str(output.absolute())})
        else:
            terminal.note(f"{delivery.rows:,} rows in {output}")
    return 0
