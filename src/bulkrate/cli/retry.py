"""`bulkrate retry`: the failed rows of a finished run, once more."""

from __future__ import annotations

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal


def retry(
    context: typer.Context,
    run: options.RunName,
    *,
    yes: options.Yes = False,
    json: options.Json = False,
    timeout: options.Timeout = None,
    poll: options.Poll = None,
    max_cost: options.MaxCost = None,
    no_wait: options.NoWait = False,
) -> int:
    """Send the failed rows of a run again, all of them and nothing else."""
    from bulkrate.cli.approving import approval, show_quote
    from bulkrate.cli.choosing import run_of, workspace_of
    from bulkrate.cli.driving import drive_run
    from bulkrate.cli.summary import finish
    from bulkrate.core.run_states import RunState
    from bulkrate.errors import BulkrateError, Refused
    from bulkrate.pipeline.budget_check import budgets_of, check_quote
    from bulkrate.pipeline.retry_quote import quote_retry

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        found = run_of(workspace, run)
        if found.state is not RunState.FINISHED:
            raise BulkrateError(
                f"run {found.id} is {found.state}: only a finished run can be retried",
                code="not_finished",
                hint=f"`bulkrate wait {found.id}` first",
            )
        quote = quote_retry(workspace, found)
        if not workspace.ledger.balance(found.id).failed:
            terminal.note("no row has failed: there is nothing to retry")
            return finish(terminal, workspace, found)
        budgets = budgets_of(workspace, found, max_cost)
        show_quote(terminal, quote, f"quote for retrying run {found.id}", budgets=budgets)
        check_quote(workspace, found, quote, max_cost)
        if not quote.free and not approval(terminal, quote, yes=yes):
            raise Refused(
                "not approved; nothing was spent", code="not_approved", hint="say yes, or pass --yes"
            )
        workspace.retry(found.id, max_cost=max_cost)
        found = drive_run(
            terminal, workspace, found.id, timeout_s=timeout, poll_s=poll, until_submitted=no_wait
        )
        code = finish(terminal, workspace, found)
        return 0 if no_wait and found.state is not RunState.FINISHED else code
