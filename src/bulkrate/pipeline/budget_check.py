"""Before the yes: a quote held against every budget, and a cap proposed where none makes a bound possible."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from bulkrate.core.budget import Held, Limit, Scope, fits, held, month_of
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.budget import limits_of, with_ledgers
from bulkrate.pipeline.history import History
from bulkrate.pricing import Quote
from bulkrate.pricing.budgets import hold, proposed_cap
from bulkrate.pricing.quote import wanted_of

if TYPE_CHECKING:
    from bulkrate.jobs.spec import Job
    from bulkrate.pipeline.workspace import Workspace


def budgets_of(
    workspace: Workspace, run: RunRecord, max_cost: Decimal | None = None
) -> list[tuple[Limit, Held]]:
    """Every limit on the run, with what counts against it now.

    `max_cost` is what may be spent from now on, whatever the run has cost.
    """
    ledger = workspace.ledger
    so_far = ledger.held(run.id, workspace.clock.now())
    limits = limits_of(ledger, run, workspace.setup(run).job, max_cost)
    found = [(limit, so_far[limit.scope]) for limit in with_ledgers(limits, ledger.budget())]
    if max_cost is not None:
        found = [(limit, Held() if limit.scope is Scope.RUN else counted) for limit, counted in found]
    return found


def budgets_of_job(workspace: Workspace, job: Job) -> list[tuple[Limit, Held]]:
    """Every limit on a run of the job that is not begun, with what counts against it now."""
    month = workspace.ledger.reservations(month=month_of(workspace.clock.now()))
    found = [(limit, held(month)) for limit in with_ledgers((), workspace.ledger.budget())]
    if job.budget.month is not None:
        mine = held(each for each in month if each.job_name == job.name)
        found.insert(0, (Limit(Scope.JOB, job.budget.month), mine))
    if job.budget.run is not None:
        found.insert(0, (Limit(Scope.RUN, job.budget.run), Held()))
    return found


def check_quote(workspace: Workspace, run: RunRecord, quote: Quote, max_cost: Decimal | None) -> bool:
    """Refuse a quote that is over a budget, or whose ceiling nobody knows though there is one.

    Whether it was let through by the hard bound of its pilot, its ceiling being too high.
    """
    budgets = budgets_of(workspace, run, max_cost)
    if not budgets:
        return False
    cap = None
    if quote.output_tokens_max is None and quote.cost_max is None:
        answers = History.of(workspace.ledger, workspace.home, workspace.setup(run)).answers()
        cap = proposed_cap([each.output_tokens for each in answers])
    by_bound = quote.bound is not None and not all(
        fits(limit, so_far, quote.cost_max) for limit, so_far in budgets
    )
    for limit, so_far in budgets:
        hold(limit, so_far, wanted_of(quote, cap, by_bound=by_bound))
    return by_bound
