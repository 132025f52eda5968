"""The answer log: durable, once per id, and whole again after any crash."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkrate.errors import LedgerError
from bulkrate.ledger.answer_log import AnswerLog


def write(directory: Path, count: int, *, start: int = 0) -> None:
    with AnswerLog(directory) as log:
        for future in [log.submit(f"row-{n}", {"n": n, "text": "é\n"}) for n in range(start, start + count)]:
            assert future.result() is True


def test_answers_survive_closing(tmp_path: Path) -> None:
    write(tmp_path / "log", 100)
    with AnswerLog(tmp_path / "log") as log:
        assert len(log) == 100
        assert "row-99" in log
        assert log.get("row-42") == {"n": 42, "text": "é\n"}
        assert log.get("nobody") is None
        assert [answer["n"] for _, answer in log.entries()] == list(range(100))


def test_lines_are_json_anyone_can_read(tmp_path: Path) -> None:
    write(tmp_path / "log", 2)
    lines = (tmp_path / "log" / "00000.jsonl").read_bytes().splitlines()
    assert [orjson.loads(line)["id"] for line in lines] == ["row-0", "row-1"]


def test_second_answer_for_an_id_is_refused(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "log") as log:
        together = [log.submit("a", {"n": n}) for n in range(3)]
        assert [future.result() for future in together] == [True, False, False]
        assert log.append_sync("a", {"n": 9}) is False
        assert log.get("a") == {"n": 0}
    with AnswerLog(tmp_path / "log") as log:
        assert log.append_sync("a", {"n": 10}) is False
        assert list(log.entries()) == [("a", {"n": 0})]


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(min_value=1, max_value=400))
def test_torn_tail_is_cut_at_any_byte(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    directory = tmp_path_factory.mktemp("torn") / "log"
    write(directory, 10)
    path = directory / "00000.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: max(0, len(whole) - cut)])
    complete = path.read_bytes().count(b"\n")
    with AnswerLog(directory) as log:
        assert len(log) == complete
        assert log.damaged == 0
        for n in range(10):
            assert log.append_sync(f"row-{n}", {"n": n, "text": "é\n"}) is (n >= complete)
    assert path.read_bytes() == whole


def test_a_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    write(tmp_path / "log", 3)
    path = tmp_path / "log" / "00000.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"n":1', b'"n":7'))
    with AnswerLog(tmp_path / "log") as log:
        assert (log.damaged, log.ids()) == (1, ["row-0", "row-2"])
        assert log.append_sync("row-1", {"n": 1}) is True
    with AnswerLog(tmp_path / "log") as log:
        assert [answer["n"] for _, answer in log.entries()] == [0, 2, 1]


def test_zeros_left_by_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    write(tmp_path / "log", 3)
    path = tmp_path / "log" / "00000.jsonl"
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"\0" * 4096)
    with AnswerLog(tmp_path / "log") as log:
        assert (len(log), log.cut_bytes) == (3, 4096)
    assert path.stat().st_size == size


def test_sealing_keeps_every_answer_and_the_log_goes_on(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "log") as log:
        for n in range(5):
            log.submit(f"row-{n}", {"n": n})
        log.seal()
        log.seal()  # nothing open: nothing happens
        assert log.append_sync("row-5", {"n": 5}) is True
        assert log.append_sync("row-2", {"n": 2}) is False
        assert log.get("row-3") == {"n": 3}
        assert [answer["n"] for _, answer in log.entries()] == [0, 1, 2, 3, 4, 5]
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["00000.parquet", "00001.jsonl"]
    table = pq.read_table(tmp_path / "log" / "00000.parquet")
    assert table.column("id").to_pylist() == [f"row-{n}" for n in range(5)]
    with AnswerLog(tmp_path / "log") as log:
        assert log.ids() == [f"row-{n}" for n in range(6)]
        assert log.get("row-0") == {"n": 0}


def test_long_logs_are_cut_into_segments(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "log", segment_bytes=2000) as log:
        for start in range(0, 500, 50):
            for future in [log.submit(f"row-{n}", {"n": n}) for n in range(start, start + 50)]:
                future.result()
    with AnswerLog(tmp_path / "log") as log:
        assert [answer["n"] for _, answer in log.entries()] == list(range(500))
    assert len(list((tmp_path / "log").glob("*.parquet"))) > 3


def test_crash_between_sealing_and_removing_the_lines(tmp_path: Path) -> None:
    write(tmp_path / "log", 4)
    lines = (tmp_path / "log" / "00000.jsonl").read_bytes()
    with AnswerLog(tmp_path / "log") as log:
        log.seal()
    (tmp_path / "log" / "00000.jsonl").write_bytes(lines)
    (tmp_path / "log" / "00003.parquet.tmp").write_bytes(b"half")
    with AnswerLog(tmp_path / "log") as log:
        assert len(list(log.entries())) == len(log) == 4
    assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["00000.parquet"]


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "log"), pytest.raises(LedgerError) as caught:
        AnswerLog(tmp_path / "log")
    assert caught.value.code == "answer_log_busy"
    AnswerLog(tmp_path / "log").close()


async def _append_many(log: AnswerLog) -> list[bool]:
    return await asyncio.gather(*(log.append(f"row-{n}", {"n": n}) for n in range(300)))


def test_many_waiters_share_a_sync(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "log") as log:
        assert all(asyncio.run(_append_many(log)))
        assert len(log) == 300


def test_a_waiter_that_gives_up_does_not_undo_the_write(tmp_path: Path) -> None:
    async def give_up(log: AnswerLog) -> None:
        task = asyncio.create_task(log.append("a", {"n": 1}))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with AnswerLog(tmp_path / "log") as log:
        asyncio.run(give_up(log))
    with AnswerLog(tmp_path / "log") as log:
        assert log.get("a") == {"n": 1}


def test_threads_racing_for_an_id_write_it_once(tmp_path: Path) -> None:
    firsts: list[str] = []

    def race(log: AnswerLog) -> None:
        firsts.extend(f"{n}" for n in range(200) if log.submit(f"{n}", {"n": n}).result())

    with AnswerLog(tmp_path / "log") as log:
        threads = [threading.Thread(target=race, args=(log,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(firsts) == sorted(f"{n}" for n in range(200))
        assert len(list(log.entries())) == 200


def test_a_full_disk_stops_the_log_and_reopening_finds_the_truth(tmp_path: Path) -> None:
    """A real write error: the file may not grow beyond a limit."""
    script = """
import resource, signal, sys
from pathlib import Path
from bulkrate.errors import LedgerError
from bulkrate.ledger.answer_log import AnswerLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = AnswerLog(Path(sys.argv[1]))
assert log.append_sync("a", {"text": "x"})
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
for answer_id in ("b", "c"):
    try:
        log.append_sync(answer_id, {"text": "x" * 1000})
    except LedgerError as error:
        print(error.code)
log.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["answer_log_write", "answer_log_write"]
    with AnswerLog(tmp_path / "log") as log:
        assert log.ids() == ["a"]
        assert log.cut_bytes > 0
        assert log.append_sync("b", {"text": "y"}) is True


@pytest.mark.parametrize(
    "moment", ["answer_log.write.before", "answer_log.sync.before", "answer_log.sync.after"]
)
def test_death_at_each_moment_loses_nothing_acknowledged(tmp_path: Path, moment: str) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from bulkrate import signals
from bulkrate.ledger.answer_log import AnswerLog
log = AnswerLog(Path(sys.argv[1]))
for n in range(5):
    log.append_sync(f"row-{n}", {"n": n})
    print(f"row-{n}", flush=True)
signals.listen(lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == sys.argv[2] else None)
log.append_sync("row-5", {"n": 5})
print("never")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log"), moment],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9
    acknowledged = done.stdout.split()
    with AnswerLog(tmp_path / "log") as log:
        assert log.ids()[:5] == acknowledged
        assert len(log) == (5 if moment == "answer_log.write.before" else 6)
        assert log.append_sync("row-5", {"n": 5}) is (moment == "answer_log.write.before")
    assert [path.name for path in (tmp_path / "log").iterdir()] == ["00000.jsonl"]
