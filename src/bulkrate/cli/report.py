"""`bulkrate report`: a run as a page to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal
from bulkrate.errors import BulkrateError

Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", help="Where to write the page: a file, or a folder. Default: RUN.html here."
    ),
]


def report(context: typer.Context, run: options.RunName, html: Html = None) -> int:
    """Write a run as one page of HTML: rows, cost against quote, tokens, failures, shards.

    The page fetches nothing, runs nothing, and holds neither prompts nor answers. Works at any time.
    """
    from bulkrate.cli.bill import pairs
    from bulkrate.cli.choosing import run_of, workspace_of
    from bulkrate.cli.summary import next_steps
    from bulkrate.pages.figures import figures_of
    from bulkrate.pages.run_page import run_page
    from bulkrate.pipeline.durable import whole_file
    from bulkrate.pipeline.reforecast import full_report
    from bulkrate.pipeline.spending import spending_of

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        found = run_of(workspace, run)
        spent = spending_of(workspace.ledger, workspace.home, [found], workspace.prices, by=("model",))
        advice = next_steps(workspace, found, full_report(workspace, found))
        figures = figures_of(workspace, found)
        page = run_page(figures, bill=pairs(spent), advice=advice, made_at=workspace.clock.now())
    path = terminal.cwd / (html or "")
    if path.is_dir():
        path /= f"{found.id}.html"
    try:
        with whole_file(path) as part:
            part.write_text(page, encoding="utf-8")
    except OSError as error:
        raise BulkrateError(
            f"{path} cannot be written: {error.strerror}", code="out", hint="say where with --html"
        ) from None
    terminal.note(f"the page is {path}")
    return 0
