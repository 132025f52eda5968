"""The keys of the tests' own providers are canaries: none may be found in anything a test has written.

A plugin of pytest. When the session is over, all files under its temporary folder are searched, compressed
ones opened, and the output and the logs that pytest captured; a key that is found there is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

# What the keys of all tests have in them; plain bytes are found ten times as fast as a pattern.
KEYS = (b"sk-misbehaving", b"test-key-canary", b"-test-0123456789", b"sk-ant-0123456789")
ALLOWED = frozenset({"state.json", "trace"})
"""What a misbehaving provider told its starter, and what strace saw go over the network."""

_SAID = pytest.StashKey[list[str]]()


def has_key(content: bytes) -> bool:
    """Whether a key can be read in these bytes."""
    return any(key in content for key in KEYS)


def leaks(folder: Path) -> list[str]:
    """The files under `folder` in which a key can be read."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [str(path) for path in files if path.name not in ALLOWED and any(map(has_key, _readings(path)))]


def _readings(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and what they say when they are unpacked."""
    content = path.read_bytes()
    yield content
    if path.suffix == ".zst":
        try:
            yield zstandard.ZstdDecompressor().decompressobj().decompress(content)
        except zstandard.ZstdError:
            return  # cut off or damaged on purpose
    if path.suffix == ".parquet":
        yield from _texts(path)


def _texts(path: Path) -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError):
        return
    for column in table.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            for chunk in column.chunks:
                yield from (memory.to_pybytes() for memory in chunk.buffers()[1:] if memory is not None)


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_SAID] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    texts = [text for _, text in report.sections]
    if any(has_key(text.encode(errors="replace")) for text in texts):
        item.config.stash[_SAID].append(f"the output of {report.nodeid}")
    return report


@pytest.fixture(scope="session", autouse=True)
def no_key_is_written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Fails the session's last test when any of them has let out a key."""
    yield
    found = [*request.config.stash[_SAID], *leaks(tmp_path_factory.getbasetemp())]
    assert not found, "a key was written: " + ", ".join(found[:20])
