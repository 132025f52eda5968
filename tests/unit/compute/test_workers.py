"""Worker processes: order, errors, death, and what they must not inherit."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from bulkrate.compute.workers import WorkerDied, Workers, ordered_map, worker_count
from bulkrate.errors import ConfigError, SourceError


def doubled(parts: Iterable[int]) -> list[int]:
    return [2 * part for part in parts]


def process(parts: Iterable[int]) -> int:
    list(parts)
    return os.getpid()


def refuse(parts: Iterable[int]) -> None:
    if 3 in list(parts):
        raise SourceError("not this one", code="three", hint="another")


def die(parts: Iterable[int]) -> None:
    list(parts)
    os.kill(os.getpid(), signal.SIGKILL)


def open_files(parts: Iterable[int]) -> list[str]:
    list(parts)
    return [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]


class Prepared:
    """Counts where it was prepared."""

    def __init__(self) -> None:
        self.pid = 0

    def prepare(self) -> None:
        self.pid = os.getpid()

    def __call__(self, parts: Iterable[int]) -> tuple[int, int]:
        list(parts)
        return self.pid, os.getpid()


def items(count: int) -> Iterator[Iterator[int]]:
    return (iter(range(number, number + 3)) for number in range(count))


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 2, 20])
def test_results_come_in_the_order_of_the_items(workers: int, count: int) -> None:
    expected = [[2 * number, 2 * number + 2, 2 * number + 4] for number in range(count)]
    assert list(ordered_map(doubled, items(count), workers=workers)) == expected


def test_a_single_item_starts_no_process() -> None:
    assert list(ordered_map(process, items(1), workers=2)) == [os.getpid()]


def test_two_items_are_worked_on_by_other_processes() -> None:
    assert os.getpid() not in list(ordered_map(process, items(2), workers=2))


def test_an_item_larger_than_a_socket_holds() -> None:
    parts = [b"x" * 3_000_000, b"y" * 3_000_000]
    assert list(ordered_map(b"".join, [parts, parts, parts], workers=2)) == [b"".join(parts)] * 3


def test_an_error_in_a_worker_arrives_whole() -> None:
    with pytest.raises(SourceError) as caught:
        list(ordered_map(refuse, items(9), workers=2))
    assert (caught.value.code, caught.value.hint) == ("three", "another")


def test_an_error_of_the_items_ends_it() -> None:
    def broken() -> Iterator[list[int]]:
        yield [1]
        yield [2]
        raise SourceError("the disk says no")

    with pytest.raises(SourceError):
        list(ordered_map(doubled, broken(), workers=2))


def test_a_worker_that_dies_is_an_error() -> None:
    with pytest.raises(WorkerDied):
        list(ordered_map(die, items(4), workers=2))


def test_workers_share_what_was_prepared_once() -> None:
    seen = list(ordered_map(Prepared(), items(6), workers=2))
    assert len({prepared for prepared, _ in seen}) == 1
    assert os.getpid() not in {prepared for prepared, _ in seen}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_workers_do_not_inherit_a_lock(tmp_path: Path) -> None:
    lock = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for files in ordered_map(open_files, items(4), workers=2):
            assert str(tmp_path / "lock") not in files
    finally:
        os.close(lock)


PARENT = """
import os, signal, sys
from bulkrate.compute.workers import Workers
from test_workers import doubled
pool = Workers(doubled, 2)
print(list(pool.map([[1], [2], [3]])), flush=True)
if sys.argv[1] == "exit":
    raise SystemExit(0)
signal.pause()
"""


@pytest.mark.parametrize("how", ["kill", "exit"])
def test_workers_end_with_their_parent(how: str) -> None:
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
    ) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        assert parent.stdout.readline() == b"[[2], [4], [6]]\n"
        if how == "kill":
            parent.kill()
        # The workers have the same standard error: it ends when the last of them has.
        assert parent.stderr.read() == b""


def test_a_pool_is_closed_while_its_workers_are_idle() -> None:
    with Workers(doubled, 2):
        pass


def test_the_worker_module_is_light() -> None:
    """Row workers import neither the ledger's database nor a provider's SDK."""
    program = (
        "import sys; import bulkrate.compute.worker, bulkrate.pipeline.partition, bulkrate.pipeline.encode, "
        "bulkrate.jobs.template, bulkrate.tokens; print(sorted({'sqlalchemy', 'openai', 'alembic', 'typer'} "
        "& set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_count_of_workers() -> None:
    assert worker_count({"BULKRATE_WORKERS": "3"}) == 3
    assert 1 <= worker_count({}) <= 8
    for wrong in ("0", "-1", "many", ""):
        with pytest.raises(ConfigError):
            worker_count({"BULKRATE_WORKERS": wrong})
