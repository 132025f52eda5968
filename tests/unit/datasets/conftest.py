from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bulkrate.datasets.content import row_hash
from bulkrate.datasets.source import Source, open_source


@dataclass
class Reading:
    """A source read to its end, in the forms tests compare."""

    rows: list[dict[str, Any] | None] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    codes: dict[str, str] = field(default_factory=dict)  # where -> code
    messages: list[str] = field(default_factory=list)

    @property
    def good(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row is not None]


def read_source(source: Source, size: int = 10_000) -> Reading:
    """Read all, checking what every source promises."""
    reading = Reading()
    sizes = []
    for block in source.blocks(size):
        assert block.first == len(reading.rows)
        assert len(block) == len(block.rows) == len(block.where) > 0
        assert {i for i, row in enumerate(block.rows) if row is None} == set(block.problems)
        for row in block.rows:
            if row is not None:
                row_hash(row)  # everything given can be written as JSON
        for index, problem in block.problems.items():
            reading.codes[block.where[index]] = problem.code
            reading.messages.append(problem.message)
        reading.rows += block.rows
        reading.where += block.where
        sizes.append(len(block))
    assert all(n == size for n in sizes[:-1])
    assert len(set(reading.where)) == len(reading.where)
    return reading


@pytest.fixture
def read() -> Callable[..., Reading]:
    def read(path: Any, size: int = 10_000, **options: Any) -> Reading:
        source = path if hasattr(path, "blocks") else open_source(path, **options)
        return read_source(source, size)

    return read


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, content: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write
