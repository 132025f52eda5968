"""What every ledger promises, whatever database holds it. A new one joins as a parameter of `ledger_url`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkrate import signals
from bulkrate.core.outcome import ErrorClass
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.retry import SendReason
from bulkrate.core.run_states import RunEvent, RunState
from bulkrate.core.shard_states import ShardEvent, ShardState
from bulkrate.core.table import IllegalTransition
from bulkrate.core.usage import Usage
from bulkrate.core.vector import Balance, RowState, Vector
from bulkrate.errors import LedgerError, RunBusy
from bulkrate.ledger import (
    BatchRecord,
    Ledger,
    PartitionRecord,
    RunRecord,
    ShardRecord,
    UsageRecord,
)

pytest_plugins = ["conformance.postgres"]

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)

RUN = RunRecord(
    id="a1b2c3d4e5",
    job_name="tickets",
    job_key="00ff",
    job_path="tickets.bulk.yaml",
    job_json='{"name":"tickets"}',
    snapshot="5a",
    provider="openai",
    model="gpt-4.1-nano",
    created_at=NOW,
    updated_at=NOW,
)
SHARD = ShardRecord(run=RUN.id, number=0, requests=3, size_bytes=900, tokens=120, digest="d0")
BATCH = BatchRecord(
    run=RUN.id, shard=0, provider="openai", id="batch_1", word="validating", file_id="file-1", seen_at=NOW
)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger.open(ledger_url) as ledger:
        yield ledger


def assembled(ledger: Ledger, *, partitions: int = 2, rows: int = 3) -> None:
    """A run of `partitions` x `rows` rows with one shard, ready to be approved."""
    with ledger.transaction("assemble") as transaction:
        transaction.add_run(RUN)
        for number in range(partitions):
            span = PartitionRecord(run=RUN.id, number=number, first_row=number * rows, rows=rows)
            transaction.add_partition(span, Vector(rows))
        transaction.add_shards([SHARD])
        transaction.move_run(RUN.id, RunEvent.ASSEMBLED, NOW, rows=partitions * rows)


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


class TestPartitions:
    def test_the_balance_is_kept_beside_the_vector(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("collect") as transaction:
            vector = transaction.vector(RUN.id, 1)
            vector.succeed(0, 0)
            vector.miss(1, 0, ErrorClass.REFUSED, final=True)
            transaction.save_vector(RUN.id, 1, vector)
        assert [partition.balance for partition in ledger.partitions(RUN.id)] == [
            Balance(pending=3),
            Balance(succeeded=1, failed=1, pending=1),
        ]
        assert ledger.balance(RUN.id) == Balance(succeeded=1, failed=1, pending=4)
        assert ledger.vector(RUN.id, 1).to_bytes() == vector.to_bytes()

    def test_a_run_without_partitions_has_an_empty_balance(self, ledger: Ledger) -> None:
        assert ledger.balance("nobody") == Balance()
        assert ledger.partitions("nobody") == list(ledger.vectors("nobody")) == []
        with pytest.raises(LedgerError):
            ledger.vector("nobody", 0)

    def test_vectors_are_streamed_in_order_and_may_be_saved_meanwhile(self, ledger: Ledger) -> None:
        assembled(ledger, partitions=4)
        seen = []
        for partition, vector in ledger.vectors(RUN.id):
            seen.append((partition.number, partition.first_row, len(vector)))
            vector.reject(0)
            with ledger.transaction("reject") as transaction:
                transaction.save_vector(RUN.id, partition.number, vector)
        assert seen == [(0, 0, 3), (1, 3, 3), (2, 6, 3), (3, 9, 3)]
        assert ledger.balance(RUN.id) == Balance(rejected=4, pending=8)

    def test_a_vector_of_another_length_does_not_balance(self, ledger: Ledger) -> None:
        assembled(ledger)
        for vector in (Vector(2), Vector(4)):
            unbalanced = pytest.raises(LedgerError, match=r"does not balance.*partition 1")
            with unbalanced, ledger.transaction("collect") as transaction:
                transaction.save_vector(RUN.id, 1, vector)

    def test_a_row_in_no_known_state_does_not_balance(self, ledger: Ledger) -> None:
        assembled(ledger)
        vector = Vector(3)
        vector.states[1] = 77
        with pytest.raises(LedgerError, match="does not balance"), ledger.transaction("x") as transaction:
            transaction.save_vector(RUN.id, 0, vector)
        assert ledger.balance(RUN.id) == Balance(pending=6)

    def test_partitions_that_do_not_add_up_to_the_run_are_refused_at_the_commit(self, ledger: Ledger) -> None:
        unbalanced = pytest.raises(LedgerError, match="does not balance")
        with unbalanced as caught, ledger.transaction("assemble") as transaction:
            transaction.add_run(RUN)
            transaction.add_partition(PartitionRecord(run=RUN.id, number=0, first_row=0, rows=3), Vector(3))
            transaction.move_run(RUN.id, RunEvent.ASSEMBLED, NOW, rows=4)
        assert caught.value.code == "ledger_unbalanced"
        assert ledger.run(RUN.id) is None

    def test_a_run_may_be_assembled_again_until_something_was_sent(self, ledger: Ledger) -> None:
        with ledger.transaction("assemble") as transaction:
            transaction.add_run(RUN)
            transaction.add_partition(PartitionRecord(run=RUN.id, number=0, first_row=0, rows=3), Vector(3))
            transaction.add_shards([SHARD])
        with ledger.transaction("clear") as transaction:
            transaction.clear_run(RUN.id)
        assert ledger.partitions(RUN.id) == ledger.shards(RUN.id) == []
        with ledger.transaction("send") as transaction:
            transaction.add_shards([SHARD])
            transaction.open_intent(RUN.id, 0, "create", 1, "file-1", NOW)
        with pytest.raises(LedgerError, match="has sent"), ledger.transaction("clear") as transaction:
            transaction.clear_run(RUN.id)
        assert len(ledger.shards(RUN.id)) == 1

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        rows=st.lists(
            st.tuples(
                st.sampled_from(RowState),
                st.integers(0, 255),
                st.integers(0, 255),
                st.integers(0, 2**32 - 1),
            ),
            max_size=300,
        )
    )
    def test_any_vector_comes_back_byte_for_byte(self, ledger: Ledger, rows: list[tuple[int, ...]]) -> None:
        vector = Vector(len(rows))
        for row, (state, error, attempts, shard) in enumerate(rows):
            vector.states[row], vector.errors[row] = state, error
            vector.attempts[row], vector.shards[row] = attempts, shard
        with ledger.transaction("round") as transaction:
            transaction.delete_run(RUN.id)
            transaction.add_run(RUN)
            span = PartitionRecord(run=RUN.id, number=0, first_row=0, rows=len(rows))
            transaction.add_partition(span, Vector(len(rows)))
            transaction.save_vector(RUN.id, 0, vector)
        assert ledger.vector(RUN.id, 0).to_bytes() == vector.to_bytes()
        assert ledger.balance(RUN.id) == vector.balance()


class TestShards:
    def test_a_shard_comes_back_as_it_was_written(self, ledger: Ledger) -> None:
        full = ShardRecord(
            run=RUN.id,
            number=1,
            state=ShardState.COLLECTED,
            reason=SendReason.LARGER_CAP,
            requests=1,
            size_bytes=2,
            tokens=3,
            digest="d",
            max_output_tokens=4,
            file_id="f",
            batch_id="b",
            failures=5,
            refusals=6,
            not_before_at=NOW,
            create_began_at=NOW,
            looked_at=NOW,
            submitted_at=NOW,
            ended_at=NOW,
            collected_at=LATER,
            end=BatchEnd.EXPIRED,
            note="n",
        )
        with ledger.transaction("add") as transaction:
            transaction.add_run(RUN)
            transaction.add_shards([full, SHARD])
            transaction.add_shards([])
            assert transaction.shard(RUN.id, 1) == full
        assert ledger.shards(RUN.id) == [SHARD, full]
        assert ledger.shard(RUN.id, 1) == full
        with pytest.raises(LedgerError):
            ledger.shard(RUN.id, 2)

    def test_an_event_moves_a_shard_with_its_columns_and_detail(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("upload") as transaction:
            transaction.move_shard(RUN.id, 0, ShardEvent.UPLOAD_INTENDED, NOW)
            state = transaction.move_shard(
                RUN.id, 0, ShardEvent.UPLOAD_ANSWERED, LATER, {"bytes": 900}, file_id="file-1", failures=0
            )
        assert state is ShardState.UPLOADED
        assert ledger.shard(RUN.id, 0) == replace(SHARD, state=ShardState.UPLOADED, file_id="file-1")
        last = ledger.events(RUN.id)[-1]
        assert (last.shard, last.kind, last.detail_json) == (0, "upload_answered", '{"bytes":900}')

    def test_an_illegal_move_rolls_everything_back(self, ledger: Ledger) -> None:
        assembled(ledger)
        before = ledger.events(RUN.id)
        with pytest.raises(IllegalTransition), ledger.transaction("create") as transaction:
            transaction.move_shard(RUN.id, 0, ShardEvent.UPLOAD_INTENDED, NOW)
            transaction.move_shard(RUN.id, 0, ShardEvent.CREATE_INTENDED, NOW)
        assert ledger.shards(RUN.id) == [SHARD]
        assert ledger.events(RUN.id) == before

    def test_columns_are_set_without_an_event_but_the_state_is_not(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("pace") as transaction:
            transaction.set_shard(RUN.id, 0, failures=2, not_before_at=LATER)
        assert ledger.shard(RUN.id, 0) == replace(SHARD, failures=2, not_before_at=LATER)
        assert len(ledger.events(RUN.id)) == 1
        with pytest.raises(ValueError, match="cannot be set"), ledger.transaction("set") as transaction:
            transaction.set_shard(RUN.id, 0, state=ShardState.COLLECTED)


class TestBatchesIntentsUsage:
    def test_a_batch_is_recorded_once_and_updated(self, ledger: Ledger) -> None:
        assembled(ledger)
        seen = replace(
            BATCH,
            word="completed",
            seen_at=LATER,
            created_at=NOW,
            expires_at=LATER,
            total=3,
            completed=2,
            failed=1,
            results_json='[["output","file-2"]]',
            usage=Usage(10, 5, 4, 3, 2),
            problems_json="[]",
        )
        for batch in (BATCH, seen, seen):
            with ledger.transaction("poll") as transaction:
                transaction.put_batch(batch)
            assert ledger.batches(RUN.id) == [batch]

    def test_a_batch_belongs_to_one_shard(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("poll") as transaction:
            transaction.put_batch(BATCH)
        with pytest.raises(LedgerError, match="belongs to shard 0"), ledger.transaction("x") as transaction:
            transaction.put_batch(replace(BATCH, shard=1))

    def test_an_intent_is_open_until_its_end_is_known(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("intend") as transaction:
            upload = transaction.open_intent(RUN.id, 0, "upload", 1, None, NOW)
            create = transaction.open_intent(RUN.id, 0, "create", 1, "file-1", NOW)
        with ledger.transaction("answer") as transaction:
            transaction.close_intent(upload, "uploaded", LATER)
        first, second = ledger.intents(RUN.id)
        assert (first.kind, first.outcome, first.closed_at) == ("upload", "uploaded", LATER)
        assert (second.id, second.kind, second.file_id, second.epoch) == (create, "create", "file-1", 1)
        assert ledger.intents(RUN.id, open_only=True) == [second]

    def test_usage_of_a_shard_replaces_what_it_had(self, ledger: Ledger) -> None:
        assembled(ledger)
        good = UsageRecord(run=RUN.id, shard=0, model="m", requests=2, usage=Usage(10, 5, 1))
        bad = replace(good, error="refused", requests=1, usage=Usage(3))
        other = replace(good, shard=1, reason=SendReason.RESEND)
        with ledger.transaction("collect") as transaction:
            transaction.put_usage([good, bad])
            transaction.put_usage([other])
            transaction.put_usage([])
        assert ledger.usage(RUN.id) == [good, bad, other]
        with ledger.transaction("recollect") as transaction:
            transaction.put_usage([replace(good, requests=3)])
        assert ledger.usage(RUN.id) == [replace(good, requests=3), other]

    def test_an_event_is_no_place_for_content(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("event") as transaction:
            transaction.add_event(RUN.id, "note", NOW, detail={"message": "x" * 10_000, "count": 3})
        detail = ledger.events(RUN.id)[-1].detail_json
        assert detail is not None
        assert len(detail) < 400

    def test_a_deleted_run_leaves_nothing_and_others_stay(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("fill") as transaction:
            transaction.put_batch(BATCH)
            transaction.open_intent(RUN.id, 0, "create", 1, None, NOW)
            transaction.put_usage([UsageRecord(run=RUN.id, shard=0, model="m", requests=1)])
            transaction.add_run(replace(RUN, id="other"))
            transaction.add_event("other", "note", NOW)
        with ledger.transaction("clean") as transaction:
            transaction.delete_run(RUN.id)
            transaction.delete_run("nobody")
        assert [run.id for run in ledger.runs()] == ["other"]
        kept = (ledger.partitions, ledger.shards, ledger.batches, ledger.intents, ledger.events, ledger.usage)
        assert [part(RUN.id) for part in kept] == [[]] * len(kept)
        assert len(ledger.events("other")) == 1


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
