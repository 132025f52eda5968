"""Death at a chosen moment, in one process, as faithful as can be to SIGKILL.

A *moment* is a signal of the code under test (before and after every effect and every commit), a step of a
call on the network, or a sync of a file. At the chosen one `Killed` is raised; from then on every further
moment raises too. As a commit is only reached through a moment, nothing that a `finally` or an
`except BaseException` does on the way out can change the ledger; half-written files that such a handler
removes are put back, because a killed process removes nothing.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from bulkrate import signals
from bulkrate.pipeline import durable

MOST_MOMENTS = 20_000


class Killed(BaseException):
    """The simulated process is dead."""


class Violation(BaseException):
    """An invariant is broken. Not an Exception, so that the code under test cannot swallow it."""


class Crash:
    """The life of one simulated process after another."""

    def __init__(self, folder: Path, on_commit: Callable[[str], None]) -> None:
        self._folder = folder
        self._on_commit = on_commit
        self._left = 0
        self._steps = 0
        self._stop: Callable[[], None] | None = None
        self._parts: dict[Path, bytes] = {}
        self.dead = False
        self.killed_at: Counter[str] = Counter()
        self.violation: str | None = None
        self.moments = 0
        self.trace: deque[str] = deque(maxlen=400)

    def live(self, kill_after: int | None) -> None:
        """A new process begins, to die at its `kill_after`-th moment (None: to live)."""
        self.dead = False
        self._left = kill_after or 0

    def stop_at(self, call_step: int, stop: Callable[[], None]) -> None:
        """Call `stop` at the n-th step of a call on the network from now on."""
        self._steps, self._stop = call_step, stop

    def bury(self) -> None:
        """Put back what a killed process leaves: its half-written files."""
        for path, content in self._parts.items():
            if path.parent.is_dir():
                path.write_bytes(content)
        self._parts.clear()

    def moment(self, name: str) -> None:
        """Something is about to happen, or has. Raises `Killed` from the chosen moment on."""
        if self.dead:
            raise Killed
        self.moments += 1
        self.trace.append(name)
        if self.moments > MOST_MOMENTS:
            self.fail("the run does not end: too many moments")
        if name.startswith("ledger.") and name.endswith(".after"):
            self._on_commit(name)
        if self._stop is not None and name.startswith("net."):
            self._steps -= 1
            if not self._steps:
                self.trace.append("STOPPED")
                self._stop()
                self._stop = None
        if self._left:
            self._left -= 1
            if not self._left:
                self.dead = True
                self.killed_at[name] += 1
                self.trace.append("KILLED")
                self._parts = {path: path.read_bytes() for path in self._folder.rglob("*.part")}
                raise Killed

    def note(self, what: str) -> None:
        """Record a broken invariant (the first one counts); the next moment stops everything."""
        if self.violation is None:
            self.violation = what
            self.trace.append(f"VIOLATION {what}")
        self.dead = True

    def fail(self, what: str) -> None:
        """Record a broken invariant and stop everything."""
        self.note(what)
        raise Violation(what)

    def listen(self, listener: Callable[[str], None]) -> None:
        """Hear every signal of the code under test, and every sync of a file."""
        signals.listen(listener)
        durable.sync_file = _announced(durable.sync_file, "file.synced", self.moment)
        durable.sync_folder = _announced(durable.sync_folder, "folder.synced", self.moment)

    @staticmethod
    def silence() -> None:
        """Undo `listen`."""
        signals.listen(None)
        durable.sync_file = getattr(durable.sync_file, "__wrapped__", durable.sync_file)
        durable.sync_folder = getattr(durable.sync_folder, "__wrapped__", durable.sync_folder)


def _announced(
    sync: Callable[[Path], None], name: str, moment: Callable[[str], None]
) -> Callable[[Path], None]:
    plain = getattr(sync, "__wrapped__", sync)

    def announced(path: Path) -> None:
        moment(f"{name}.before")
        plain(path)
        moment(f"{name}.after")

    announced.__wrapped__ = plain
    return announced
