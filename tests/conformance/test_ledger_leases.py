"""Who drives a run, and until when: one at a time, whatever their clocks say."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

import pytest

from bulkrate.errors import RunBusy
from bulkrate.ledger import Ledger
from bulkrate.ledger.home import UNLOCKED
from conformance.ledger_records import NOW, RUN

pytest_plugins = ["conformance.postgres"]


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger.open(ledger_url) as ledger:
        with ledger.transaction("add") as transaction:
            transaction.add_run(RUN)
        yield ledger


def take(ledger: Ledger, holder: str, when: datetime, *, skew_s: float = 0.0, dead: bool = False) -> int:
    with ledger.transaction("take") as transaction:
        return transaction.take_run(
            RUN.id, when, holder=holder, lease_s=60, clock_skew_s=skew_s, holder_is_dead=dead
        )


def test_a_lease_keeps_others_off_until_it_ends(ledger: Ledger) -> None:
    assert take(ledger, "here", NOW) == 1
    with pytest.raises(RunBusy, match="on here") as caught:
        take(ledger, "here", at(59.9))
    assert "12:01:00" in (caught.value.hint or "")
    assert take(ledger, "here", at(60)) == 2
    run = ledger.run(RUN.id)
    assert run is not None
    assert (run.holder, run.lease_until_at) == ("here", at(120))


def test_another_machine_waits_for_the_difference_of_clocks_too(ledger: Ledger) -> None:
    take(ledger, "here", NOW)
    with pytest.raises(RunBusy) as caught:
        take(ledger, "there", at(359), skew_s=300)
    assert "12:06:00" in (caught.value.hint or "")
    assert take(ledger, "there", at(360), skew_s=300) == 2


@pytest.mark.parametrize("ahead_s", [-300, 0, 300])
def test_no_clock_within_the_skew_takes_a_lease_before_its_time(ledger: Ledger, ahead_s: float) -> None:
    take(ledger, "here", NOW)
    true_time = next(
        second for second in range(0, 1_000, 10) if taken(ledger, "there", at(second + ahead_s), skew_s=300)
    )
    assert 60 <= true_time == 360 - ahead_s


def taken(ledger: Ledger, holder: str, when: datetime, *, skew_s: float) -> bool:
    try:
        take(ledger, holder, when, skew_s=skew_s)
    except RunBusy:
        return False
    return True


def test_a_run_given_free_is_free_for_every_clock(ledger: Ledger) -> None:
    epoch = take(ledger, "here", NOW)
    with ledger.transaction("release") as transaction:
        transaction.renew_run(RUN.id, epoch, NOW, lease_s=0)
    assert take(ledger, "there", at(-299), skew_s=300) == 2


def test_a_renewed_lease_lasts_from_then(ledger: Ledger) -> None:
    epoch = take(ledger, "here", NOW)
    with ledger.transaction("renew") as transaction:
        transaction.renew_run(RUN.id, epoch, at(50), lease_s=60)
    with pytest.raises(RunBusy):
        take(ledger, "here", at(109))
    assert take(ledger, "here", at(110)) == 2


def test_only_its_own_machine_is_believed_that_a_holder_is_dead(ledger: Ledger) -> None:
    take(ledger, "here", NOW)
    with pytest.raises(RunBusy):
        take(ledger, "there", at(1), dead=True)
    assert take(ledger, "here", at(1), dead=True) == 2


def test_who_has_the_lock_believes_nothing_of_one_that_drives_without_it(ledger: Ledger) -> None:
    take(ledger, "here", NOW)
    take(ledger, f"here{UNLOCKED}", at(60), skew_s=300)  # the same clock: no skew
    with pytest.raises(RunBusy):
        take(ledger, "here", at(61), skew_s=300, dead=True)
    assert take(ledger, "here", at(120), skew_s=300, dead=True) == 3


def test_who_lost_the_run_can_neither_renew_nor_release_it(ledger: Ledger) -> None:
    old = take(ledger, "here", NOW)
    take(ledger, "there", at(60))
    for lease_s in (60.0, 0.0):
        with pytest.raises(RunBusy, match="has taken"), ledger.transaction("renew") as transaction:
            transaction.renew_run(RUN.id, old, at(61), lease_s=lease_s)
    run = ledger.run(RUN.id)
    assert run is not None
    assert (run.holder, run.lease_until_at) == ("there", at(120))


def test_a_taker_that_comes_while_another_takes_sees_what_that_one_did(
    ledger: Ledger, ledger_url: str
) -> None:
    with Ledger.open(ledger_url) as other, ThreadPoolExecutor(1) as pool:
        with ledger.transaction("take") as transaction:
            epoch = transaction.take_run(RUN.id, NOW, holder="here", lease_s=60)
            second = pool.submit(take, other, "there", NOW)
            if "postgresql" in ledger_url:
                waits_for_a_lock(ledger_url)
            # SQLite does not tell who waits: there the second may also come after the commit.
        assert epoch == 1
        assert isinstance(second.exception(timeout=60), RunBusy)
    run = ledger.run(RUN.id)
    assert run is not None
    assert (run.epoch, run.holder) == (1, "here")


def test_a_writer_that_comes_while_the_run_is_taken_is_fenced_off(ledger: Ledger, ledger_url: str) -> None:
    old = take(ledger, "here", NOW)

    def write(other: Ledger) -> None:
        with other.transaction("late") as transaction:
            transaction.fence(RUN.id, old)
            transaction.add_event(RUN.id, "late", NOW)

    with Ledger.open(ledger_url) as other, ThreadPoolExecutor(1) as pool:
        with ledger.transaction("take") as transaction:
            transaction.take_run(RUN.id, at(60), holder="there", lease_s=60)
            late = pool.submit(write, other)
            if "postgresql" in ledger_url:
                waits_for_a_lock(ledger_url)
        assert isinstance(late.exception(timeout=60), RunBusy)
    assert ledger.events(RUN.id) == []


def waits_for_a_lock(url: str) -> None:
    """Return once some connection waits for a lock on a row of this test's schema."""
    import psycopg

    query = b"""
        SELECT count(*) FROM pg_stat_activity AS waiting
        WHERE waiting.wait_event_type = 'Lock' AND EXISTS (
            SELECT FROM pg_locks JOIN pg_class ON pg_class.oid = pg_locks.relation
            WHERE pg_locks.pid = waiting.pid AND relnamespace = current_schema()::regnamespace)
    """
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            row = connection.execute(query).fetchone()
            if row is not None and row[0]:
                return
