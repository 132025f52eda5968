"""Nothing is spent without a shown quote and a yes."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from bulkrate.cli.quoting import left_of, question, quote_pairs
from bulkrate.cli.terminal import Terminal
from bulkrate.errors import Refused

if TYPE_CHECKING:
    from bulkrate.core.budget import Held, Limit
    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.workspace import Workspace
    from bulkrate.pricing import Quote


def show_quote(
    terminal: Terminal,
    quote: Quote,
    what: str,
    *,
    rejected: int = 0,
    budgets: Sequence[tuple[Limit, Held]] = (),
) -> None:
    """The quote on standard error, and what is left of the budgets it has to stay within."""
    title = f"{what}: {quote.provider}/{quote.model}, by batch"
    pairs = quote_pairs(quote, rejected=rejected)
    terminal.pairs(title, pairs + [("budget", left_of(limit, held)) for limit, held in budgets])


def approval(terminal: Terminal, quote: Quote, *, yes: bool) -> bool:
    """Whether the quote is approved: by --yes, or by a typed yes. Raises `Refused` when nobody can answer."""
    if yes:
        return True
    if not terminal.can_ask:
        raise Refused(
            "this costs money, and standard input is no terminal to ask on; nothing was spent",
            code="not_approved",
            hint="pass --yes to approve the quote, and --max-cost to bound it",
        )
    return terminal.ask(question(quote))


def approve(
    terminal: Terminal,
    workspace: Workspace,
    run: RunRecord,
    *,
    yes: bool,
    max_cost: Decimal | None,
) -> RunRecord:
    """Show a ready run's quote and have it approved."""
    from bulkrate.pipeline.budget_check import budgets_of

    quote = workspace.quote(run)
    if quote is not None:
        rejected = workspace.ledger.balance(run.id).rejected
        budgets = budgets_of(workspace, run, max_cost)
        show_quote(terminal, quote, f"quote for run {run.id}", rejected=rejected, budgets=budgets)
    return workspace.approve(run, decide=lambda shown: approval(terminal, shown, yes=yes), max_cost=max_cost)
