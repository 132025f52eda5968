"""`bulkrate plan`: what a job would cost, by model and lane, as a file that can be run."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

if TYPE_CHECKING:
    from bulkrate.jobs.spec import Job
    from bulkrate.pipeline.plan import Planning
    from bulkrate.pipeline.workspace import Workspace

LANES = ("batch", "flex", "live")

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


Pilot = Annotated[
    bool,
    typer.Option(
        "--pilot",
        help="First send some rows drawn at random, with a yes of their own, to learn how long the answers "
        "are: 100, or 200 where the job asks for reasoning. Their answers are kept.",
    ),
]
PilotRows = Annotated[
    int | None,
    typer.Option("--pilot-rows", min=1, max=10_000, metavar="N", help="The same with so many rows."),
]
PilotLane = Annotated[
    str | None,
    typer.Option(
        "--pilot-lane", metavar="batch|flex|live", help="The lane of the pilot. Default: that of the job."
    ),
]

StoreCost = Annotated[
    Decimal | None,
    typer.Option(
        "--store-cost", parser=options.money, metavar="AMOUNT", help="What keeping the answers costs you."
    ),
]
Reprocess = Annotated[
    Decimal | None,
    typer.Option(
        "--reprocess",
        parser=options.share,
        metavar="SHARE",
        help="The share of the rows you expect to ask again one day, such as 10%.",
    ),
]


def plan(
    context: typer.Context,
    file: options.File,
    *,
    models: Models = None,
    pilot: Pilot = False,
    pilot_rows: PilotRows = None,
    pilot_lane: PilotLane = None,
    store_cost: StoreCost = None,
    reprocess: Reprocess = None,
    yes: options.Yes = False,
    out: Out = None,
    json: options.Json = False,
    timeout: options.Timeout = None,
    poll: options.Poll = None,
    model: options.Model = None,
) -> int:
    """Count every row of a job and price it, by model and lane. Sends nothing but a pilot.

    The plan is a file: `bulkrate run PLAN` runs just that, and refuses if the rows, the job, the model or its
    prices have changed.
    """
    from bulkrate.cli.choosing import job_of, workspace_of
    from bulkrate.cli.preparing import counting
    from bulkrate.cli.quoting import left_of
    from bulkrate.cli.showing_plans import show, write
    from bulkrate.pipeline.budget_check import budgets_of_job
    from bulkrate.pipeline.plan import Planning

    terminal: Terminal = context.obj
    if pilot_lane not in (None, *LANES):
        raise typer.BadParameter("--pilot-lane is batch, flex or live")
    if reprocess is not None and reprocess < 0:
        raise typer.BadParameter("--reprocess is a share of the rows, 0% or more")
    job = job_of(file, model=model)
    target = out or Path(file).with_name(f"{job.name}.plan.json")
    beside = [name.strip() for name in (models or "").split(",") if name.strip()]
    with workspace_of(terminal) as workspace:
        planning = Planning(workspace, job, beside, on_progress=counting(terminal))
        if pilot or pilot_rows is not None or pilot_lane is not None:
            sample = planning.pilot_job(pilot_rows, pilot_lane)
            send_pilot(terminal, workspace, planning, sample, yes=yes, timeout_s=timeout, poll_s=poll)
        made = planning.plan(job_file=Path(file), store_cost=store_cost, reprocess=reprocess)
        budgets = budgets_of_job(workspace, job)
    write(made, target)
    if json:
        terminal.document(made.to_json())
    else:
        show(terminal, made)
        for limit, held in budgets:
            terminal.note(f"budget: {left_of(limit, held)}")
    terminal.note(f"written to {target}: `bulkrate run {target}` runs just this")
    return 0


def send_pilot(
    terminal: Terminal,
    workspace: Workspace,
    planning: Planning,
    sample: Job,
    *,
    yes: bool,
    timeout_s: float | None,
    poll_s: float | None,
) -> None:
    """Send the pilot and wait for it. Raises `CanaryFailed` when the job is broken, `NotFinished` when time
    is up."""
    from bulkrate.cli.driving import drive_run
    from bulkrate.cli.run import begin
    from bulkrate.core.run_states import RunState
    from bulkrate.errors import NotFinished
    from bulkrate.pipeline.pilot import judge, make_way

    if not sample.only_rows:
        terminal.note("no row is to be sent: no pilot is needed")
        return
    make_way(workspace, planning.setup)
    terminal.note(f"pilot: {len(sample.only_rows):,} rows drawn at random; {sample.sink_path.name} gets them")
    run = begin(terminal, workspace, sample, fresh=False, yes=yes, max_cost=None)
    if run.state is not RunState.FINISHED:
        run = drive_run(terminal, workspace, run.id, timeout_s=timeout_s, poll_s=poll_s)
    if run.state is not RunState.FINISHED:
        raise NotFinished(
            f"the pilot, run {run.id}, is not finished", hint="the same command goes on with it"
        )
    judge(workspace, run, planning.setup.job)
