"""Shards, batches, intents and usage: what a run has sent, and what came of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.retry import SendReason
from bulkrate.core.shard_states import ShardEvent, ShardState
from bulkrate.core.table import IllegalTransition
from bulkrate.core.usage import Usage
from bulkrate.errors import LedgerError
from bulkrate.ledger import (
    Ledger,
    ShardRecord,
    UsageRecord,
)
from conformance.ledger_records import BATCH, LATER, NOW, RUN, SHARD, assembled

pytest_plugins = ["conformance.postgres"]


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
