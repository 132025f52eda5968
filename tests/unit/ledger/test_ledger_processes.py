"""Several processes on one ledger, and a process that dies at the worst moment. Real ones, no sleeping."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bulkrate.core.vector import Balance
from bulkrate.ledger import Ledger

# Says when it is ready, waits for a word, then opens: both processes come to a new ledger at one moment.
OPEN = """
import sys
import sqlalchemy, alembic.command
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


def test_processes_that_open_a_new_ledger_at_once_all_succeed(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.sqlite")
    processes = [start(OPEN, path) for _ in range(4)]
    assert all_at_once(processes) == ["0\n"] * 4
    assert [process.returncode for process in processes] == [0] * 4


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_kill_around_the_commit_leaves_all_or_nothing(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "ledger.sqlite"
    died = subprocess.run([sys.executable, "-c", DIE, str(path), f"ledger.assemble.{moment}"], check=False)
    assert died.returncode == -signal.SIGKILL
    with Ledger.open(path) as ledger:
        there = [len(ledger.runs()), len(ledger.partitions("r1")), len(list(ledger.vectors("r1")))]
        if moment == "before":
            assert [*there, ledger.events("r1")] == [0, 0, 0, []]
        else:
            assert there == [1, 50, 50]
            assert ledger.balance("r1") == Balance(succeeded=50 * 1429, pending=50 * 8571)


def test_writers_take_turns_and_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    subprocess.run([sys.executable, "-c", DIE, str(path), "ledger.assemble.after"], check=False)
    processes = [start(COUNT, str(path)) for _ in range(3)]
    all_at_once(processes)
    assert [process.returncode for process in processes] == [0] * 3
    with Ledger.open(path) as ledger:
        assert ledger.vector("r1", 0).attempts[0] == 120
