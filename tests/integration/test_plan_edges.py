"""Plans over tables that are partly answered, by several pilots, and plan files that were tampered with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from planning_desk import PlanningDesk, answer

from bulkrate.cli.outlook import outlook
from bulkrate.cli.showing_plans import write
from bulkrate.errors import BulkrateError
from bulkrate.pipeline.plan import Planning
from bulkrate.pipeline.planned import note_plan, read_plan
from bulkrate.pipeline.reforecast import reforecast_cost

OTHERS = ("openai/gpt-4.1-nano", "anthropic/claude-haiku-4-5")


@pytest.fixture
def desk(tmp_path: Path, misbehaving_provider: Any) -> PlanningDesk:
    return PlanningDesk(tmp_path, misbehaving_provider("", answer=answer))


def test_another_model_is_asked_what_the_own_one_has_answered(desk: PlanningDesk) -> None:
    desk.tickets(40)
    desk.finish(desk.job())
    desk.tickets(100)
    plan = desk.plan(None, *OTHERS)
    assert (plan.rows["reused"], plan.own.rows) == (40, 60)
    nano, claude = plan.models[1:]
    fresh = PlanningDesk.plan(desk, desk.job(name="fresh"), *OTHERS)
    assert (nano.rows, claude.rows) == (100, 100)
    assert [model.input_tokens for model in (nano, claude)] == [
        model.input_tokens for model in fresh.models[1:]
    ]
    assert any("asked 40 rows more" in note for note in nano.notes)
    own, other = plan.own.output, nano.output
    assert own.expected is not None and other.expected is not None
    assert (own.basis, other.basis) == ("history", "other_model")
    assert other.expected == pytest.approx(own.expected * 100 / 60, rel=0.05)


def test_a_model_that_writes_nothing_is_told(desk: PlanningDesk) -> None:
    desk.tickets(2)
    embedder = desk.plan(None, "openai/text-embedding-3-small").models[1]
    assert any("no price for output tokens" in note for note in embedder.notes)


def test_equal_rows_are_asked_of_another_model_once(desk: PlanningDesk) -> None:
    def write_rows(count: int) -> None:
        desk.write([(f"T-{n}", f"ticket {n % 25}") for n in range(count)])

    write_rows(100)
    desk.finish(desk.job(reuse="exact"))
    assert desk.accepted() == 25
    write_rows(110)
    plan = desk.plan(desk.job(reuse="exact"), *OTHERS)
    assert (plan.own.rows, plan.models[1].rows) == (0, 25)
    assert plan.models[1].output.basis == "unknown", "25 answers are too few to tell"


def test_a_table_that_is_all_answered_tells_of_another_model(desk: PlanningDesk) -> None:
    desk.tickets(60)
    desk.finish(desk.job())
    plan = desk.plan(None, *OTHERS)
    assert (plan.own.rows, plan.own.output.expected) == (0, 0)
    nano = plan.models[1]
    assert (nano.rows, nano.output.basis) == (60, "other_model")
    assert nano.output.expected == desk.provider.meter.billed_output_tokens


@pytest.mark.parametrize("sizes", [(5, 40), (40, 5)])
def test_of_two_pilots_the_larger_tells_and_both_are_paid_for_once(
    desk: PlanningDesk, sizes: tuple[int, int]
) -> None:
    desk.tickets(300)
    for size in sizes:
        desk.pilot(size)
    plan = desk.plan()
    paid = desk.accepted()
    assert 40 <= paid <= 45
    assert plan.own.output.answers == 40
    assert (plan.rows["pilot"], plan.own.rows) == (paid, 300 - paid)
    run = desk.workspace.prepare(desk.job())
    quote = desk.workspace.quote(run)
    assert quote is not None
    assert (quote.rows, quote.input_tokens) == (plan.own.rows, plan.own.input_tokens)


def test_answers_of_a_cancelled_pilot_are_not_paid_for_again(
    tmp_path: Path, misbehaving_provider: Any
) -> None:
    desk = PlanningDesk(tmp_path, misbehaving_provider("stuck=1,done=12", answer=answer))
    desk.tickets(200)
    planning = Planning(desk.workspace, desk.job())
    run = desk.workspace.approve(desk.workspace.prepare(planning.pilot_job(40)), decide=lambda quote: True)
    batches: list[Any] = []
    while not any(batch.completed for batch in batches):
        anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01, timeout_s=0.05))
        batches = desk.workspace.ledger.batches(run.id)
    desk.workspace.cancel(run.id)
    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01))
    plan = desk.plan()
    assert (plan.own.output.basis, plan.rows["pilot"], plan.own.rows) == ("unknown", 12, 188)
    quote = desk.workspace.quote(desk.workspace.prepare(desk.job()))
    assert quote is not None
    assert (quote.rows, quote.input_tokens) == (plan.own.rows, plan.own.input_tokens)


def test_a_run_that_left_the_batch_lane_is_forecast_at_the_other_lanes_price(desk: PlanningDesk) -> None:
    desk.tickets(300)
    job = desk.job(lane={"deadline": "20h", "rescue": "live"})
    desk.pilot(60, job)
    plan = desk.plan(job)
    path = desk.folder / "desk.plan.json"
    write(plan, path)
    held, run = read_plan(path), desk.workspace.prepare(job)
    assert held is not None
    run = desk.workspace.approve(run, decide=lambda quote: True)
    note_plan(desk.workspace, held, run)
    begun = reforecast_cost(desk.workspace, run)
    assert "warning" not in outlook(desk.workspace, run.id)
    with desk.workspace.ledger.transaction("rescue") as tx:
        tx.add_event(run.id, "rescue", desk.workspace.clock.now())
    rescued = reforecast_cost(desk.workspace, run)
    assert begun is not None and rescued is not None
    assert begun.expected is not None
    assert rescued.expected == 2 * begun.expected
    assert "warning" in outlook(desk.workspace, run.id)


def _drop(name: str) -> Callable[[Any], None]:
    return lambda plan: plan["models"][0]["lanes"]["batch"].pop(name)


def _cost(value: Any) -> Callable[[Any], None]:
    return lambda plan: plan["models"][0]["lanes"]["batch"].update(high=value)


def _prices(value: Any) -> Callable[[Any], None]:
    return lambda plan: plan["digests"]["prices"].update(batch=value)


@pytest.mark.parametrize(
    "tamper",
    [
        _drop("low"),
        _cost("about five"),
        _cost(5.2),
        _cost("NaN"),
        _prices("cheap"),
        _prices({"input_mtok": "cheap"}),
        lambda plan: plan["digests"].update(prices=None),
        lambda plan: plan["digests"]["prices"].pop("live"),
    ],
)
def test_a_plan_that_was_tampered_with_is_an_error_before_anything_is_asked(
    desk: PlanningDesk, tamper: Callable[[Any], None]
) -> None:
    desk.tickets(1)
    path = desk.folder / "desk.plan.json"
    write(desk.plan(), path)
    document = json.loads(path.read_text())
    tamper(document)
    path.write_text(json.dumps(document))
    with pytest.raises(BulkrateError, match="a part missing or broken") as caught:
        read_plan(path)
    assert caught.value.code == "plan_broken"
