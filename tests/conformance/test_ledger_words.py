"""Words and their order are the same on every database, whatever its collation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bulkrate.core.usage import Usage
from bulkrate.ledger import BatchRecord, Ledger, ShardRecord, UsageRecord
from conformance import ledger_records
from conformance.ledger_records import NOW

pytest_plugins = ["conformance.postgres"]

RUN = replace(ledger_records.RUN, job_name="Tickets", job_json='{"prompt":"é 漢 \\u0000 😀"}')


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger.open(ledger_url) as ledger:
        with ledger.transaction("add") as transaction:
            transaction.add_run(RUN)
        yield ledger


def test_any_script_comes_back(ledger: Ledger) -> None:
    assert ledger.run(RUN.id) == RUN


def test_ids_are_found_in_either_case_and_names_as_they_are_written(ledger: Ledger) -> None:
    assert ledger.find_runs("A1B2") == ledger.find_runs("a1b2") == ledger.find_runs("A1B2C3D4E5") == [RUN]
    assert ledger.find_runs("Tickets") == [RUN]
    assert ledger.find_runs("tickets") == []
    assert ledger.find_runs("a1b2\udcff") == ledger.find_runs("\x00") == []


def test_equal_moments_are_ordered_by_bytes(ledger: Ledger) -> None:
    ids = ["b-1", "B_2", "a.3", "_4", "-5", "É6"]
    batches = [BatchRecord(run=RUN.id, shard=0, provider="p", id=name, word="w", seen_at=NOW) for name in ids]
    records = [UsageRecord(run=RUN.id, shard=0, model=name, requests=1, usage=Usage(1)) for name in ids]
    with ledger.transaction("fill") as transaction:
        for batch in batches:
            transaction.put_batch(batch)
        transaction.put_usage(records)
    assert [batch.id for batch in ledger.batches(RUN.id)] == sorted(ids)
    assert [record.model for record in ledger.usage(RUN.id)] == sorted(ids)


def test_what_no_database_holds_is_replaced_in_a_providers_words(ledger: Ledger) -> None:
    said, kept = "bad\x00key \ud83d.", "bad\ufffdkey ?."
    shard = ShardRecord(run=RUN.id, number=0, requests=1, size_bytes=1, tokens=1, digest="d", note=said)
    batch = BatchRecord(run=RUN.id, shard=0, provider="p", id="b", word=said, seen_at=NOW)
    with ledger.transaction("fill") as transaction:
        transaction.set_run(RUN.id, error=said)
        transaction.add_shards([shard])
        transaction.put_batch(batch)
        transaction.add_event(RUN.id, "note", NOW, detail={"message": said})
        transaction.put_usage([UsageRecord(run=RUN.id, shard=0, model=said, requests=1, usage=Usage(1))])
    assert ledger.run(RUN.id) == replace(RUN, error=kept)
    assert ledger.shards(RUN.id) == [replace(shard, note=kept)]
    assert [record.model for record in ledger.usage(RUN.id)] == [kept]
    assert ledger.batches(RUN.id) == [replace(batch, word=kept)]
    assert ledger.events(RUN.id)[-1].detail_json == f'{{"message":"{kept}"}}'
