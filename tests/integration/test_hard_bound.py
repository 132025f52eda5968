"""A limit below the ceiling and above the pilot's hard bound: approved, reserved by it, and kept."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from planning_desk import PlanningDesk, answer

from bulkrate.cli.quoting import quote_pairs
from bulkrate.cli.summary import summary_pairs
from bulkrate.core.budget import Scope
from bulkrate.core.run_states import RunState
from bulkrate.errors import Refused
from bulkrate.jobs.spec import Job
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.reforecast import full_report
from bulkrate.pricing import Quote

ROWS = 600
SHARDS = 6
CAP = 400  # of answers that are a few words long


@pytest.fixture
def make_desk(tmp_path: Path, misbehaving_provider: Any) -> Callable[[str], PlanningDesk]:
    def make(faults: str = "") -> PlanningDesk:
        desk = PlanningDesk(tmp_path, misbehaving_provider(faults, answer=answer))
        desk.workspace.env = {**desk.workspace.env, "BULKRATE_LIMITS__REQUESTS": str(ROWS // SHARDS)}
        desk.tickets(ROWS)
        return desk

    return make


@pytest.fixture
def desk(make_desk: Callable[[str], PlanningDesk]) -> PlanningDesk:
    return make_desk("")


def job(desk: PlanningDesk, **fields: Any) -> Job:
    request = {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": CAP}
    return desk.job(request=request, **fields)


def prepared(desk: PlanningDesk, **fields: Any) -> tuple[RunRecord, Quote, Decimal, Decimal]:
    """The job's run after a pilot: its quote, its hard bound and its ceiling."""
    desk.pilot(100, job(desk, **fields))
    run = desk.workspace.prepare(job(desk, **fields))
    quote = desk.workspace.quote(run)
    assert quote is not None
    assert quote.bound is not None
    assert quote.cost_max is not None
    return run, quote, quote.bound, quote.cost_max


def approved(desk: PlanningDesk, run: RunRecord, max_cost: Decimal) -> RunRecord:
    return desk.workspace.approve(run, decide=lambda quote: True, max_cost=max_cost)


def reserved(desk: PlanningDesk, run: RunRecord) -> Decimal:
    return desk.workspace.ledger.held(run.id, desk.workspace.clock.now())[Scope.RUN].under_way


def test_the_bound_of_a_quote_is_the_plans(desk: PlanningDesk) -> None:
    _, quote, bound, ceiling = prepared(desk)
    planned = desk.plan(job(desk)).own.lanes["batch"]
    assert (planned.bound, planned.ceiling) == (bound, ceiling)
    assert (planned.low, planned.expected, planned.high) == (quote.low, quote.expected, quote.high)
    assert 3 * bound < ceiling
    assert Quote.from_json(quote.to_json()) == quote
    live = desk.workspace.prepare(job(desk, lane={"use": "live"}))
    on_live = desk.workspace.quote(live)
    assert on_live is not None
    assert on_live.bound == 2 * bound


def test_all_shards_travel_at_once_and_the_limit_is_kept(desk: PlanningDesk) -> None:
    run, _, bound, _ = prepared(desk)
    approved(desk, run, bound)
    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01, until_submitted=True))
    assert reserved(desk, run) == bound
    done = anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01))
    assert done.state is RunState.FINISHED
    assert desk.accepted() == ROWS
    assert 0 < desk.billed(run) <= bound
    assert not reserved(desk, run)


def test_the_bill_is_compared_with_what_was_expected(desk: PlanningDesk) -> None:
    assert "expected" not in dict(quote_pairs(desk.workspace.quote(desk.workspace.prepare(job(desk)))))
    run, quote, _, _ = prepared(desk)
    shown = dict(quote_pairs(quote))
    assert shown["expected"].startswith("about 0.00")
    assert shown["hard bound"].endswith("by the pilot: exceeded at most 5 times of 100")
    done = desk.finish(job(desk))
    said = dict(summary_pairs(desk.workspace, done, full_report(desk.workspace, done)))
    assert said["expected"] in shown["expected"]
    off = re.fullmatch(r"0\.\d+ USD: the quote was too (?:high|low) by (\d\.?\d*) %", said["quote error"])
    assert off is not None
    assert float(off[1]) < 10
    assert run.id == done.id


def test_a_limit_below_the_bound_is_refused(desk: PlanningDesk) -> None:
    run, _, bound, _ = prepared(desk)
    with pytest.raises(Refused, match=r"the pilot's hard bound of .* is over the limit of") as refused:
        approved(desk, run, bound - Decimal("0.000001"))
    assert refused.value.code == "over_max_cost"
    assert desk.accepted() == 100


def test_where_the_ceiling_fits_the_worst_case_is_reserved(desk: PlanningDesk) -> None:
    run, _, _, ceiling = prepared(desk)
    approved(desk, run, ceiling)
    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01, until_submitted=True))
    assert reserved(desk, run) == ceiling


def test_what_is_sent_again_reserves_its_worst_case(make_desk: Callable[[str], PlanningDesk]) -> None:
    prepared(make_desk(""))
    desk = make_desk("missing=60,batches=5")
    run, _, bound, ceiling = prepared(desk)
    approved(desk, run, bound)
    with pytest.raises(Refused, match="the next shard's ceiling of"):
        anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01))
    balance = desk.workspace.ledger.balance(run.id)
    assert balance.pending
    assert balance.rows == balance.succeeded + balance.pending
    approved(desk, desk.workspace.run(run.id), ceiling)
    done = anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01))
    assert done.state is RunState.FINISHED
    assert desk.workspace.ledger.balance(run.id).succeeded == ROWS


def test_a_fresh_run_of_the_same_rows_has_no_bound(desk: PlanningDesk) -> None:
    desk.pilot(100, job(desk))
    quote = desk.workspace.quote(desk.workspace.prepare(job(desk), fresh=True))
    assert quote is not None
    assert (quote.rows, quote.bound) == (ROWS, None)
    assert quote.expected is not None  # the pilot is an earlier run of the template


def test_monthly_budgets_are_held_by_it_too(desk: PlanningDesk) -> None:
    run, _, bound, ceiling = prepared(desk)
    spent = desk.workspace.ledger.held(run.id, desk.workspace.clock.now())[Scope.JOB].spent
    assert spent > 0  # by the pilot
    limit = (spent + bound + ceiling) / 2
    with desk.workspace.ledger.transaction("budget") as tx:
        tx.set_budget(limit, desk.workspace.clock.now())
    done = desk.finish(job(desk))
    assert (done.id, done.state) == (run.id, RunState.FINISHED)
    held = desk.workspace.ledger.held(run.id, desk.workspace.clock.now())[Scope.LEDGER]
    assert spent < held.spent <= limit
