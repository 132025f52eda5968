"""The limits on a run, a job and a ledger, by whole runs: what stops, what is finished, what goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from live_app import LiveProvider, serving

from bulkrate.core.budget import Scope
from bulkrate.core.run_states import RunState
from bulkrate.core.shard_states import ShardState
from bulkrate.errors import Refused
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.report import bill_of
from bulkrate.pipeline.retry_quote import quote_retry
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import FakeClock, MisbehavingProvider

ROWS = 40
DAY = datetime(2026, 11, 24, 9, tzinfo=UTC)


class Desk:
    """A workspace over a provider with batches and single calls, and a clock that is moved."""

    def __init__(self, folder: Path, batch: MisbehavingProvider, live: LiveProvider, **limits: str) -> None:
        self.folder, self.batch, self.live, self.clock = folder, batch, live, FakeClock(DAY)
        env = {"OPENAI_API_KEY": batch.api_key, "OPENAI_BASE_URL": live.base_url}
        limits = {"requests": "10", "listing_lag_s": "0", **limits}
        env |= {f"BULKRATE_LIMITS__{name.upper()}": value for name, value in limits.items()}
        self.space = Workspace(Home.find(folder, env={}), env=env, clock=self.clock)

    def job(self, name: str = "tickets", *, cap: int | None = 20, rows: int = ROWS, **more: Any) -> Any:
        lines = [json.dumps({"id": n, "body": f"{name} {n}"}) for n in range(rows)]
        (self.folder / f"{name}.jsonl").write_text("\n".join(lines))
        request = {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}"}
        return load_job_mapping(
            {
                "name": name,
                "source": {"path": f"{name}.jsonl", "key": "id"},
                "request": request if cap is None else {**request, "max_output_tokens": cap},
                "sink": {"path": f"{name}.answers.jsonl"},
                **more,
            },
            self.folder,
        )

    def approve(self, job: Any, max_cost: Decimal | None = None) -> RunRecord:
        return self.space.approve(self.space.prepare(job), decide=lambda quote: True, max_cost=max_cost)

    def advance(self, run: RunRecord, timeout_s: float | None = None, **more: Any) -> RunRecord:
        return anyio.run(lambda: self.space.advance(run.id, poll_s=60, timeout_s=timeout_s, **more))

    def ceiling(self, run: RunRecord) -> Decimal:
        quote = self.space.quote(run)
        assert quote is not None and quote.cost_max is not None
        return quote.cost_max

    def spent(self, run: RunRecord, scope: Scope = Scope.RUN) -> Decimal:
        held = self.space.ledger.held(run.id, self.clock.now())[scope]
        assert not held.under_way
        return held.spent

    def states(self, run: RunRecord) -> list[ShardState]:
        return [shard.state for shard in self.space.ledger.shards(run.id)]

    def answered(self, run: RunRecord) -> int:
        return self.space.ledger.balance(run.id).succeeded


MakeDesk = Callable[..., Desk]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[MakeDesk]:
    with ExitStack() as stack:

        def make(faults: str = "", **limits: str) -> Desk:
            batch = MisbehavingProvider(faults, seed=7)
            live = stack.enter_context(serving(LiveProvider(batch=batch.app)))
            desk = Desk(tmp_path, batch, live, **limits)
            stack.callback(desk.space.close)
            return desk

        yield make


def test_resends_stop_at_the_limit_and_go_on_when_it_is_raised(desk: MakeDesk) -> None:
    # Every answer is cut off once: sending the rows again with a larger cap costs more than was approved.
    at = desk("truncate=10,batches=4")
    job = at.job()
    prepared = at.space.prepare(job)
    run = at.approve(job, at.ceiling(prepared))
    with pytest.raises(Refused, match="is over what is left of the limit") as refused:
        at.advance(run)
    assert (refused.value.code, refused.value.exit_code) == ("over_max_cost", 4)
    assert "raise --max-cost, and run it again" in (refused.value.hint or "")
    assert ShardState.SUBMITTED not in at.states(run), "what was under way is finished first"
    assert 0 < at.spent(run) <= at.ceiling(prepared)
    assert at.batch.meter.rows_accepted == ROWS
    with pytest.raises(Refused):  # as it stands it stays so
        at.advance(run)

    assert at.approve(job, Decimal(1)).state is RunState.ACTIVE
    assert at.advance(run).state is RunState.FINISHED
    assert at.answered(run) == ROWS
    assert at.spent(run) == bill_of(at.space.ledger, run, at.space.prices).cost


def test_lost_rows_without_a_control_total_count_no_more_than_their_shard_may_cost(desk: MakeDesk) -> None:
    """Each of them may be the longest row, but not all of them are."""
    at = desk("no_usage=1 missing=9", requests="50")
    job = at.job()
    long = json.dumps({"id": ROWS, "body": "long " * 2_000})
    path = at.folder / "tickets.jsonl"
    path.write_text(f"{path.read_text()}\n{long}")
    ceiling = at.ceiling(at.space.prepare(job))
    run = at.advance(at.approve(job, 10 * ceiling))
    assert (run.state, at.answered(run)) == (RunState.FINISHED, ROWS + 1)
    kept = at.space.ledger.reservations(run=run.id)
    (first,) = [each for each in kept if each.shard == 0]
    assert 0 < (first.cost or 0) <= (first.reserved or 0)


def test_a_run_goes_on_when_the_job_file_allows_more(desk: MakeDesk) -> None:
    at = desk("truncate=4")
    ceiling = at.ceiling(at.space.prepare(at.job()))
    run = at.approve(at.job(budget={"month": f"{ceiling:f}"}))
    with pytest.raises(Refused, match="job's monthly budget"):
        at.advance(run)
    assert at.approve(at.job(budget={"month": 1})).id == run.id
    assert at.advance(run).state is RunState.FINISHED
    assert at.answered(run) == ROWS


def test_a_rescue_has_to_fit_every_budget(desk: MakeDesk) -> None:
    at = desk("stuck=1,done=5", requests="40", cancel_latency_s="600", answers_per_s="1")
    run = at.approve(at.job(lane={"deadline": "30m", "rescue": "flex", "poll": 60}))
    with at.space.ledger.transaction("budget") as tx:
        tx.set_budget(at.ceiling(run), at.clock.now())
    run = at.advance(run, timeout_s=1500)
    kinds = {event.kind for event in at.space.ledger.events(run.id)}
    assert ("rescue" in kinds, run.state) == (False, RunState.ACTIVE)
    assert "rescue_refused" in kinds


def test_a_run_that_is_stopped_can_be_cancelled_with_what_it_has(desk: MakeDesk) -> None:
    at = desk("truncate=4")
    job = at.job()
    run = at.approve(job, at.ceiling(at.space.prepare(job)))
    with pytest.raises(Refused):
        at.advance(run)
    at.space.cancel(run.id)
    assert at.advance(run).state is RunState.FINISHED
    assert at.answered(run) == ROWS - 4


def test_what_is_under_way_is_finished_and_the_rest_waits(desk: MakeDesk) -> None:
    at = desk()
    run = at.approve(at.job())
    # Room for the worst case of one of four shards, and for more once that has cost less.
    with at.space.ledger.transaction("budget") as tx:
        tx.set_budget(at.ceiling(run) * Decimal("0.45"), at.clock.now())
    with pytest.raises(Refused, match="ledger's monthly budget"):
        at.advance(run, until_submitted=True)  # who does not wait is told at once
    assert at.states(run).count(ShardState.SUBMITTED) == 1
    with pytest.raises(Refused):
        at.advance(run)
    states = at.states(run)
    assert states.count(ShardState.COLLECTED) >= 2, "the first cost less than was reserved for it"
    assert set(states) <= {ShardState.COLLECTED, ShardState.PACKED, ShardState.UPLOADED}
    assert at.spent(run, Scope.LEDGER) <= at.ceiling(run) * Decimal("0.45")


def test_rows_too_few_for_a_batch_count_live(desk: MakeDesk) -> None:
    # The rows that are lost are sent again one by one, at twice the price.
    at = desk("missing=9,batches=4", min_requests="40", requests="50")
    job = at.job()
    prepared = at.space.prepare(job)
    run = at.approve(job, at.ceiling(prepared))
    spent = Decimal(0)
    try:
        at.advance(run)
    except Refused:
        spent = at.spent(run)
        assert not at.live.answered
        assert at.approve(job, Decimal(1)).id == run.id
        at.advance(run)
    assert at.answered(run) == ROWS
    assert sum(at.live.answered.values()) == 9
    lanes = {record.lane: record.requests for record in at.space.ledger.usage(run.id) if not record.error}
    assert lanes == {"batch": ROWS - 9, "live": 9}
    assert at.spent(run) > spent


def test_no_call_of_the_live_lane_is_made_beyond_the_limit(desk: MakeDesk) -> None:
    at = desk()
    run = at.approve(at.job(lane="live"))
    with at.space.ledger.transaction("budget") as tx:
        tx.set_budget(at.ceiling(run) * Decimal("0.3"), at.clock.now())
    with pytest.raises(Refused):
        at.advance(run)
    assert 0 < at.spent(run, Scope.LEDGER) <= at.ceiling(run) * Decimal("0.3")
    assert sum(at.live.answered.values()) == at.answered(run) == 10


def test_a_call_that_was_cut_short_counts_besides(desk: MakeDesk) -> None:
    at = desk(answer_timeout_s="0.3")
    at.live.hang_first = 1
    run = at.advance(at.approve(at.job(rows=5, lane="live")))
    billed = bill_of(at.space.ledger, run, at.space.prices).cost
    assert billed is not None
    assert billed < at.spent(run) <= at.ceiling(run) / 5 + billed


def test_answers_of_a_model_without_a_price_count_as_reserved(desk: MakeDesk) -> None:
    at = desk()
    at.live.model = "somebody-elses"
    run = at.advance(at.approve(at.job(rows=5, lane="live")))
    assert bill_of(at.space.ledger, run, at.space.prices).cost is None
    assert at.spent(run) == at.ceiling(run)


def test_a_job_has_a_month(desk: MakeDesk) -> None:
    at = desk()
    ceiling = at.ceiling(at.space.prepare(at.job()))
    limited = {"budget": {"month": f"{ceiling * Decimal('1.2'):f}"}}
    assert at.advance(at.approve(at.job(**limited))).state is RunState.FINISHED
    at.job("other")
    more = at.job(rows=2 * ROWS, **limited)
    with pytest.raises(Refused, match=r"job's monthly budget of .* spent$") as refused:
        at.approve(more)
    assert (refused.value.code, refused.value.hint or "")[0] == "over_budget"
    assert at.advance(at.approve(at.job("other"))).state is RunState.FINISHED, "another job is not concerned"
    # What `clean` forgets was spent all the same.
    at.clock.advance(timedelta(days=1).total_seconds())
    assert at.space.forget(at.clock.now())
    with pytest.raises(Refused, match="spent"):
        at.approve(more)
    at.clock.advance(timedelta(days=6).total_seconds())
    run = at.approve(at.job(rows=ROWS, **limited))
    assert at.advance(run).state is RunState.FINISHED, "a new month"


def test_a_job_may_limit_each_run(desk: MakeDesk) -> None:
    at = desk()
    with pytest.raises(Refused, match=r"over the limit of 0\.0000010 USD"):
        at.approve(at.job(budget={"run": 0.000001}))
    assert at.approve(at.job(budget={"run": 0.000001}), Decimal(1)).state is RunState.ACTIVE


def test_a_budget_needs_a_cap_and_earlier_answers_propose_one(desk: MakeDesk) -> None:
    at = desk()
    uncapped = at.job(cap=None)
    run = at.advance(at.approve(uncapped))
    (path,) = {at.space.home.run_dir(run.id) / "outcomes" / "00000.parquet"}
    assert path.exists()
    with pytest.raises(Refused, match="without a cap on output") as refused:
        at.approve(at.job(cap=None, rows=ROWS + 1, budget={"month": 5}))
    assert refused.value.code == "no_output_cap"
    # Six tokens at most so far, half as much again, in steps of sixteen.
    assert "set request.max_output_tokens (16 would have held" in (refused.value.hint or "")
    assert at.space.ledger.runs()[0].state is RunState.READY


def test_what_has_no_upper_end_blocks_a_budget_while_it_is_under_way(desk: MakeDesk) -> None:
    at = desk("stuck=4")
    at.advance(at.approve(at.job(cap=None)), until_submitted=True)
    with at.space.ledger.transaction("budget") as tx:
        tx.set_budget(Decimal(100), at.clock.now())
    with pytest.raises(Refused, match="4 shards under way have no upper end"):
        at.approve(at.job("other"))


def test_a_retry_is_held_against_what_is_left(desk: MakeDesk) -> None:
    at = desk("bad_rows=5,batches=4")
    job = at.job()
    run = at.approve(job, at.ceiling(at.space.prepare(job)))
    run = at.advance(run)
    assert at.space.ledger.balance(run.id).failed == 20
    again = quote_retry(at.space, run).cost_max
    assert again is not None
    spent = at.spent(run)
    assert at.space.retry(run.id, max_cost=again) == 20
    assert at.advance(run).state is RunState.FINISHED
    assert at.answered(run) == ROWS
    assert spent < at.spent(run) <= spent + again


def test_a_batch_that_is_found_again_counts_whatever_the_limit(desk: MakeDesk) -> None:
    at = desk()
    run = at.approve(at.job())
    at.advance(run, until_submitted=True)
    lost = Workspace(Home.find(at.folder / "elsewhere", env={}), env=at.space.env, clock=at.clock)
    again = lost.approve(lost.prepare(at.job()), decide=lambda quote: True)
    assert again.id == run.id
    with lost.ledger.transaction("budget") as tx:
        tx.set_budget(Decimal(0), at.clock.now())
    assert anyio.run(lambda: lost.advance(again.id, poll_s=60)).state is RunState.FINISHED
    assert at.batch.meter.rows_accepted == ROWS, "they were adopted, not sent again"
    assert lost.ledger.held(again.id, at.clock.now())[Scope.LEDGER].spent > 0
    lost.close()
