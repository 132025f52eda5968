"""Worker processes: a function over many items, results in the order of the items.

Workers are started as `python -m bulkrate.compute.worker`, not by multiprocessing: they import neither the
user's main module (a notebook or a script without a guard works) nor the ledger or a provider's SDK. They
inherit no file but their end of one socket, least of all the lock of a run, and when that socket closes
they end with the item in hand: also when this process is killed. They are in a process group of their own,
so that Ctrl-C in a terminal is answered by this process alone.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from multiprocessing.connection import Connection, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from bulkrate.compute.worker import END
from bulkrate.errors import BulkrateError, ConfigError

VARIABLE = "BULKRATE_WORKERS"
# More would be held up by the one process that reads the source, and each takes memory.
MOST = 8
# glibc: give large buffers back when they are freed, and do not give back and fetch small ones all the time.
# Arrow: no allocator of its own, which keeps 12 MB in each worker for the one file that it writes.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": "1000000",
    "MALLOC_TRIM_THRESHOLD_": "8000000",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}

Part = TypeVar("Part")
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
    function: Callable[[Iterable[Part]], Result], items: Iterable[Iterable[Part]], *, workers: int
) -> Iterator[Result]:
    """`function(item)` for every item, in order. An item is a stream of parts, as `itertools.groupby` gives.

    With one worker, or fewer than two items, in this process; otherwise `function` is pickled once, and the
    parts go over a socket as they come: an item as a whole is only ever in a worker's memory. An exception of
    the function, or of `items`, ends it.
    """
    source = iter(items)
    if workers == 1:
        yield from map(function, source)
        return
    first = list(next(source, ()))
    second = next(source, None)
    if second is None:
        if first:
            yield function(first)
        return
    with Workers(function, workers) as pool:
        yield from pool.map(chain([first, second], source))


class WorkerDied(BulkrateError):
    """A worker process ended without an answer."""

    default_code = "worker_died"


class Workers:
    """Processes that each hold a copy of `function`, and work on one item at a time.

    If `function` has a method `prepare`, it is called once before the copies are made: what it loads is
    shared by all of them.
    """

    def __init__(self, function: Callable[[Any], Any], count: int) -> None:
        pairs = [socket.socketpair() for _ in range(count)]
        theirs = [pair[1].fileno() for pair in pairs]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bulkrate.compute.worker", *map(str, theirs)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=theirs,
                process_group=0,
                env=os.environ | _ALLOCATOR,
            )
        finally:
            for _, end in pairs:
                end.close()
        self._connections = [Connection(end.detach()) for end, _ in pairs]
        try:
            # The same modules are found there as here.
            self._send(self._connections[0], sys.path)
            self._send(self._connections[0], function)
        except BaseException:
            self.close()
            raise

    def map(self, items: Iterable[Iterable[Any]]) -> Iterator[Any]:
        """Results in the order of `items`."""
        source = iter(items)
        idle = list(self._connections)
        busy: dict[Connection[Any, Any], int] = {}
        done: dict[int, Any] = {}
        sent = given = 0
        item = next(source, None)
        while item is not None or busy:
            # Results that wait for an earlier one are held: nobody runs far ahead of it.
            while idle and item is not None and len(done) <= len(self._connections):
                connection = idle.pop()
                for part in item:
                    self._send(connection, part)
                self._send(connection, END)
                busy[connection] = sent
                sent += 1
                item = next(source, None)
            for ready in wait(busy):
                assert isinstance(ready, Connection)
                done[busy.pop(ready)] = self._receive(ready)
                idle.append(ready)
            while given in done:
                yield done.pop(given)
                given += 1

    def _send(self, connection: Connection[Any, Any], message: Any) -> None:
        try:
            connection.send(message)
        except OSError:
            raise self._died() from None

    def _receive(self, connection: Connection[Any, Any]) -> Any:
        try:
            result, error = connection.recv()
        except (EOFError, OSError):
            raise self._died() from None
        if error is not None:
            raise error
        return result

    def _died(self) -> WorkerDied:
        return WorkerDied(
            "a worker process ended without an answer",
            hint=f"out of memory? everything done so far is kept; {VARIABLE}=1 does without workers",
        )

    def close(self) -> None:
        """Let the workers end, and wait for them. What they hold is dropped."""
        for connection in self._connections:
            connection.close()
        self._connections = []
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
