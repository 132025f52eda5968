"""Plans, pilots, and runs held against a plan, in this process against the misbehaving provider."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from planning_desk import PlanningDesk, answer

from bulkrate.cli.outlook import outlook
from bulkrate.cli.showing_plans import write
from bulkrate.cli.summary import summary_pairs
from bulkrate.core.run_states import RunState
from bulkrate.errors import BulkrateError, CanaryFailed, PlanChanged
from bulkrate.pipeline.expected import expected_band
from bulkrate.pipeline.pilot import judge, make_way
from bulkrate.pipeline.plan import Planning
from bulkrate.pipeline.planned import hold, hold_run, note_plan, read_plan
from bulkrate.pipeline.reforecast import full_report, reforecast_cost
from bulkrate.pipeline.report import report
from bulkrate.pricing.plan import Plan
from bulkrate.pricing.plan_table import lines

MakeDesk = Callable[..., PlanningDesk]

PRICES = """
[[price]]
model = "openai/gpt-4o-mini"
from = 2020-01-01
source = "a contract"
live = {{ input = 2, output = {output} }}
batch = {{ input = 1, output = {output} }}
"""


@pytest.fixture
def make_desk(tmp_path: Path, misbehaving_provider: Any) -> MakeDesk:
    return lambda faults="": PlanningDesk(tmp_path, misbehaving_provider(faults, answer=answer))


@pytest.fixture
def desk(make_desk: MakeDesk) -> PlanningDesk:
    return make_desk()


def batch(plan: Plan) -> tuple[Decimal, Decimal, Decimal]:
    lane = plan.own.lanes["batch"]
    assert lane.low is not None
    assert lane.expected is not None
    assert lane.high is not None
    return lane.low, lane.expected, lane.high


# -- the pilot -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["id", None])
def test_a_pilot_is_paid_for_once_and_its_band_holds(desk: PlanningDesk, key: str | None) -> None:
    desk.tickets(600)
    job = desk.job(key)
    before = desk.plan(job)
    assert (before.own.output.basis, before.own.lanes["batch"].expected) == ("unknown", None)
    _, plan = desk.pilot(60, job)
    assert desk.accepted() == 60
    assert plan.rows == before.rows | {"to_send": 540, "pilot": 60}
    assert (plan.own.output.basis, plan.own.output.answers) == ("pilot", 60)
    low, expected, high = batch(plan)
    lane = plan.own.lanes["batch"]
    assert lane.bound is not None
    assert lane.ceiling is not None
    assert low < expected < high <= lane.bound <= lane.ceiling
    assert desk.plan(job).to_json()["models"] == plan.to_json()["models"]

    whole = desk.finish(job)
    assert desk.accepted() == 600
    assert low <= desk.billed(whole) <= high
    assert report(desk.workspace.ledger, whole)["rows"]["succeeded"] == 600
    assert desk.plan(job).own.rows == 0


def test_equal_requests_are_answered_once_by_the_pilot_and_the_run(desk: PlanningDesk) -> None:
    with (desk.folder / "rows.csv").open("w") as file:
        file.write("id,body\n" + "".join(f"T-{n},ticket {n % 50}\n" for n in range(200)))
    job = desk.job(reuse="exact")
    _, plan = desk.pilot(20, job)
    assert plan.rows | {"reused": 0} == {
        "total": 200,
        "to_send": 30,
        "rejected": 0,
        "repeated": 150,
        "reused": 0,
        "pilot": 20,
    }
    write(plan, path := desk.folder / "desk.plan.json")
    held = read_plan(path)
    assert held is not None
    prepared = desk.workspace.prepare(job)
    hold_run(held, prepared, desk.workspace.quote(prepared))
    run = desk.finish(job)
    assert desk.accepted() == 50
    answers = [json.loads(line) for line in (desk.folder / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 200
    for number, row in enumerate(answers):
        assert row["output"].count("word") == number % 50 % 13 + 1
    desk.workspace.recollect(run.id)
    assert desk.workspace.ledger.balance(run.id).succeeded == 200


def test_a_pilot_draws_from_everywhere_and_the_same_rows_again(desk: PlanningDesk) -> None:
    desk.tickets(600)
    drawn = Planning(desk.workspace, desk.job()).pilot_job(50).only_rows
    assert drawn is not None
    assert (len(set(drawn)), max(drawn) > 400, min(drawn) < 200) == (50, True, True)
    first, _ = desk.pilot(50)
    again, _ = desk.pilot(50)
    assert first.id == again.id
    assert desk.accepted() == 50
    desk.pilot(80)
    assert desk.accepted() <= 50 + 80


def test_a_pilot_has_its_own_lane_size_and_sink(desk: PlanningDesk) -> None:
    desk.tickets(300)
    job = desk.job(lane={"deadline": "2h", "rescue": "live"}, canary={})
    sample = Planning(desk.workspace, job).pilot_job(lane="live")
    assert len(sample.only_rows or ()) == 100
    assert (sample.lane.use, sample.lane.rescue, sample.canary) == ("live", "none", None)
    assert sample.sink_path == desk.folder / "desk.pilot.jsonl"
    request = {"model": "openai/o3", "prompt": "{{ body }}", "reasoning": "low"}
    assert len(Planning(desk.workspace, desk.job(request=request)).pilot_job().only_rows or ()) == 200


def test_a_run_that_was_prepared_before_the_pilot_makes_way(desk: PlanningDesk) -> None:
    desk.tickets(100)
    prepared = desk.workspace.prepare(desk.job())
    assert prepared.state is RunState.READY
    desk.pilot(30)
    desk.finish(desk.job())
    assert desk.accepted() == 100


def test_nothing_is_sent_beside_a_pilot_under_way_nor_a_pilot_beside_a_run(desk: PlanningDesk) -> None:
    desk.tickets(100)
    planning = Planning(desk.workspace, desk.job())
    sample = planning.pilot_job(30)
    pilot = desk.workspace.approve(desk.workspace.prepare(sample), decide=lambda quote: True)
    for beside in (desk.job(), planning.pilot_job(40)):
        with pytest.raises(BulkrateError, match="sent twice"):
            desk.finish(beside)
    assert [run.id for run in desk.workspace.ledger.runs()] == [pilot.id]
    anyio.run(lambda: desk.workspace.advance(pilot.id, poll_s=0.01))
    whole = desk.workspace.approve(desk.workspace.prepare(desk.job()), decide=lambda quote: True)
    assert whole.state is RunState.ACTIVE
    with pytest.raises(BulkrateError, match="too late"):
        make_way(desk.workspace, planning.setup)


def test_a_broken_job_stops_at_its_pilot(make_desk: MakeDesk) -> None:
    desk = make_desk("bad_rows=5")
    desk.tickets(50)
    planning = Planning(desk.workspace, desk.job())
    run = desk.finish(planning.pilot_job(20))
    with pytest.raises(CanaryFailed, match=r"5 of 20 rows \(5 bad_request\)"):
        judge(desk.workspace, run, desk.job())


def test_a_run_under_way_is_forecast_again(desk: PlanningDesk) -> None:
    desk.tickets(600)
    desk.workspace.env = {**desk.workspace.env, "BULKRATE_LIMITS__REQUESTS": "180"}
    desk.pilot(60)
    plan = desk.planned()
    run = desk.workspace.approve(desk.workspace.prepare(desk.job()), decide=lambda quote: True)
    note_plan(desk.workspace, plan, run)
    planned, begun = expected_band(desk.workspace.ledger, run), reforecast_cost(desk.workspace, run)
    assert planned is not None
    assert begun is not None
    low, expected, high = (Decimal(plan.costs[name] or 0) for name in ("low", "expected", "high"))
    assert (planned.low, planned.expected, planned.high) == (low, expected, high)
    assert begun.expected == pytest.approx(expected, rel=Decimal("0.03"))

    desk.provider.set_faults("stuck=1")
    run = anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01, timeout_s=0.2))
    assert desk.workspace.ledger.balance(run.id).pending == 180
    later = reforecast_cost(desk.workspace, run)
    assert later is not None
    assert later.low is not None
    assert later.expected is not None
    assert later.high is not None
    assert later.high - later.low < (high - low) / 2
    assert low <= later.low <= later.expected <= later.high <= high
    assert outlook(desk.workspace, run.id).startswith("forecast: about 0.00")
    desk.provider.advance()
    done = anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01))
    assert later.low <= desk.billed(done) <= later.high
    found = full_report(desk.workspace, done)
    assert found["forecast"] is None
    assert "warning" not in dict(summary_pairs(desk.workspace, done, found))["expected"]
    found["expected"]["high"] = "0.0001"
    assert "warning: it comes to more" in dict(summary_pairs(desk.workspace, done, found))["expected"]


def test_what_the_user_adds(desk: PlanningDesk) -> None:
    desk.tickets(20)
    planning = Planning(desk.workspace, desk.job())
    plan = planning.plan(store_cost=Decimal("0.50"), reprocess=Decimal("0.25"))
    assert plan.likely is not None
    assert plan.total == plan.likely * Decimal("1.25") + Decimal("0.50")
    said = dict(lines(plan))["in all"]
    assert "for asking 25 % again, 0.50 USD for keeping them" in said
    assert planning.plan().to_json()["total"] is None


# -- history -------------------------------------------------------------------------------------------


def test_earlier_runs_of_the_template_forecast_and_measure_retries(make_desk: MakeDesk) -> None:
    desk = make_desk("truncate=20")
    desk.tickets(200)
    desk.finish(desk.job())
    desk.tickets(400, first=1000)
    plan = desk.plan(None, "openai/gpt-5-mini")
    assert (plan.own.output.basis, plan.own.output.answers) == ("history", 200)
    assert plan.own.retries.factor is not None
    assert plan.own.retries.factor > Decimal("1.05")
    assert plan.models[1].output.basis == "other_model"
    assert plan.models[1].retries.factor is None
    low, expected, high = batch(plan)
    assert low < expected < high
    assert plan.turnaround["own_batches"] == 2
    other = desk.job(
        request={"model": "openai/gpt-4o-mini", "prompt": "Say: {{ body }}", "max_output_tokens": 40}
    )
    assert desk.plan(other).own.output.basis == "unknown"


# -- held against a plan -------------------------------------------------------------------------------


def test_other_rows_are_refused(desk: PlanningDesk) -> None:
    desk.tickets(20)
    plan = desk.planned()
    hold(desk.workspace, plan, desk.job())
    desk.tickets(21)
    with pytest.raises(PlanChanged, match=r"the rows have changed \(rows\.csv\)"):
        hold(desk.workspace, plan, desk.job())


def test_another_job_is_refused_and_another_sink_is_not(desk: PlanningDesk) -> None:
    desk.tickets(20)
    plan = desk.planned()
    changed = desk.job(
        request={"model": "openai/gpt-4o", "prompt": "Whose? {{ body }}", "max_output_tokens": 40},
        lane="live",
        attempts=5,
    )
    with pytest.raises(PlanChanged) as refused:
        hold(desk.workspace, plan, changed)
    for said in ("request.model", "request.prompt", "lane.use", "attempts", "the model is openai/gpt-4o,"):
        assert said in str(refused.value)
    hold(desk.workspace, plan, desk.job(sink={"path": "elsewhere.csv"}, attempts=3))


def test_other_prices_are_refused_until_the_run_has_begun(desk: PlanningDesk) -> None:
    desk.tickets(20)
    (desk.folder / "prices.toml").write_text(PRICES.format(output=4))
    plan = desk.planned()
    (desk.folder / "prices.toml").write_text(PRICES.format(output="4.00").replace("a contract", "a copy"))
    desk.workspace.__dict__.pop("prices")
    hold(desk.workspace, plan, desk.job())
    (desk.folder / "prices.toml").write_text(PRICES.format(output="5.5"))
    desk.workspace.__dict__.pop("prices")
    with pytest.raises(PlanChanged, match=r"the batch price of output tokens is 5\.5 USD, not 4 USD"):
        hold(desk.workspace, plan, desk.job())
    desk.finish(desk.job())
    hold(desk.workspace, plan, desk.job())


def test_answers_that_were_counted_on_and_are_gone(desk: PlanningDesk) -> None:
    desk.tickets(20)
    pilot, _ = desk.pilot(10)
    plan = desk.planned()
    assert plan.rows == 10
    with desk.workspace.ledger.transaction("clean") as tx:
        tx.delete_run(pilot.id)
    prepared = desk.workspace.prepare(desk.job())
    with pytest.raises(PlanChanged, match="it sends 10 rows, and now 20 would be sent"):
        hold_run(plan, prepared, desk.workspace.quote(prepared))


def test_a_run_over_other_rows_that_is_not_finished(desk: PlanningDesk) -> None:
    desk.tickets(20)
    desk.workspace.approve(desk.workspace.prepare(desk.job()), decide=lambda quote: True)
    desk.tickets(21)
    plan = desk.planned()
    prepared = desk.workspace.prepare(desk.job())
    with pytest.raises(PlanChanged, match="answers other rows than desk"):
        hold_run(plan, prepared, desk.workspace.quote(prepared))


def test_files_that_are_no_plans(tmp_path: Path) -> None:
    for text in ("[1]", "{", '{"name": "a job"}'):
        (tmp_path / "job.json").write_text(text)
        assert read_plan(tmp_path / "job.json") is None
    (tmp_path / "job.json").write_text('{"bulkrate_plan": 99}')
    with pytest.raises(BulkrateError, match="version 99"):
        read_plan(tmp_path / "job.json")
    (tmp_path / "job.json").write_text('{"bulkrate_plan": 1, "models": []}')
    with pytest.raises(BulkrateError, match="missing or broken"):
        read_plan(tmp_path / "job.json")
