"""`bulkrate wait`: the second half of `run`."""

from __future__ import annotations

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal


def wait(
    context: typer.Context,
    run: options.RunName,
    timeout: options.Timeout = None,
    poll: options.Poll = None,
    json: options.Json = False,
) -> int:
    """Wait for a run, and write its answers. Exit code 3 when time is up before it has ended."""
    from bulkrate.cli.choosing import run_of, workspace_of
    from bulkrate.cli.driving import drive_run
    from bulkrate.cli.summary import file_of, finish
    from bulkrate.core.run_states import RunState
    from bulkrate.errors import BulkrateError

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        found = run_of(workspace, run)
        if found.state in (RunState.ASSEMBLING, RunState.READY):
            file = file_of(found)
            raise BulkrateError(
                f"run {found.id} of {found.job_name} is not approved: there is nothing to wait for",
                code="not_started",
                hint=f"`bulkrate run {file}` or `bulkrate submit {file}` shows its quote and asks",
            )
        if found.state is not RunState.FINISHED:
            found = drive_run(terminal, workspace, found.id, timeout_s=timeout, poll_s=poll, follow=True)
        return finish(terminal, workspace, found)
