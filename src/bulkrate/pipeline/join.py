"""Join: outcomes to the rows of the source, verified row by row, in source order.

Every joined row is verified: the manifest keeps its key and the hash of its content. While the source is as
it was, rows pair by position; at the first difference delivery begins again and pairs by key. A row whose
content changed, or that is gone, is a named error, never a wrong join; a row that was added is left to the
next run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from bulkrate.core.embedding import unpack
from bulkrate.core.request import Embedding, Output
from bulkrate.datasets.content import key_of
from bulkrate.datasets.sink import Column, Sink
from bulkrate.datasets.source import BLOCK_ROWS, Problem, Source
from bulkrate.errors import SourceChanged
from bulkrate.ledger.ledger import Ledger
from bulkrate.pipeline.ends import Ends, outcome_columns
from bulkrate.pipeline.outcomes import OutcomeReader
from bulkrate.pipeline.row_files import numbers
from bulkrate.pipeline.run_folder import Partitions, RunFolder

ANSWER = "output"
RESULT_COLUMNS: tuple[Column, ...] = (
    Column("status", "string"),
    Column(ANSWER, "json"),
    Column("error", "error"),
    Column("finish_reason", "string"),
    Column("model", "string"),
    Column("input_tokens", "integer"),
    Column("output_tokens", "integer"),
    Column("attempts", "integer"),
)
ROW_NUMBER = "row"


@dataclass(slots=True)
class Delivery:
    """What was written: rows by status, and what became of the source meanwhile."""

    rows: int = 0
    by_status: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    source_changed: int = 0
    added: int = 0


class _Moved(Exception):
    """The source is not as it was: pair by key."""


def result_names(source_columns: Sequence[str]) -> dict[str, str]:
    """Names of the result columns and of the row number; one that the source has too gets `bulkrate_` before
    it, as often as it takes. In CSV an error is two columns, which are as much in the way."""
    taken = set(source_columns)
    names: dict[str, str] = {}
    for column in (Column(ROW_NUMBER, "integer"), *RESULT_COLUMNS):
        name = column.name
        while not taken.isdisjoint(_written_as(name) if column.type == "error" else (name,)):
            name = f"bulkrate_{name}"
        names[column.name] = name
    return names


def _written_as(error: str) -> tuple[str, ...]:
    return (error, f"{error}_class", f"{error}_message")


class Joiner:
    """Joins one run's outcomes to its source."""

    def __init__(
        self,
        *,
        run: str,
        ledger: Ledger,
        folder: RunFolder,
        partitions: Partitions,
        output: Output,
        key: Sequence[str] | None,
        names: Mapping[str, str],
        include: Callable[[Mapping[str, Any]], Mapping[str, Any]],
        row_numbers: Sequence[int] | None = None,
    ) -> None:
        self._run = run
        self._ledger = ledger
        self._folder = folder
        self._partitions = partitions
        self._output = output
        self._embeds = isinstance(output, Embedding)
        self._key = key
        self._include = include
        self._row_numbers = row_numbers
        self._outcomes = OutcomeReader(folder, outcome_columns(output))
        self._joined = lru_cache(maxsize=4)(self._join_partition)
        # Value by value, so that a record costs one look at each.
        self._columns = tuple(names[column.name] for column in RESULT_COLUMNS)
        self._row_number = names[ROW_NUMBER]

    def deliver(self, source: Source, open_sink: Callable[[], Sink]) -> Delivery:
        """Write the sink; whole or not at all."""
        for pair in (self._by_position, self._by_key):
            delivery = Delivery()
            sink = open_sink()
            try:
                for rows in pair(source, delivery):
                    sink.write(rows)
            except _Moved:
                sink.abort()
                continue
            except BaseException:
                sink.abort()
                raise
            sink.commit()
            return delivery
        raise AssertionError("pairing by key never gives up")

    def rows(self, source: Source, *, moved: bool) -> Iterator[list[dict[str, Any]]]:
        """The joined rows without a sink, for `Run.results`; `moved` if the source is not what it was.

        Rows that were given cannot be taken back: raises SourceChanged when it moves while it is read.
        """
        pair = self._by_key if moved else self._by_position
        try:
            yield from pair(source, Delivery())
        except _Moved:
            raise SourceChanged(
                "the source changed while the results were read", hint="ask for them again"
            ) from None

    def _by_position(self, source: Source, delivery: Delivery) -> Iterator[list[dict[str, Any]]]:
        seen = 0
        for block in source.blocks(BLOCK_ROWS):
            seen += len(block)
            if seen > self._partitions.rows:
                raise _Moved
            number, start = self._partitions.of(block.first)
            ends = self._joined(number)
            if not ends.match(start, block.rows):
                raise _Moved
            yield [
                self._record(ends, index, values, delivery) for index, values in enumerate(block.rows, start)
            ]
        if seen != self._partitions.rows:
            raise _Moved

    def _by_key(self, source: Source, delivery: Delivery) -> Iterator[list[dict[str, Any]]]:
        where = self._row_of_key()
        unseen = bytearray(b"\x01") * self._partitions.rows
        for block in source.blocks(BLOCK_ROWS):
            rows: list[dict[str, Any]] = []
            for index, values in enumerate(block.rows):
                row = self._find(where, values, block.first + index)
                if row is None or not unseen[row]:
                    delivery.added += 1
                    continue
                unseen[row] = 0
                number, place = self._partitions.of(row)
                ends = self._joined(number)
                changed = None
                if not ends.match(place, [values]):
                    changed = "the source row changed after it was sent"
                rows.append(self._record(ends, place, values, delivery, changed))
            yield rows
        for number in range(self._partitions.count):
            first = self._partitions.first(number)
            gone = [i for i in range(self._partitions.length(number)) if unseen[first + i]]
            if gone:
                ends = self._joined(number)
                said = "the source row is gone"
                yield [self._record(ends, index, None, delivery, said) for index in gone]

    def _row_of_key(self) -> dict[bytes, int]:
        where: dict[bytes, int] = {}
        for number in range(self._partitions.count):
            table = self._folder.manifest(number, ["row", "key_digest"])
            for row, digest in zip(numbers(table, "row"), table["key_digest"].to_pylist(), strict=True):
                if digest is not None:
                    where.setdefault(digest, row)
        return where

    def _find(self, where: dict[bytes, int], values: Mapping[str, Any] | None, row: int) -> int | None:
        if values is None:
            return None
        if self._key is None:
            return where.get(self._number(row).to_bytes(16, "big"))
        found = key_of(values, self._key)
        return None if isinstance(found, Problem) else where.get(found[1])

    def _number(self, row: int) -> int:
        """The row's number in the whole source."""
        return row if self._row_numbers is None else self._row_numbers[row]

    def _join_partition(self, number: int) -> Ends:
        first = self._partitions.first(number)
        vector = self._ledger.vector(self._run, number)
        manifest = self._folder.manifest(
            number, ["key", "row_hash", "reject_code", "reject_message", "where"]
        )
        duplicates = self._folder.pairs(self._folder.duplicates_path, first, first + len(vector))
        outcomes = self._outcomes.partition(first, vector)
        return Ends(
            first=first,
            vector=vector,
            outcomes=outcomes,
            manifest=manifest,
            duplicates=duplicates,
            output=self._output,
        )

    def _record(
        self,
        ends: Ends,
        index: int,
        values: Mapping[str, Any] | None,
        delivery: Delivery,
        changed: str | None = None,
    ) -> dict[str, Any]:
        end = ends.ends[index]
        if changed is not None and end[0] != "rejected":
            # Not delivered: the answer belongs to content that is no longer there.
            delivery.source_changed += 1
            end = ends.changed(index, changed)
        status, error = end[0], end[2]
        delivery.rows += 1
        delivery.by_status[status] = delivery.by_status.get(status, 0) + 1
        if error is not None:
            name = str(error["class"])
            delivery.failures[name] = delivery.failures.get(name, 0) + 1
        record: dict[str, Any] = {}
        if self._key is None:
            record[self._row_number] = self._number(ends.first + index) + 1
        elif values is None and (key := ends.key(index)) is not None:
            record.update(zip(self._key, orjson.loads(key), strict=True))
        if values is not None:
            record.update(self._include(values))
        record.update(zip(self._columns, end, strict=True))
        if self._embeds and end[1] is not None:
            record[self._columns[1]] = unpack(end[1])
        return record
