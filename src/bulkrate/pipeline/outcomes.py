"""Reading a run's outcomes back by row, whichever shard answered."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from bulkrate.core.vector import NO_SHARD, Vector
from bulkrate.pipeline.row_files import RowFile
from bulkrate.pipeline.run_folder import OUTCOME_SCHEMA, RunFolder

# The "shard" of answers taken over from earlier runs of the job.
REUSED = NO_SHARD - 1
# Outcomes of one partition may be in as many files as the run has shards; few are in use at a time.
_OPEN_FILES = 16

Columns = dict[str, list[Any]]


class OutcomeReader:
    """Outcomes of a run's partitions: for each row the one its vector names, aliases resolved."""

    def __init__(self, folder: RunFolder, columns: Sequence[str]) -> None:
        """`columns`: those of an outcome that are wanted."""
        self._folder = folder
        self._names = list(columns)
        self._file = lru_cache(maxsize=_OPEN_FILES)(RowFile)

    def partition(self, first: int, vector: Vector) -> Columns:
        """A list for each column, by row; None where no attempt has ended yet, or the row was never sent."""
        stop, shards = first + len(vector), vector.shards
        leaders = self._folder.pairs(self._folder.aliases_path, first, stop)
        columns: Columns = {name: [None] * len(vector) for name in self._names}
        for shard in sorted(set(shards) - {NO_SHARD}):
            table = self._file(self._path(shard)).between(first, stop, self._names)
            if not leaders and len(table) == len(vector) == shards.count(shard):
                return {name: table[name].to_pylist() for name in self._names}
            indexes = [row - first for row in table["row"].to_pylist()]
            places = [
                place
                for place, index in enumerate(indexes)
                if shards[index] == shard and first + index not in leaders
            ]
            for name, values in columns.items():
                found = table[name].to_pylist()
                for place in places:
                    values[indexes[place]] = found[place]
        self._follow(first, vector, leaders, columns)
        return columns

    def _follow(self, first: int, vector: Vector, leaders: dict[int, int], columns: Columns) -> None:
        """Give the rows that are aliases the outcomes of their leaders."""
        led: dict[int, dict[int, list[int]]] = {}
        for row, leader in leaders.items():
            shard = vector.shards[row - first]
            if shard != NO_SHARD:
                led.setdefault(shard, {}).setdefault(leader, []).append(row - first)
        for shard, followers in led.items():
            file = self._file(self._path(shard))
            for places, table in file.scattered(sorted(followers), self._names):
                rows = table["row"].to_pylist()
                for name, values in columns.items():
                    found = table[name].to_pylist()
                    for place in places:
                        for index in followers[rows[place]]:
                            values[index] = found[place]

    def _path(self, shard: int) -> Path:
        return self._folder.reused_path if shard == REUSED else self._folder.outcomes_path(shard)


def outcome_of_row(folder: RunFolder, shard: int, row: int) -> dict[str, Any] | None:
    """One row's outcome in one shard."""
    path = folder.reused_path if shard == REUSED else folder.outcomes_path(shard)
    names = [name for name in OUTCOME_SCHEMA.names if name != "row"]
    return next(iter(RowFile(path).between(row, row + 1, names).to_pylist()), None)
