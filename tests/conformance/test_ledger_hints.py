"""Hints in the ledger: once per message, whoever hears it, and never about more than our own batches."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bulkrate.ledger import BatchRecord, HintRecord, Ledger
from bulkrate.ledger.writing import HINTS_KEPT_S
from conformance.ledger_records import NOW, RUN

pytest_plugins = ["conformance.postgres"]


def put_batch(ledger: Ledger, run: str, batch: str, *, provider: str = "openai") -> None:
    record = BatchRecord(run=run, shard=3, provider=provider, id=batch, word="in_progress", seen_at=NOW)
    with ledger.transaction("batch") as transaction:
        transaction.put_batch(record)


def hear(ledger: Ledger, message: str, batch: str, at: datetime = NOW) -> bool:
    with ledger.transaction("hint") as transaction:
        return transaction.add_hint("openai", message, batch, at)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger.open(ledger_url) as ledger:
        with ledger.transaction("add") as transaction:
            for run in ("a", "b"):
                transaction.add_run(replace(RUN, id=run))
        yield ledger


def test_a_message_counts_once_whatever_it_says_the_second_time(ledger: Ledger) -> None:
    put_batch(ledger, "a", "batch_1")
    assert hear(ledger, "wh_1", "batch_1")
    assert not hear(ledger, "wh_1", "batch_1")
    assert not hear(ledger, "wh_1", "batch_2", NOW + timedelta(seconds=9))
    hint = HintRecord(run="a", shard=3, provider="openai", batch_id="batch_1", id="wh_1", received_at=NOW)
    assert ledger.hints(["a", "b"]) == [hint]
    assert ledger.hints(["b"]) == ledger.hints([]) == []


def test_a_message_heard_by_several_at_once_is_new_to_one_of_them(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        heard = list(pool.map(lambda _: hear(ledger, "wh_1", "batch_1"), range(12)))
    assert sorted(heard) == [False] * 11 + [True]


def test_a_batch_that_is_recorded_later_has_its_hint(ledger: Ledger) -> None:
    assert hear(ledger, "wh_1", "batch_1")
    assert ledger.hints(["a"]) == []
    put_batch(ledger, "a", "batch_1")
    assert [hint.id for hint in ledger.hints(["a"])] == ["wh_1"]


def test_batches_of_another_provider_with_the_same_id_are_not_meant(ledger: Ledger) -> None:
    put_batch(ledger, "a", "1", provider="local")
    assert hear(ledger, "wh_1", "1")
    assert ledger.hints(["a"]) == []


def test_runs_that_share_an_id_of_a_batch_both_hear(ledger: Ledger) -> None:
    put_batch(ledger, "a", "1")
    put_batch(ledger, "b", "1")
    hear(ledger, "wh_1", "1")
    assert [hint.run for hint in ledger.hints(["a", "b"])] == ["a", "b"]


def test_old_hints_are_forgotten_when_a_new_one_comes(ledger: Ledger) -> None:
    put_batch(ledger, "a", "batch_1")
    hear(ledger, "wh_1", "batch_1")
    hear(ledger, "wh_2", "batch_1", NOW + timedelta(seconds=HINTS_KEPT_S))
    assert [hint.id for hint in ledger.hints(["a"])] == ["wh_1", "wh_2"]
    hear(ledger, "wh_3", "batch_1", NOW + timedelta(seconds=HINTS_KEPT_S + 1))
    assert [hint.id for hint in ledger.hints(["a"])] == ["wh_2", "wh_3"]


def test_a_run_with_hints_can_be_deleted(ledger: Ledger) -> None:
    put_batch(ledger, "a", "batch_1")
    hear(ledger, "wh_1", "batch_1")
    with ledger.transaction("delete") as transaction:
        transaction.delete_run("a")
    assert ledger.hints(["a"]) == []
    assert not hear(ledger, "wh_1", "batch_1")


def test_what_no_database_holds_is_replaced(ledger: Ledger) -> None:
    assert hear(ledger, "wh\x00", "batch\x00")
    assert not hear(ledger, "wh\x00", "batch\x00")
