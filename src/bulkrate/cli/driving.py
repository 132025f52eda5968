"""Driving a run from the command line: progress, time limits, signals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from bulkrate.cli.failures import Interrupted
from bulkrate.cli.outlook import outlook
from bulkrate.cli.progress import Progress, progress
from bulkrate.cli.signals import cancelled_by_signals
from bulkrate.cli.terminal import Terminal
from bulkrate.core.run_states import RunState
from bulkrate.errors import BulkrateError, RunBusy
from bulkrate.pipeline.report import in_flight

if TYPE_CHECKING:
    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.workspace import Workspace

# How often to look at a run that another process drives.
FOLLOW_S = 0.5


def drive_run(
    terminal: Terminal,
    workspace: Workspace,
    run_id: str,
    *,
    timeout_s: float | None = None,
    poll_s: float | None = None,
    until_submitted: bool = False,
    follow: bool = False,
) -> RunRecord:
    """Drive a run to its end, or until time is up. Raises `Interrupted` at Ctrl-C or SIGTERM.

    `follow`: when another process drives it, watch that one, and take over should it end before the run.
    """

    async def main() -> RunRecord | None:
        scope = anyio.CancelScope()
        display = progress(terminal, workspace.ledger, run_id, lambda: outlook(workspace, run_id))
        with display, cancelled_by_signals(scope), scope:
            return await _advance(
                terminal,
                workspace,
                run_id,
                display,
                timeout_s=timeout_s,
                poll_s=poll_s,
                until_submitted=until_submitted,
                follow=follow,
            )
        return None

    try:
        run = anyio.run(main)
    except RunBusy:
        raise
    except (BulkrateError, OSError):
        terminal.note(f"run {run_id} stops here, its state is saved: the same command resumes it")
        raise
    except KeyboardInterrupt:
        raise interrupted(workspace, run_id) from None
    if run is None:
        raise interrupted(workspace, run_id)
    return run


async def _advance(
    terminal: Terminal,
    workspace: Workspace,
    run_id: str,
    display: Progress,
    *,
    timeout_s: float | None,
    poll_s: float | None,
    until_submitted: bool,
    follow: bool,
) -> RunRecord:
    began = anyio.current_time()
    told = False
    while True:
        left = None if timeout_s is None else max(began + timeout_s - anyio.current_time(), 0.0)
        try:
            return await workspace.advance(
                run_id,
                timeout_s=left,
                poll_s=poll_s,
                until_submitted=until_submitted,
                on_change=display.changed,
            )
        except RunBusy as busy:
            if not follow:
                raise
            if not told:
                terminal.note(f"{busy.message}; following it")
                told = True
        run = workspace.run(run_id)
        if run.state is RunState.FINISHED or (left is not None and left <= 0):
            return run
        display.changed()
        await anyio.sleep(FOLLOW_S if left is None else min(FOLLOW_S, left))


def interrupted(workspace: Workspace, run_id: str) -> Interrupted:
    """What to say when waiting was stopped."""
    run = workspace.run(run_id)
    flying = in_flight(workspace.ledger, run_id)
    if flying:
        batches = f"{flying} batch is" if flying == 1 else f"{flying} batches are"
        what = f"{batches} with {run.provider} and will go on"
    else:
        what = f"nothing is with {run.provider} now"
    return Interrupted(
        f"stopped waiting for run {run_id}; {what}",
        hint=f"`bulkrate wait {run_id}` goes on from here, `bulkrate cancel {run_id}` ends it",
    )
