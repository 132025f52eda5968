"""What another process does between two steps of this one."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from moments import at
from table_desk import ROWS, Desk

from bulkrate.core.run_states import RunEvent, RunState
from bulkrate.core.shard_states import ShardState
from bulkrate.errors import Refused
from bulkrate.pipeline.drive import drive
from bulkrate.pipeline.report import report
from bulkrate.pricing import Quote
from bulkrate.providers.provider import BatchStatus, Submission


@pytest.fixture
def desk(tmp_path: Path, misbehaving_provider: Any) -> Desk:
    return Desk(tmp_path, misbehaving_provider())


def test_a_run_that_another_process_has_assembled_and_sent_is_not_assembled_again(desk: Desk) -> None:
    desk.write(ROWS)
    with at("ledger.begin.after", desk.run):
        run = desk.workspace.prepare(desk.job())
    assert run.state is RunState.FINISHED
    assert list(desk.workspace.home.run_dir(run.id).glob("raw/*")), "paid answers are still here"
    assert desk.run()["rows"]["succeeded"] == desk.accepted() == 30


def test_a_quote_that_changes_before_the_yes_is_not_approved(desk: Desk) -> None:
    desk.write(ROWS)
    run = desk.workspace.prepare(desk.job())
    desk.workspace.prepare(desk.job(lane="live"))  # in another window
    with pytest.raises(Refused, match="quote has changed"):
        desk.workspace.approve(run, decide=lambda quote: True)
    assert desk.workspace.run(run.id).state is RunState.READY


@pytest.mark.parametrize("lane", ["live", {"rescue": "live", "deadline": "1h"}])
def test_a_lane_that_was_not_approved_is_not_taken(desk: Desk, lane: Any) -> None:
    desk.write(ROWS)
    run = desk.workspace.approve(desk.workspace.prepare(desk.job()), decide=lambda quote: True)
    before = desk.workspace.run(run.id).job_json
    with pytest.raises(Refused, match=r"was approved with lane\.use batch"):
        desk.workspace.prepare(desk.job(lane=lane))
    assert desk.workspace.run(run.id).job_json == before
    assert desk.run(desk.job(lane={"poll": 0.01}))["rows"]["succeeded"] == desk.accepted() == 30
    assert desk.workspace.prepare(desk.job(lane=lane)).state is RunState.FINISHED, "nothing is left to send"


def test_a_run_that_is_approved_after_it_was_listed_is_not_forgotten(desk: Desk) -> None:
    desk.write(ROWS)
    for name in ("one", "two"):
        desk.workspace.prepare(desk.job(name=name))
    later = desk.workspace.clock.now() + timedelta(days=1)
    first, second = desk.workspace.forgettable(later)

    def approve() -> None:
        desk.workspace.approve(desk.workspace.run(second), decide=lambda quote: True)

    with at("ledger.clean.after", approve):
        assert desk.workspace.forget(later) == [first]
    assert desk.workspace.run(second).state is RunState.ACTIVE


def cancelled(desk: Desk) -> dict[str, Any]:
    """A run whose batch never ends, cancelled after a minute."""
    desk.write(ROWS)
    run = desk.workspace.approve(desk.workspace.prepare(desk.job()), decide=lambda quote: True)
    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=10, timeout_s=60))
    desk.workspace.cancel(run.id)
    done = anyio.run(lambda: desk.workspace.advance(run.id, poll_s=10, timeout_s=3_600))
    return report(desk.workspace.ledger, done)


@pytest.mark.parametrize("fault", ["cancel_error=2,status=503", "cancel_429=2", "cancel_cut=1,when=before"])
def test_a_cancel_that_was_not_heard_is_said_again(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any, fault: str
) -> None:
    result = cancelled(Desk(tmp_path, misbehaving_provider(f"stuck=1,done=12 {fault}"), fake_clock))
    assert result["state"] == RunState.FINISHED
    assert result["rows"]["succeeded"] == 12


def test_a_run_that_is_reopened_while_it_is_delivered_again_goes_on(
    tmp_path: Path, misbehaving_provider: Any
) -> None:
    desk = Desk(tmp_path, misbehaving_provider("bad_rows=3"))
    desk.write(ROWS)
    run = desk.run()["run"]
    other = Desk(tmp_path, desk.provider).workspace
    with at("deliver.after", lambda: other.retry(run)):
        desk.workspace.deliver(run)
    assert desk.workspace.run(run).state == RunState.ACTIVE
    anyio.run(lambda: desk.workspace.advance(run, poll_s=0.01))
    assert [row["status"] for row in desk.answers()] == ["succeeded"] * 30
    assert desk.accepted() == 33


@pytest.mark.parametrize("word", ["completed", "expired"])
def test_a_cancel_that_comes_when_the_batch_has_ended_keeps_its_answers(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any, word: str
) -> None:
    provider = misbehaving_provider("" if word == "completed" else "expire_after=12")
    desk = Desk(tmp_path, provider, fake_clock)
    desk.write(ROWS)
    run = desk.workspace.approve(desk.workspace.prepare(desk.job()), decide=lambda quote: True)
    anyio.run(lambda: desk.workspace.advance(run.id, until_submitted=True))
    provider.advance(steps=10)
    desk.workspace.cancel(run.id)
    (done,) = anyio.run(desk.workspace.tick)
    assert done.state == RunState.FINISHED
    assert report(desk.workspace.ledger, done)["rows"]["succeeded"] == (30 if word == "completed" else 12)
    assert [batch["phase"] for batch in provider.snapshot()["batches"]] == [word]
    assert desk.accepted() == 30


def test_a_run_ends_when_it_is_cancelled_although_its_batch_is_nowhere(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    faults = "stuck=1 status_404=999 cancel_error=999,status=404"
    desk = Desk(tmp_path, misbehaving_provider(faults), fake_clock)
    result = cancelled(desk)
    assert result["state"] == RunState.FINISHED
    assert result["failures"] == {"cancelled": 30}
    kinds = [event.kind for event in desk.workspace.ledger.events(result["run"])]
    assert kinds.count("batch_not_found") == 1
    assert desk.accepted() == 30


def test_a_death_just_before_the_strays_are_ended(tmp_path: Path, misbehaving_provider: Any) -> None:
    class Death(BaseException):
        pass

    def die() -> None:
        raise Death

    provider = misbehaving_provider("duplicate_create=1", polls=3)
    desk = Desk(tmp_path, provider)
    desk.write(ROWS)
    with pytest.raises(Death), at("ledger.settled.after", die):
        desk.run()
    assert desk.run()["possibly_billed"] == 30
    assert provider.meter.rows_billed < 60


def test_a_settled_run_is_delivered_without_a_key(desk: Desk) -> None:
    desk.write(ROWS)
    run = desk.run()["run"]
    before = (desk.folder / "answers.jsonl").read_bytes()
    with desk.workspace.ledger.transaction("recollected") as tx:
        tx.move_run(run, RunEvent.RECOLLECTED, desk.workspace.clock.now())
    (desk.folder / "answers.jsonl").unlink()
    del desk.workspace.env["OPENAI_API_KEY"]
    desk.run()
    assert (desk.folder / "answers.jsonl").read_bytes() == before


class Defective:
    """A provider's package that stumbles over the answer to its first create."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._stumbles = connection, [KeyError("status")]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def create(self, submission: Submission) -> BatchStatus:
        status: BatchStatus = await self._connection.create(submission)
        if self._stumbles:
            raise self._stumbles.pop()
        return status


def test_a_defect_after_a_create_leaves_the_shard_in_doubt(desk: Desk) -> None:
    desk.write(ROWS)
    space = desk.workspace
    run = space.approve(space.prepare(desk.job()), decide=lambda quote: True)
    setup = space.setup(run)

    async def main() -> None:
        connection = await setup.provider.connect(setup.model, env=space.env, state_dir=space.home.root)
        context = space._context(run, setup, Defective(connection), 0.01)
        with pytest.raises(KeyError):
            await drive(context)
        assert space.ledger.shard(run.id, 0).state is ShardState.IN_DOUBT
        assert await drive(context)
        await connection.aclose()

    anyio.run(main)
    assert space.ledger.balance(run.id).succeeded == desk.accepted() == 30


def test_a_run_prepared_before_another_of_the_job_was_sent_is_made_anew(desk: Desk) -> None:
    desk.write(ROWS[:20])
    waiting = desk.workspace.prepare(desk.job())  # somebody is asked for a yes
    desk.write(ROWS)
    assert desk.run()["rows"]["succeeded"] == 30
    desk.write(ROWS[:20])
    with pytest.raises(Refused, match=r"begun after run .* was prepared") as refused:
        desk.workspace.approve(waiting, decide=lambda quote: True)
    assert refused.value.code == "begun_meanwhile"
    assert desk.run()["rows"]["succeeded"] == 20
    assert desk.accepted() == 30, "no row was sent twice"


def test_of_two_runs_with_rows_in_common_one_is_approved(desk: Desk) -> None:
    desk.write(ROWS[:20])
    first = desk.workspace.prepare(desk.job())
    desk.write(ROWS)
    second = desk.workspace.prepare(desk.job())
    assert first.id != second.id

    def yes(quote: Quote) -> bool:
        desk.workspace.approve(second, decide=lambda quote: True)  # in another window
        return True

    with pytest.raises(Refused, match="rows of both would be paid for twice"):
        desk.workspace.approve(first, decide=yes)
    assert [desk.workspace.run(run.id).state for run in (first, second)] == [RunState.READY, RunState.ACTIVE]


def test_a_fresh_run_is_meant_to_send_again(desk: Desk) -> None:
    desk.write(ROWS)
    runs = [desk.workspace.prepare(desk.job(), fresh=fresh) for fresh in (False, True)]
    approved = [desk.workspace.approve(run, decide=lambda quote: True) for run in runs]
    assert [run.state for run in approved] == [RunState.ACTIVE, RunState.ACTIVE]
