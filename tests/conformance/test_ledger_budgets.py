"""Money in the ledger: reserved before it is spent, by one process at a time, and never leaked."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkrate.core.budget import Held, Scope
from bulkrate.core.shard_states import MAY_COST, SHARD_TABLE, ShardEvent, ShardState
from bulkrate.ledger import Ledger, RunRecord, ShardRecord

pytest_plugins = ["conformance.postgres"]

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOTHING = Held()


def run_record(run: str, job_name: str = "tickets") -> RunRecord:
    return RunRecord(
        id=run,
        job_name=job_name,
        job_key="00ff",
        job_json="{}",
        snapshot="5a",
        provider="openai",
        model="gpt-4.1-nano",
        created_at=NOW,
        updated_at=NOW,
    )


def shard_record(run: str, number: int, state: ShardState = ShardState.PACKED) -> ShardRecord:
    return ShardRecord(
        run=run, number=number, state=state, requests=1, size_bytes=1, tokens=1, digest=str(number)
    )


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    with Ledger.open(ledger_url) as ledger:
        with ledger.transaction("add") as tx:
            for run, job in (("a", "tickets"), ("b", "tickets"), ("c", "reviews")):
                tx.add_run(run_record(run, job))
        yield ledger


def reserve(ledger: Ledger, run: str, shard: int, amount: str | None, at: datetime = NOW) -> None:
    with ledger.transaction("reserve") as tx:
        tx.reserve(run, shard, None if amount is None else Decimal(amount), at)


def held(ledger: Ledger, run: str, at: datetime = NOW) -> dict[str, Decimal]:
    return {str(scope): each.amount for scope, each in ledger.held(run, at).items()}


def test_each_scope_holds_its_own(ledger: Ledger) -> None:
    reserve(ledger, "a", 0, "1.000000000001")
    reserve(ledger, "b", 0, "20")
    reserve(ledger, "c", 0, "300")
    assert held(ledger, "a") == {
        "run": Decimal("1.000000000001"),
        "job": Decimal("21.000000000001"),
        "ledger": Decimal("321.000000000001"),
    }
    assert held(ledger, "c") == {
        "run": Decimal(300),
        "job": Decimal(300),
        "ledger": held(ledger, "a")["ledger"],
    }


def test_a_month_counts_what_was_reserved_in_it_and_a_run_everything(ledger: Ledger) -> None:
    reserve(ledger, "a", 0, "1")
    april = NOW + timedelta(days=40)
    with ledger.transaction("settle") as tx:
        tx.settle("a", 0, Decimal("0.5"), april)
    reserve(ledger, "a", 1, "2", april)
    assert held(ledger, "a") == {"run": Decimal("2.5"), "job": Decimal("0.5"), "ledger": Decimal("0.5")}
    assert held(ledger, "a", april) == {"run": Decimal("2.5"), "job": Decimal(2), "ledger": Decimal(2)}


def test_what_is_settled_counts_with_its_cost_and_can_be_corrected(ledger: Ledger) -> None:
    reserve(ledger, "a", 0, "10")
    for cost in ("4", "3"):
        with ledger.transaction("settle") as tx:
            tx.settle("a", 0, Decimal(cost), NOW)
        assert held(ledger, "a")["ledger"] == Decimal(cost)
    with ledger.transaction("settle") as tx:
        tx.settle("a", 1, None, NOW)  # never reserved, and without a price
    assert ledger.held("a", NOW)[Scope.RUN] == Held(spent=Decimal(3), unpriced=1)


def test_what_has_no_upper_end_is_told(ledger: Ledger) -> None:
    reserve(ledger, "a", 0, None)
    assert ledger.held("b", NOW) == {
        Scope.RUN: NOTHING,
        Scope.JOB: Held(unbounded=1),
        Scope.LEDGER: Held(unbounded=1),
    }


def test_a_deleted_run_leaves_what_it_cost_and_may_come_again(ledger: Ledger) -> None:
    reserve(ledger, "a", 0, "1")
    with ledger.transaction("settle") as tx:
        tx.settle("a", 0, Decimal(1), NOW)
        tx.delete_run("a")
        tx.add_run(run_record("a"))
    reserve(ledger, "a", 0, "2")
    assert held(ledger, "a") == {"run": Decimal(2), "job": Decimal(3), "ledger": Decimal(3)}
    assert ledger.held("a", NOW, but=[0])[Scope.JOB] == Held(spent=Decimal(1))
    assert [each.run for each in ledger.reservations(month="2026-03")] == [None, "a"]
    assert ledger.reservations(month="2026-04") == []


def test_the_limit_of_a_ledger(ledger: Ledger) -> None:
    assert ledger.budget() is None
    for amount in (Decimal("100.50"), Decimal(0), None):
        with ledger.transaction("budget") as tx:
            tx.set_budget(amount, NOW)
        assert ledger.budget() == amount


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_happens_a_reservation_lives_as_long_as_the_shard_may_cost(
    ledger: Ledger, data: st.DataObject
) -> None:
    """The shell reserves on the way into such a state; every way out of one gives the money back."""
    number = len(ledger.shards("a"))
    with ledger.transaction("add") as tx:
        tx.add_shards([shard_record("a", number)])
    state = ShardState.PACKED
    for _ in range(12):
        events = sorted(event for before, event in SHARD_TABLE.moves if before is state)
        if not events:
            break
        event: ShardEvent = data.draw(st.sampled_from(events))
        with ledger.transaction("move") as tx:
            if SHARD_TABLE.next(state, event) in MAY_COST:
                tx.reserve("a", number, Decimal(1), NOW)
            if event is ShardEvent.COLLECTED:
                tx.settle("a", number, Decimal("0.25"), NOW)
            state = tx.move_shard("a", number, event, NOW)
        mine = [each for each in ledger.reservations(run="a") if each.shard == number]
        assert [each.settled_at is None for each in mine] == (
            [True] if state in MAY_COST else [False] if state is ShardState.COLLECTED else []
        )


# Reserves one after the other, each time if it fits; says how often it did.
SPEND = """
import json, sys
from datetime import UTC, datetime
from decimal import Decimal
from bulkrate.core.budget import Limit, Scope, fits
from bulkrate.ledger import Ledger

ledger, run = Ledger.open(sys.argv[1]), sys.argv[2]
now, limit = datetime(2026, 3, 1, tzinfo=UTC), Limit(Scope.LEDGER, Decimal("1.00"))
print("ready", flush=True)
sys.stdin.readline()
won = 0
for shard in range(40):
    with ledger.transaction("reserve") as tx:
        if fits(limit, tx.held(run, now, but=[shard])[Scope.LEDGER], Decimal("0.03")):
            tx.reserve(run, shard, Decimal("0.03"), now)
            won += 1
print(json.dumps(won))
"""


def test_processes_that_reserve_at_once_never_exceed_a_limit_and_reach_it(
    ledger: Ledger, ledger_url: str
) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    spenders = [subprocess.Popen([sys.executable, "-c", SPEND, ledger_url, run], **pipes) for run in "abc"]
    for spender in spenders:
        assert spender.stdout.readline() == "ready\n"
    won = [json.loads(spender.communicate("go\n")[0]) for spender in spenders]
    assert sum(won) == 33, "33 times 0.03 is as near to 1.00 as it goes"
    assert held(ledger, "a")["ledger"] == Decimal("0.99")
