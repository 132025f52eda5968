"""`bulkrate submit`: the first half of `run`, for schedulers."""

from __future__ import annotations

import typer

from bulkrate.cli import options
from bulkrate.cli.run import Sink, begin, drives
from bulkrate.cli.terminal import Terminal


def submit(
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
    """Hand a job's requests to the provider and return; `bulkrate wait` does the rest.

    Ends with 0 when everything packed is with the provider, 3 when time is up before that.
    """
    from bulkrate.cli.choosing import job_or_plan, workspace_of
    from bulkrate.cli.driving import drive_run
    from bulkrate.cli.summary import finish
    from bulkrate.core.run_states import RunState
    from bulkrate.pipeline.report import submitted

    terminal: Terminal = context.obj
    job, plan = job_or_plan(file, model=model, sink=sink)
    with workspace_of(terminal) as workspace:
        run = begin(terminal, workspace, job, plan, fresh=fresh, yes=yes, max_cost=max_cost)
        if drives(run):
            run = drive_run(terminal, workspace, run.id, timeout_s=timeout, poll_s=poll, until_submitted=True)
        code = finish(terminal, workspace, run)
        if run.state is RunState.FINISHED:
            return code
        return 0 if submitted(workspace.ledger, run.id) else 3
