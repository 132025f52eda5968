"""Before the yes: a quote held against every budget, and a cap proposed where none makes a bound possible."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from bulkrate.core.budget import Held, Limit, Scope
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.budget import limits_of, with_ledgers
from bulkrate.pipeline.row_files import read_parquet
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pricing import Quote
from bulkrate.pricing.budgets import hold, proposed_cap
from bulkrate.pricing.quote import wanted_of

if TYPE_CHECKING:
    from bulkrate.pipeline.workspace import Workspace

# Answers to look at for a cap; more change it little.
ENOUGH = 20_000


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
        found = [(limit, Held() if limit.scope is Scope.RUN else held) for limit, held in found]
    return found


def check_quote(workspace: Workspace, run: RunRecord, quote: Quote, max_cost: Decimal | None) -> None:
    """Refuse a quote that is over a budget, or whose ceiling nobody knows though there is one."""
    budgets = budgets_of(workspace, run, max_cost)
    if not budgets:
        return
    cap = None
    if quote.output_tokens_max is None and quote.cost_max is None:
        cap = proposed_cap(list(islice(_answer_lengths(workspace, run), ENOUGH)))
    for limit, so_far in budgets:
        hold(limit, so_far, wanted_of(quote, cap))


def _answer_lengths(workspace: Workspace, run: RunRecord) -> Iterator[int]:
    """Output tokens of answers that earlier runs of the job got from the same model."""
    for earlier in workspace.ledger.runs(job_name=run.job_name):
        if (earlier.provider, earlier.model) != (run.provider, run.model):
            continue
        folder = RunFolder(workspace.home.run_dir(earlier.id))
        paths = (folder.outcomes_path(shard.number) for shard in workspace.ledger.shards(earlier.id))
        for path in filter(Path.exists, paths):
            table = read_parquet(path, ["error", "output_tokens"]).to_pylist()
            yield from (
                row["output_tokens"] for row in table if row["error"] is None and row["output_tokens"]
            )
