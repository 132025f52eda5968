"""Worker processes: a function over many items, results in the order of the items.

Workers are started as `python -m bulkrate.compute.worker`, not by multiprocessing: they import neither the
user's main module (a notebook or a script without a guard works) nor the ledger or a provider's SDK. They
inherit no file but their end of one socket, least of all the lock of a run, and when that socket
closes they end: also when this process is killed. They are in a process group of their own, so that Ctrl-C in
a terminal is answered by this process alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from bulkrate.errors import BulkrateError, ConfigError

VARIABLE = "BULKRATE_WORKERS"
# More would be held up by the one process that reads the source, and each takes memory.
MOST = 8
# Items a worker holds: the one in its hands and the next, so that it never waits for a parent that is busy.
HELD = 2

Item = TypeVar("Item")
Result = TypeVar("Result")


def worker_count(env: Mapping[str, str]) -> int:
    """How many workers: BULKRATE_WORKERS, else one for each core that this process may use, 8 at most."""
    given = env.get(VARIABLE)
    if given is None:
        return min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, MOST)
    if not given.isdecimal() or int(given) < 1:
        raise ConfigError(f"{VARIABLE} is {given!r}", hint="a number of processes, 1 or more")
    return int(given)


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int
) -> Iterator[Result]:
    """`function(item)` for every item, in order.

    With one worker, or fewer than two items, in this process; otherwise `function` is pickled once for each
    worker, and items and results go over a socket. At most a few items are held at a time. An exception of
    the function, or of `items`, ends it.
    """
    source = iter(items)
    head = list(islice(source, 2)) if workers > 1 else []
    if len(head) < 2:
        yield from map(function, chain(head, source))
        return
    with Workers(function, workers) as pool:
        yield from pool.map(chain(head, source))


class WorkerDied(BulkrateError):
    """A worker process ended without an answer."""

    default_code = "worker_died"


class Workers:
    """Processes that each hold a copy of `function`."""

    def __init__(self, function: Callable[[Any], Any], count: int) -> None:
        self._ready: dict[Connection[Any, Any], int] = {}
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for _ in range(count):
                connection = self._start()
                self._ready[connection] = 0
                # The same modules are found there as here.
                connection.send(sys.path)
                connection.send(function)
        except BaseException:
            self.close()
            raise

    def _start(self) -> Connection[Any, Any]:
        ours, theirs = socket.socketpair()
        with theirs:
            handle = theirs.fileno()
            command = [sys.executable, "-m", "bulkrate.compute.worker", str(handle)]
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[handle],
                process_group=0,
            )
        self._processes.append(process)
        return Connection(ours.detach())

    def map(self, items: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of `items`."""
        done: dict[int, Any] = {}
        next_out = sent = 0
        source = iter(items)
        exhausted = False
        while True:
            # Results that wait for an earlier one are held here: no worker runs far ahead of it.
            while not exhausted and sent - next_out < HELD * len(self._ready) + len(self._ready):
                idle = min(self._ready, key=self._ready.__getitem__)
                if self._ready[idle] >= HELD:
                    break
                try:
                    item = next(source)
                except StopIteration:
                    exhausted = True
                    break
                self._send(idle, (sent, item))
                self._ready[idle] += 1
                sent += 1
                done.update(self._finished(timeout=0))
            if next_out == sent:
                return
            if next_out not in done:
                done.update(self._finished(timeout=None))
            while next_out in done:
                yield done.pop(next_out)
                next_out += 1

    def _send(self, connection: Connection[Any, Any], message: tuple[int, Any]) -> None:
        try:
            connection.send(message)
        except OSError:
            raise self._died() from None

    def _finished(self, timeout: float | None) -> Iterator[tuple[int, Any]]:
        busy = [connection for connection, held in self._ready.items() if held]
        for connection in wait(busy, timeout):
            assert isinstance(connection, Connection)
            try:
                number, result, error = connection.recv()
            except (EOFError, OSError):
                raise self._died() from None
            self._ready[connection] -= 1
            if error is not None:
                raise error
            yield number, result

    def _died(self) -> WorkerDied:
        return WorkerDied(
            "a worker process ended without an answer",
            hint=f"out of memory? everything done so far is kept; {VARIABLE}=1 does without workers",
        )

    def close(self) -> None:
        """Let the workers end, and wait for them. What they hold is dropped."""
        for connection in self._ready:
            connection.close()
        for process in self._processes:
            process.wait()
        self._ready, self._processes = {}, []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
