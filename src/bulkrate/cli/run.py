"""`bulkrate run`: the whole way, from a job to its answers."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

if TYPE_CHECKING:
    from bulkrate.jobs.spec import Job
    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.planned import PlanFile
    from bulkrate.pipeline.workspace import Workspace

Sink = Annotated[
    Path | None,
    typer.Option("--sink", metavar="PATH", help="Write the answers here instead of where the job says."),
]


def run(
    context: typer.Context,
    file: options.JobOrPlan,
    *,
    yes: options.Yes = False,
    json: options.Json = False,
    timeout: options.Timeout = None,
    poll: options.Poll = None,
    fresh: options.Fresh = False,
    max_cost: options.MaxCost = None,
    sink: Sink = None,
    model: options.Model = None,
) -> int:
    """Run a job, or a plan of one: assemble, check, quote, send, wait, deliver.

    Running the same job again resumes it, and sends nothing twice. Ctrl-C stops the waiting, not the work.
    """
    from bulkrate.cli.choosing import job_or_plan, workspace_of
    from bulkrate.cli.driving import drive_run
    from bulkrate.cli.summary import finish

    terminal: Terminal = context.obj
    job, plan = job_or_plan(file, model=model, sink=sink)
    with workspace_of(terminal) as workspace:
        begun = begin(terminal, workspace, job, plan, fresh=fresh, yes=yes, max_cost=max_cost)
        if not drives(begun):
            # All there is to do is to write the answers, should they have been moved or deleted.
            workspace.deliver(begun.id)
            return finish(terminal, workspace, workspace.run(begun.id))
        done = drive_run(terminal, workspace, begun.id, timeout_s=timeout, poll_s=poll)
        return finish(terminal, workspace, done)


def begin(
    terminal: Terminal,
    workspace: Workspace,
    job: Job,
    plan: PlanFile | None = None,
    *,
    fresh: bool,
    yes: bool,
    max_cost: Decimal | None,
) -> RunRecord:
    """The run of a job, assembled, quoted and approved; held against a plan if there is one."""
    from bulkrate.cli.approving import approve
    from bulkrate.cli.preparing import prepare, tell_rejected
    from bulkrate.core.run_states import RunState
    from bulkrate.pipeline.planned import hold, hold_run, note_plan

    if plan is not None:
        hold(workspace, plan, job)
    prepared = prepare(terminal, workspace, job, fresh=fresh)
    if plan is not None:
        hold_run(plan, prepared, workspace.quote(prepared))
    if prepared.state is RunState.READY:
        tell_rejected(terminal, workspace, prepared)
        approved = approve(terminal, workspace, prepared, yes=yes, max_cost=max_cost)
        if plan is not None:
            note_plan(workspace, plan, approved)
        return approved
    # A new --max-cost counts from here on.
    workspace.approve(prepared, decide=lambda quote: False, max_cost=max_cost)
    balance = workspace.ledger.balance(prepared.id)
    if prepared.state is RunState.FINISHED:
        terminal.note(f"run {prepared.id} has answered this already: nothing to send (--fresh starts anew)")
    else:
        terminal.note(
            f"resuming run {prepared.id}, begun {prepared.created_at:%Y-%m-%d %H:%M} UTC: "
            f"{balance.pending:,} of {balance.rows:,} rows pending"
        )
    return prepared


def drives(run: RunRecord) -> bool:
    """Whether there is anything left to drive."""
    from bulkrate.core.run_states import RunState

    return run.state is not RunState.FINISHED
