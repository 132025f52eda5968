"""Reading a run's outcomes back by row, whichever shard answered."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bulkrate.core.vector import NO_SHARD, Vector
from bulkrate.pipeline.run_folder import RunFolder, read_outcome_rows, read_outcomes

# The "shard" of answers taken over from earlier runs of the job.
REUSED = NO_SHARD - 1


class OutcomeReader:
    """Outcomes of a run's partitions: for each row the one its vector names, aliases resolved."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._leaders = folder.pairs(folder.aliases_path)

    def partition(self, first: int, vector: Vector) -> list[dict[str, Any] | None]:
        """One outcome per row (None: no attempt ended yet, or never sent)."""
        stop = first + len(vector)
        own: dict[int, list[int]] = {}
        led: dict[int, list[int]] = {}
        for index, shard in enumerate(vector.shards):
            if shard != NO_SHARD:
                group = led if first + index in self._leaders else own
                group.setdefault(shard, []).append(index)
        outcomes: list[dict[str, Any] | None] = [None] * len(vector)
        for shard, indexes in own.items():
            found = {line["row"]: line for line in read_outcomes(self._path(shard), first, stop)}
            for index in indexes:
                outcomes[index] = found.get(first + index)
        for shard, indexes in led.items():
            wanted = {self._leaders[first + index] for index in indexes}
            found = self._scattered(shard, wanted)
            for index in indexes:
                outcomes[index] = found.get(self._leaders[first + index])
        return outcomes

    def _path(self, shard: int) -> Path:
        return self._folder.reused_path if shard == REUSED else self._folder.outcomes_path(shard)

    def _scattered(self, shard: int, rows: Iterable[int]) -> dict[int, dict[str, Any]]:
        return {line["row"]: line for line in read_outcome_rows(self._path(shard), rows)}


def outcome_of_row(folder: RunFolder, shard: int, row: int) -> dict[str, Any] | None:
    """One row's outcome in one shard."""
    path = folder.reused_path if shard == REUSED else folder.outcomes_path(shard)
    return next(iter(read_outcome_rows(path, [row])), None)
