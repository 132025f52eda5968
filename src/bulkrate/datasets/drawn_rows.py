"""Some rows of a source as a source by themselves: what a pilot runs over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from bulkrate.datasets.block import Block, Problem
from bulkrate.datasets.source import BLOCK_ROWS, Source


class DrawnRows:
    """The rows with these numbers (from 0), in the order of the source, numbered anew from 0.

    Rows the source does not have any more are left out.
    """

    def __init__(self, source: Source, rows: Iterable[int]) -> None:
        self._source = source
        self._rows = sorted(rows)

    @property
    def files(self) -> tuple[Path, ...]:
        return self._source.files

    @property
    def format(self) -> str:
        return self._source.format

    @property
    def schema(self) -> Any:
        """The types of the columns; None where the format has none."""
        return getattr(self._source, "schema", None)

    def columns(self) -> tuple[str, ...] | None:
        return self._source.columns()

    def snapshot(self) -> str:
        """That of the whole source."""
        return self._source.snapshot()

    def blocks(self, size: int = 10_000) -> Iterator[Block]:
        """The drawn rows, in blocks of `size` (the last one smaller)."""
        taken = self._taken()
        for first in range(0, len(self._rows), size):
            rows, problems, places = [], {}, []
            for index, (row, problem, place) in enumerate(islice(taken, size)):
                rows.append(row)
                places.append(place)
                if problem is not None:
                    problems[index] = problem
            if rows:
                yield Block(first, rows, problems, places)

    def _taken(self) -> Iterator[tuple[dict[str, Any] | None, Problem | None, str]]:
        wanted = iter(self._rows)
        row = next(wanted, None)
        for block in self._source.blocks(BLOCK_ROWS):
            while row is not None and row < block.first + len(block):
                index = row - block.first
                yield block.rows[index], block.problems.get(index), block.where[index]
                row = next(wanted, None)
            if row is None:
                return
