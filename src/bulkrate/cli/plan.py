"""`bulkrate plan`: what a job would cost, by model and lane, as a file that can be run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

if TYPE_CHECKING:
    from bulkrate.pricing.plan import Plan

Models = Annotated[
    str | None,
    typer.Option(
        "--models", metavar="A,B,C", help="Compare these models (provider/name), separated by commas, too."
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="FILE", help="Where to write the plan. Default: <job>.plan.json beside the job file."
    ),
]


def plan(
    context: typer.Context,
    file: options.File,
    *,
    models: Models = None,
    out: Out = None,
    json: options.Json = False,
    model: options.Model = None,
) -> int:
    """Count every row of a job and price it, by model and lane. Sends nothing.

    The plan is a file: `bulkrate run PLAN` runs just that, and refuses if the rows, the job, the model or its
    prices have changed.
    """
    from bulkrate.cli.choosing import job_of, workspace_of
    from bulkrate.cli.preparing import counting
    from bulkrate.pipeline.plan import make_plan

    terminal: Terminal = context.obj
    job = job_of(file, model=model)
    target = out or Path(file).with_name(f"{job.name}.plan.json")
    beside = [name.strip() for name in (models or "").split(",") if name.strip()]
    with workspace_of(terminal) as workspace:
        made = make_plan(workspace, job, beside, job_file=Path(file), on_progress=counting(terminal))
    write(made, target)
    if json:
        terminal.document(made.to_json())
    else:
        show(terminal, made)
    terminal.note(f"written to {target}: `bulkrate run {target}` runs just this")
    return 0


def write(made: Plan, target: Path) -> None:
    """The plan file, whole or not at all."""
    import orjson

    from bulkrate.pipeline.durable import whole_file

    with whole_file(target) as part:
        part.write_bytes(orjson.dumps(made.to_json(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def show(terminal: Terminal, made: Plan) -> None:
    """The plan for people: about the rows on standard error, the table on standard output."""
    from bulkrate.pricing.plan_table import HEADER, lines, table

    for code, count in made.problems.items():
        terminal.note(f"{count:,} rows rejected ({code}); `bulkrate check` lists them")
    terminal.pairs(f"plan of {made.job}: {made.own.model}, {made.lane} lane", lines(made))
    terminal.table(HEADER, table(made))
    for each in made.models:
        for note in each.notes:
            terminal.note(f"{each.model}: {note}")
        if each is not made.own and each.rows_too_long:
            terminal.note(f"{each.model}: {each.rows_too_long:,} rows are over its context window")
