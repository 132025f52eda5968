"""`bulkrate cancel`: end a run, and keep every answer that was paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

if TYPE_CHECKING:
    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.workspace import Workspace


def cancel(
    context: typer.Context,
    run: options.RunName,
    *,
    yes: options.Yes = False,
    json: options.Json = False,
    timeout: options.Timeout = None,
    poll: options.Poll = None,
    no_wait: options.NoWait = False,
) -> int:
    """Cancel a run: nothing new is sent, what runs is cancelled, what was answered is delivered.

    Ends with 0 when the run has ended, whatever became of its rows; 3 when it is still ending.
    """
    from bulkrate.cli.choosing import run_of, workspace_of
    from bulkrate.cli.driving import drive_run
    from bulkrate.cli.summary import finish
    from bulkrate.core.run_states import RunState
    from bulkrate.errors import Refused

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        found = run_of(workspace, run)
        if found.state in (RunState.SETTLED, RunState.FINISHED):
            terminal.note(f"run {found.id} has ended already: there is nothing to cancel")
            finish(terminal, workspace, found)
            return 0
        terminal.pairs(f"run {found.id} of {found.job_name}: {found.state}", stakes(workspace, found))
        if not yes:
            if not terminal.can_ask:
                raise Refused(
                    "cancelling needs a yes, and standard input is no terminal to ask on",
                    code="not_approved",
                    hint="pass --yes",
                )
            if not terminal.ask(f"Cancel run {found.id}?"):
                raise Refused(
                    "not approved; the run goes on", code="not_approved", hint="say yes, or pass --yes"
                )
        found = workspace.cancel(found.id)
        if not no_wait:
            found = drive_run(terminal, workspace, found.id, timeout_s=timeout, poll_s=poll, follow=True)
        finish(terminal, workspace, found)
        return 0 if no_wait or found.state is RunState.FINISHED else 3


def stakes(workspace: Workspace, run: RunRecord) -> list[tuple[str, str]]:
    """What is billed already, and what may yet be."""
    from bulkrate.core.shard_states import REMOTE
    from bulkrate.pipeline.report import bill_of
    from bulkrate.pricing.money import format_money

    balance = workspace.ledger.balance(run.id)
    flying = [shard for shard in workspace.ledger.shards(run.id) if shard.state in REMOTE]
    batches = "1 batch" if len(flying) == 1 else f"{len(flying):,} batches"
    pairs = [
        ("answered", f"{balance.succeeded:,} of {balance.rows:,} rows: these stay"),
        (
            "in flight",
            f"{sum(shard.requests for shard in flying):,} requests in {batches}: "
            "what was run before the cancel arrives is billed, and kept",
        ),
    ]
    quote = workspace.quote(run)
    if quote is not None and not quote.free:
        billed = bill_of(workspace.ledger, run, workspace.prices).cost
        said = "not known" if billed is None else format_money(billed, quote.currency)
        if billed is not None and quote.prices_dated is not None:
            said += f" by the tokens reported, prices of {quote.prices_dated.isoformat()}"
        pairs.append(("billed", said))
    return pairs
