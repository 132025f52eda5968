"""Several processes on one ledger, and a process that dies at the worst moment. Real ones, no sleeping."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from bulkrate.core.vector import Balance, Vector
from bulkrate.ledger import Ledger, PartitionRecord
from bulkrate.ledger.opening import make_engine, migrate, url_of
from conformance.ledger_records import RUN

pytest_plugins = ["conformance.postgres"]

NOW = datetime(2026, 3, 1, tzinfo=UTC)

# Says when it is ready, waits for a word, then opens: the processes come to a ledger at one moment.
OPEN = """
import sys
import bulkrate.ledger.opening, {more}
from bulkrate.ledger import Ledger
print("ready", flush=True)
sys.stdin.readline()
ledger = Ledger.open(sys.argv[1])
print(len(ledger.runs()), flush=True)
ledger.close()
"""

# Assembles a run in one transaction and is killed at the named signal.
DIE = """
import os, signal, sys
from datetime import UTC, datetime
from bulkrate import signals
from bulkrate.core.run_states import RunEvent
from bulkrate.core.vector import Vector
from bulkrate.ledger import Ledger, PartitionRecord, RunRecord

path, moment = sys.argv[1:]
now = datetime(2026, 3, 1, tzinfo=UTC)
ledger = Ledger.open(path)
signals.listen(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == moment else None)
with ledger.transaction("assemble") as transaction:
    transaction.add_run(RunRecord(id="r1", job_name="j", job_key="k", job_json="{}", snapshot="s",
                                  provider="p", model="m", created_at=now, updated_at=now))
    for number in range(50):
        vector = Vector(10_000)
        for row in range(0, 10_000, 7):
            vector.succeed(row, row)  # so that the blobs have some size
        transaction.add_partition(
            PartitionRecord(run="r1", number=number, first_row=number * 10_000, rows=10_000), vector)
    transaction.move_run("r1", RunEvent.ASSEMBLED, now, rows=500_000)
raise SystemExit("the signal never came")
"""

# Adds one to a vector's attempts, many times, reading it inside the writing transaction.
COUNT = """
import sys
from bulkrate.ledger import Ledger

ledger = Ledger.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for _ in range(40):
    with ledger.transaction("count") as transaction:
        vector = transaction.vector("r1", 0)
        vector.count_attempt(0)
        transaction.save_vector("r1", 0, vector)
"""

# Takes each run if it is free, and says which epoch it got.
TAKE = """
import json, sys
from datetime import UTC, datetime
from bulkrate.errors import RunBusy
from bulkrate.ledger import Ledger

ledger = Ledger.open(sys.argv[1])
now = datetime(2026, 3, 1, tzinfo=UTC)
runs = sorted(run.id for run in ledger.runs())
print("ready", flush=True)
sys.stdin.readline()
won = {}
for run in runs:
    try:
        with ledger.transaction("take") as transaction:
            won[run] = transaction.take_run(run, now, holder=sys.argv[2], lease_s=60)
    except RunBusy:
        pass
print(json.dumps(won))
"""

# Drives runs as workers do: takes one, changes it by several fenced transactions (reading outside of them, as
# collecting does), and gives it free. Now and then it pretends that the holder is dead, so that it is robbed
# in the middle and robs others: what it then tries to write must be refused whole.
DRIVE = """
import json, random, sys
from datetime import UTC, datetime
from bulkrate.errors import RunBusy
from bulkrate.ledger import Ledger

ledger, chance = Ledger.open(sys.argv[1]), random.Random(sys.argv[2])
runs = sorted(run.id for run in ledger.runs())
now = datetime(2026, 3, 1, tzinfo=UTC)
print("ready", flush=True)
sys.stdin.readline()
taken, written, refused = [], dict.fromkeys(runs, 0), 0
for _ in range(60):
    run = chance.choice(runs)
    try:
        with ledger.transaction("take") as transaction:
            dead = chance.random() < 0.3
            epoch = transaction.take_run(run, now, holder="here", lease_s=60, holder_is_dead=dead)
        taken.append([run, epoch])
        for _ in range(3):
            vector = ledger.vector(run, 0)
            vector.count_attempt(0)
            with ledger.transaction("count") as transaction:
                transaction.fence(run, epoch)
                transaction.save_vector(run, 0, vector)
                transaction.add_event(run, "counted", now, detail={"epoch": epoch})
            written[run] += 1
        with ledger.transaction("release") as transaction:
            transaction.renew_run(run, epoch, now, lease_s=0)
    except RunBusy:
        refused += 1
print(json.dumps([taken, written, refused]))
"""


def start(code: str, *args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *args]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def all_at_once(processes: list[subprocess.Popen[str]]) -> list[str]:
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate()[0] for process in processes]


def test_processes_that_open_a_new_ledger_at_once_all_succeed(ledger_url: str) -> None:
    processes = [start(OPEN.format(more="sys"), ledger_url) for _ in range(4)]
    assert all_at_once(processes) == ["0\n"] * 4
    assert [process.returncode for process in processes] == [0] * 4


def test_processes_that_open_an_older_ledger_at_once_all_succeed(ledger_url: str) -> None:
    engine = make_engine(url_of(ledger_url))
    migrate(engine, "0001")
    engine.dispose()
    processes = [start(OPEN.format(more="alembic.command"), ledger_url) for _ in range(2)]
    assert all_at_once(processes) == ["0\n"] * 2
    assert [process.returncode for process in processes] == [0] * 2


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_commit_leaves_all_or_nothing(ledger_url: str, moment: str) -> None:
    died = subprocess.run([sys.executable, "-c", DIE, ledger_url, f"ledger.assemble.{moment}"], check=False)
    assert died.returncode == -signal.SIGKILL
    with Ledger.open(ledger_url) as ledger:
        there = [len(ledger.runs()), len(ledger.partitions("r1")), len(list(ledger.vectors("r1")))]
        if moment == "before":
            assert [*there, ledger.events("r1")] == [0, 0, 0, []]
        else:
            assert there == [1, 50, 50]
            assert ledger.balance("r1") == Balance(succeeded=50 * 1429, pending=50 * 8571)


def test_writers_take_turns_and_lose_nothing(ledger_url: str) -> None:
    subprocess.run([sys.executable, "-c", DIE, ledger_url, "ledger.assemble.after"], check=False)
    processes = [start(COUNT, ledger_url) for _ in range(3)]
    all_at_once(processes)
    assert [process.returncode for process in processes] == [0] * 3
    with Ledger.open(ledger_url) as ledger:
        assert ledger.vector("r1", 0).attempts[0] == 120


def fill(url: str, runs: int) -> None:
    with Ledger.open(url) as ledger, ledger.transaction("fill") as transaction:
        for number in range(runs):
            run = f"run{number:03}"
            transaction.add_run(replace(RUN, id=run, updated_at=NOW))
            transaction.add_partition(PartitionRecord(run=run, number=0, first_row=0, rows=1), Vector(1))


def test_of_processes_that_take_a_run_at_once_exactly_one_gets_it(ledger_url: str) -> None:
    runs = 100
    fill(ledger_url, runs)
    said = all_at_once([start(TAKE, ledger_url, f"machine{number}") for number in range(4)])
    won = Counter(run for line in said for run in json.loads(line))
    assert won == {f"run{number:03}": 1 for number in range(runs)}
    assert {epoch for line in said for epoch in json.loads(line).values()} == {1}


def test_each_taking_is_an_epoch_of_its_own_and_no_update_is_lost(ledger_url: str) -> None:
    fill(ledger_url, 3)
    said = [json.loads(line) for line in all_at_once([start(DRIVE, ledger_url, name) for name in "abcd"])]
    takings = sorted((run, epoch) for taken, _, _ in said for run, epoch in taken)
    assert len(set(takings)) == len(takings), "an epoch was given twice"
    assert sum(refused for _, _, refused in said) > 0, "they never met"
    with Ledger.open(ledger_url) as ledger:
        for run in ledger.runs():
            written = sum(counts[run.id] for _, counts, _ in said)
            assert written > 0
            assert ledger.vector(run.id, 0).attempts[0] == min(written, 255)
            epochs = [json.loads(event.detail_json or "")["epoch"] for event in ledger.events(run.id)]
            assert len(epochs) == written
            assert epochs == sorted(epochs), "who lost the run wrote after the one who took it"
            assert run.epoch == len([taking for taking in takings if taking[0] == run.id])
