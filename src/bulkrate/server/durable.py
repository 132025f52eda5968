"""Files that are either whole or not there, whatever happens to the process or the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from bulkrate.ledger.answer_log import sync_directory

TEMPORARY = ".tmp"


@contextmanager
def atomic_file(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file to write to that takes `path`'s place, synced, when the block ends without an error."""
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_atomically(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`."""
    with atomic_file(path) as file:
        file.write(data)


def make_directory(path: Path) -> None:
    """A directory that survives a crash, readable by its owner only; its parents are made as needed."""
    missing = [path, *path.parents]
    for directory in reversed([step for step in missing if not step.is_dir()]):
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def remove_file(path: Path) -> None:
    """Remove a name for good; one that is gone already is no error."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
