"""What every ledger promises, whatever database holds it. A new one joins as a parameter of `ledger_url`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bulkrate import signals
from bulkrate.core.run_states import RunEvent, RunState
from bulkrate.core.shard_states import ShardEvent
from bulkrate.core.table import IllegalTransition
from bulkrate.core.vector import Vector
from bulkrate.errors import LedgerError, RunBusy
from bulkrate.ledger import (
    Ledger,
)
from conformance.ledger_records import LATER, NOW, RUN, assembled

pytest_plugins = ["conformance.postgres"]


class TestRuns:
    def test_a_run_comes_back_as_it_was_written(self, ledger: Ledger) -> None:
        full = replace(
            RUN,
            nonce="n",
            rows=0,
            quote_json="{}",
            sink="out.jsonl",
            queued_tokens=2**40,
            error="e",
            epoch=3,
            approved_at=LATER,
            finished_at=LATER,
        )
        with ledger.transaction("add") as transaction:
            transaction.add_run(full)
        assert ledger.run(RUN.id) == full

    def test_an_unknown_run_is_none(self, ledger: Ledger) -> None:
        assert ledger.run("nobody") is None
        assert ledger.runs() == ledger.find_runs("nobody") == ledger.find_runs("") == []

    def test_times_keep_their_instant_and_come_back_in_utc(self, ledger: Ledger) -> None:
        from zoneinfo import ZoneInfo

        with ledger.transaction("add") as transaction:
            transaction.add_run(replace(RUN, created_at=NOW.astimezone(ZoneInfo("Asia/Kathmandu"))))
        run = ledger.run(RUN.id)
        assert run is not None
        assert run.created_at == NOW
        assert run.created_at.utcoffset() == timedelta(0)

    def test_runs_are_listed_newest_first_and_filtered(self, ledger: Ledger) -> None:
        with ledger.transaction("add") as transaction:
            for number, name in enumerate(["one", "two", "one"]):
                at = NOW + timedelta(seconds=number)
                transaction.add_run(
                    replace(RUN, id=f"run{number}", job_name=name, job_key=f"k{number % 2}", created_at=at)
                )
            transaction.move_run("run0", RunEvent.ASSEMBLED, NOW)
            transaction.move_run("run0", RunEvent.CANCEL, NOW)
            transaction.move_run("run0", RunEvent.SETTLED, NOW)
            transaction.move_run("run0", RunEvent.DELIVERED, NOW)
        ids = [run.id for run in ledger.runs()]
        assert ids == ["run2", "run1", "run0"]
        assert [run.id for run in ledger.runs(job_name="one")] == ["run2", "run0"]
        assert [run.id for run in ledger.runs(job_key="k0", limit=1)] == ["run2"]
        assert [run.id for run in ledger.runs(unfinished=True)] == ["run2", "run1"]

    def test_a_run_is_found_by_name_by_prefix_and_by_id(self, ledger: Ledger) -> None:
        with ledger.transaction("add") as transaction:
            transaction.add_run(replace(RUN, id="abc1"))
            transaction.add_run(replace(RUN, id="abc12", created_at=LATER))
        assert [run.id for run in ledger.find_runs("tickets")] == ["abc12", "abc1"]
        assert [run.id for run in ledger.find_runs("ab")] == ["abc12", "abc1"]
        assert [run.id for run in ledger.find_runs("abc1")] == ["abc1"]
        assert ledger.find_runs("%") == ledger.find_runs("a_c") == []

    def test_an_event_moves_the_run_and_is_recorded(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("approve") as transaction:
            state = transaction.move_run(RUN.id, RunEvent.APPROVED, LATER, approved_at=LATER)
        run = ledger.run(RUN.id)
        assert run is not None
        assert state is run.state is RunState.ACTIVE
        assert (run.approved_at, run.updated_at, run.rows) == (LATER, LATER, 6)
        assert [(event.kind, event.at, event.shard) for event in ledger.events(RUN.id)] == [
            ("assembled", NOW, None),
            ("approved", LATER, None),
        ]

    def test_an_event_the_state_does_not_know_changes_nothing(self, ledger: Ledger) -> None:
        assembled(ledger)
        with pytest.raises(IllegalTransition), ledger.transaction("deliver") as transaction:
            transaction.set_run(RUN.id, error="something")
            transaction.move_run(RUN.id, RunEvent.DELIVERED, LATER)
        run = ledger.run(RUN.id)
        assert run is not None
        assert (run.state, run.error, len(ledger.events(RUN.id))) == (RunState.READY, None, 1)

    def test_the_state_and_the_epoch_cannot_be_set(self, ledger: Ledger) -> None:
        assembled(ledger)
        for column in ("state", "epoch", "id"):
            with pytest.raises(ValueError, match="cannot be set"), ledger.transaction("set") as transaction:
                transaction.set_run(RUN.id, **{column: "active"})

    def test_what_is_not_there_cannot_be_changed(self, ledger: Ledger) -> None:
        changes = [
            lambda t: t.set_run("x", error="e"),
            lambda t: t.move_run("x", RunEvent.ASSEMBLED, NOW),
            lambda t: t.take_run("x", NOW),
            lambda t: t.fence("x", 1),
            lambda t: t.set_shard("x", 0, note="n"),
            lambda t: t.move_shard("x", 0, ShardEvent.WITHDRAW, NOW),
            lambda t: t.save_vector("x", 0, Vector(1)),
            lambda t: t.close_intent(99, "created", NOW),
        ]
        for change in changes:
            with pytest.raises(LedgerError), ledger.transaction("change") as transaction:
                change(transaction)

    def test_the_same_run_cannot_be_added_twice(self, ledger: Ledger) -> None:
        assembled(ledger)
        with pytest.raises(LedgerError) as caught, ledger.transaction("again") as transaction:
            transaction.add_run(RUN)
        assert caught.value.code == "ledger_conflict"
        assert "tickets" not in str(caught.value)


class TestFencing:
    def test_each_taking_raises_the_epoch(self, ledger: Ledger) -> None:
        assembled(ledger)
        epochs = []
        for _ in range(3):
            with ledger.transaction("take") as transaction:
                epochs.append(transaction.take_run(RUN.id, LATER))
        assert epochs == [1, 2, 3]
        run = ledger.run(RUN.id)
        assert run is not None
        assert (run.epoch, run.updated_at) == (3, LATER)

    def test_a_process_that_lost_the_run_cannot_write(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("take") as transaction:
            old = transaction.take_run(RUN.id, NOW)
            transaction.fence(RUN.id, old)
        with ledger.transaction("take") as transaction:
            transaction.take_run(RUN.id, LATER)
        with pytest.raises(RunBusy), ledger.transaction("late") as transaction:
            transaction.add_event(RUN.id, "late", LATER)
            transaction.fence(RUN.id, old)
        assert "late" not in [event.kind for event in ledger.events(RUN.id)]


class TestTransactions:
    def test_an_exception_leaves_nothing(self, ledger: Ledger) -> None:
        with pytest.raises(ZeroDivisionError), ledger.transaction("assemble") as transaction:
            transaction.add_run(RUN)
            _ = 1 / 0
        assert ledger.runs() == []

    def test_the_commit_is_announced_before_and_after(self, ledger: Ledger) -> None:
        heard: list[tuple[str, bool]] = []
        signals.listen(lambda name: heard.append((name, ledger.run(RUN.id) is not None)))
        try:
            with ledger.transaction("assemble") as transaction:
                transaction.add_run(RUN)
        finally:
            signals.listen(None)
        assert heard == [("ledger.assemble.before", False), ("ledger.assemble.after", True)]

    def test_a_failed_transaction_announces_nothing(self, ledger: Ledger) -> None:
        heard: list[str] = []
        signals.listen(heard.append)
        try:
            with pytest.raises(KeyError), ledger.transaction("assemble"):
                raise KeyError
        finally:
            signals.listen(None)
        assert heard == []

    def test_a_time_without_a_zone_is_refused(self, ledger: Ledger) -> None:
        with pytest.raises(Exception, match="zone"), ledger.transaction("add") as transaction:
            transaction.add_run(replace(RUN, created_at=datetime(2026, 1, 1)))
        assert ledger.runs() == []
