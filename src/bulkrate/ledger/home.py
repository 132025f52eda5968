"""The state directory: the ledger and the files beside it."""

from __future__ import annotations

import fcntl
import os
import platform
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bulkrate.errors import ConfigError, RunBusy

VARIABLE = "BULKRATE_HOME"
FOLDER = ".bulkrate"
# Holds a random word that tells this directory from every other one.
IDENTITY = "id"
# Ends the name of a holder that does not have the lock of the run: who gets the lock then learns nothing.
UNLOCKED = " (unlocked)"


@dataclass(frozen=True, slots=True)
class Home:
    """A state directory. The paths it gives are where things belong; only `find` and `run_lock` make any."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None, env: Mapping[str, str] | None = None) -> Home:
        """The state directory: BULKRATE_HOME, else `.bulkrate` in `start` (default: the current directory).

        It is made if need be, for this user only, and kept out of git. Raises ConfigError when that fails.
        """
        root = Home.place(start, env).root
        try:
            if not root.is_dir():
                root.mkdir(mode=0o700, parents=True, exist_ok=True)
                _sync(root.parent)
            with suppress(FileExistsError), (root / ".gitignore").open("x", encoding="ascii") as file:
                file.write("*\n")
            _identify(root)
        except OSError as error:
            raise ConfigError(
                f"the state directory {root} cannot be made: {error.strerror}",
                code="home",
                hint=f"point {VARIABLE} at a folder that you may write to",
            ) from None
        return cls(root)

    @classmethod
    def place(cls, start: Path | None = None, env: Mapping[str, str] | None = None) -> Home:
        """Where `find` would find or make it; makes nothing."""
        chosen = (os.environ if env is None else env).get(VARIABLE)
        return cls((Path(chosen).expanduser() if chosen else (start or Path.cwd()) / FOLDER).absolute())

    @property
    def ledger_path(self) -> Path:
        """The SQLite ledger."""
        return self.root / "ledger.sqlite"

    @property
    def prices_path(self) -> Path:
        """The user's own prices, if there are any."""
        return self.root / "prices.toml"

    @property
    def server_dir(self) -> Path:
        """State of the batch server."""
        return self.root / "server"

    @property
    def cache_dir(self) -> Path:
        """What may be deleted at any time."""
        return self.root / "cache"

    @property
    def holder(self) -> str:
        """Who takes leases here: this machine and this directory, which is what `run_lock` speaks for.

        Names alone would not do: containers have the same paths, and often the same host name.
        """
        try:
            mark = (self.root / IDENTITY).read_text(encoding="ascii").strip()
        except OSError:
            mark = ""
        return f"{platform.node()}:{self.root}#{mark}"

    @property
    def unlocked_holder(self) -> str:
        """The same, for a process that drives a run whose lock a stopped process still has."""
        return self.holder + UNLOCKED

    def run_dir(self, run: str) -> Path:
        """A run's files: manifests, shards, raw results, outcomes. `run_lock` makes it."""
        return self.root / "runs" / run

    @contextmanager
    def run_lock(self, run: str) -> Iterator[None]:
        """Hold the run for this process; the lock ends with it, however it ends. Raises RunBusy at once.

        The lock is the kernel's, on an open file: a process id left in the file by a crash means nothing.
        """
        handle = _lock(self.run_dir(run), run)
        try:
            with suppress(OSError):  # the number is for people: on a full disk the lock does without
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
            yield
        finally:
            with suppress(OSError):
                os.ftruncate(handle, 0)
            os.close(handle)


def _identify(root: Path) -> None:
    """Give the directory its word, whole or not at all, unless it has one."""
    path = root / IDENTITY
    if path.exists():
        return
    part = root / f"{IDENTITY}.{secrets.token_hex(8)}"
    part.write_text(secrets.token_hex(4), encoding="ascii")
    try:
        with suppress(FileExistsError):
            path.hardlink_to(part)
    finally:
        part.unlink()


def _lock(folder: Path, run: str) -> int:
    """An open, locked `lock` file in `folder`."""
    while True:
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(folder.parent)
            _sync(folder.parent.parent)
        path = folder / "lock"
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:  # the folder was deleted since
            continue
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
            os.close(handle)
            raise RunBusy(
                f"run {run} is being driven by process {holder or '(not known yet)'}",
                hint="`bulkrate wait` follows it; or wait for it to end",
            ) from None
        # The one who held the lock may have deleted the file (`clean`): then this lock guards nothing.
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), os.stat(path)):  # noqa: PTH116 - symmetric with fstat
                return handle
        os.close(handle)


def _sync(folder: Path) -> None:
    """Make the folder's entries last through a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
