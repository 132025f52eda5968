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

from bulkrate.core.answer import value_of
from bulkrate.core.outcome import ErrorClass
from bulkrate.core.request import Output
from bulkrate.core.vector import RowState, Vector
from bulkrate.datasets.content import key_of, row_hash
from bulkrate.datasets.sink import Column, Sink
from bulkrate.datasets.source import Problem, Source
from bulkrate.ledger.ledger import Ledger
from bulkrate.pipeline.assemble import PARTITION_ROWS
from bulkrate.pipeline.outcomes import OutcomeReader
from bulkrate.pipeline.run_folder import Partitions, RunFolder

RESULT_COLUMNS: tuple[Column, ...] = (
    Column("status", "string"),
    Column("output", "json"),
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
    """Names of the result columns; one that the source has too gets the prefix `bulkrate_`."""
    taken = set(source_columns)
    return {
        column.name: f"bulkrate_{column.name}" if column.name in taken else column.name
        for column in RESULT_COLUMNS
    }


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
    ) -> None:
        self._run = run
        self._ledger = ledger
        self._folder = folder
        self._partitions = partitions
        self._output = output
        self._key = key
        self._names = names
        self._include = include
        self._outcomes = OutcomeReader(folder)
        self._duplicates = folder.pairs(folder.duplicates_path)
        self._joined = lru_cache(maxsize=4)(self._join_partition)

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

    def rows(self, source: Source) -> Iterator[list[dict[str, Any]]]:
        """The joined rows without a sink, for `Run.results`. Pairs by key if the source has moved."""
        try:
            yielded = False
            for rows in self._by_position(source, Delivery()):
                yield rows
                yielded = True
        except _Moved:
            if yielded:
                raise AssertionError("the source changed while it was read") from None
            yield from self._by_key(source, Delivery())

    def _by_position(self, source: Source, delivery: Delivery) -> Iterator[list[dict[str, Any]]]:
        seen = 0
        for number, block in enumerate(source.blocks(PARTITION_ROWS)):
            if number >= self._partitions.count or len(block) != self._partitions.length(number):
                raise _Moved
            joined = self._joined(number)
            rows: list[dict[str, Any]] = []
            for values, line in zip(block.rows, joined, strict=True):
                digest = None if values is None else row_hash(values)
                if digest != line.row_hash:
                    raise _Moved
                rows.append(self._record(line, values, delivery))
            seen += len(block)
            yield rows
        if seen != self._partitions.rows:
            raise _Moved

    def _by_key(self, source: Source, delivery: Delivery) -> Iterator[list[dict[str, Any]]]:
        where = self._row_of_key()
        unseen = bytearray(b"\x01") * self._partitions.rows
        for block in source.blocks(PARTITION_ROWS):
            rows: list[dict[str, Any]] = []
            for index, values in enumerate(block.rows):
                row = self._find(where, values, block.first + index)
                if row is None or not unseen[row]:
                    delivery.added += 1
                    continue
                unseen[row] = 0
                line = self._line(row)
                changed = values is None or row_hash(values) != line.row_hash
                if changed and line.status != "rejected":
                    line = line.changed("the source row changed after it was sent", delivery)
                rows.append(self._record(line, values, delivery))
            yield rows
        gone: list[dict[str, Any]] = []
        for row in range(self._partitions.rows):
            if unseen[row]:
                line = self._line(row)
                if line.status != "rejected":
                    line = line.changed("the source row is gone", delivery)
                gone.append(self._record(line, None, delivery))
        yield gone

    def _row_of_key(self) -> dict[bytes, int]:
        where: dict[bytes, int] = {}
        for number in range(self._partitions.count):
            table = self._folder.manifest(number, ["row", "key_digest"])
            for row, digest in zip(table["row"].to_pylist(), table["key_digest"].to_pylist(), strict=True):
                if digest is not None:
                    where.setdefault(digest, row)
        return where

    def _find(self, where: dict[bytes, int], values: Mapping[str, Any] | None, row: int) -> int | None:
        if values is None:
            return None
        if self._key is None:
            return where.get(row.to_bytes(16, "big"))
        found = key_of(values, self._key)
        return None if isinstance(found, Problem) else where.get(found[1])

    def _line(self, row: int) -> _Line:
        number, index = self._partitions.of(row)
        return self._joined(number)[index]

    def _join_partition(self, number: int) -> list[_Line]:
        first = self._partitions.first(number)
        vector = self._ledger.vector(self._run, number)
        outcomes = self._outcomes.partition(first, vector)
        manifest = self._folder.manifest(
            number, ["key", "row_hash", "reject_code", "reject_message", "where"]
        ).to_pylist()
        return [
            self._line_of(first + index, index, vector, outcomes[index], manifest[index])
            for index in range(len(vector))
        ]

    def _line_of(
        self,
        row: int,
        index: int,
        vector: Vector,
        outcome: dict[str, Any] | None,
        manifest: dict[str, Any],
    ) -> _Line:
        state = RowState(vector.states[index])
        line = _Line(row, manifest["key"], manifest["row_hash"], attempts=vector.attempts[index])
        if state is RowState.REJECTED:
            line.status = "rejected"
            line.error = _rejection(row, manifest, self._duplicates)
            return line
        line.status = {RowState.SUCCEEDED: "succeeded", RowState.FAILED: "failed"}.get(state, "pending")
        if outcome is not None:
            line.text = outcome["text"]
            line.finish_reason = outcome["finish_reason"]
            line.model = outcome["model"]
            line.input_tokens = outcome["input_tokens"]
            line.output_tokens = outcome["output_tokens"]
            if outcome["error"] is not None and state is RowState.FAILED:
                line.error = {"class": outcome["error"], "message": outcome["message"]}
        elif state is RowState.FAILED:
            line.error = {"class": str(ErrorClass.CANCELLED), "message": "the run was cancelled first"}
        return line

    def _record(self, line: _Line, values: Mapping[str, Any] | None, delivery: Delivery) -> dict[str, Any]:
        delivery.rows += 1
        delivery.by_status[line.status] = delivery.by_status.get(line.status, 0) + 1
        if line.error is not None:
            name = str(line.error["class"])
            delivery.failures[name] = delivery.failures.get(name, 0) + 1
        record: dict[str, Any] = {}
        if self._key is None:
            record[ROW_NUMBER] = line.row + 1
        elif values is None and line.key is not None:
            record.update(zip(self._key, orjson.loads(line.key), strict=True))
        if values is not None:
            record.update(self._include(values))
        names = self._names
        answered = line.input_tokens is not None
        record[names["status"]] = line.status
        record[names["output"]] = value_of(self._output, line.text)
        record[names["error"]] = line.error
        record[names["finish_reason"]] = line.finish_reason
        record[names["model"]] = line.model
        record[names["input_tokens"]] = line.input_tokens if answered else None
        record[names["output_tokens"]] = line.output_tokens if answered else None
        record[names["attempts"]] = line.attempts
        return record


@dataclass(slots=True)
class _Line:
    """A row's end, before it meets the source."""

    row: int
    key: str | None
    row_hash: bytes | None
    status: str = "pending"
    text: str | None = None
    error: dict[str, str] | None = None
    finish_reason: str | None = None
    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    attempts: int = 0

    def changed(self, message: str, delivery: Delivery) -> _Line:
        """The same row, not delivered: its answer belongs to content that is no longer there."""
        delivery.source_changed += 1
        error = {
            "class": str(ErrorClass.SOURCE_CHANGED),
            "message": f"{message}; run the job again to answer it as it is now",
        }
        return _Line(self.row, self.key, self.row_hash, "failed", error=error, attempts=self.attempts)


def _rejection(row: int, manifest: Mapping[str, Any], duplicates: Mapping[int, int]) -> dict[str, str]:
    if manifest["reject_code"] is not None:
        message = manifest["reject_message"]
        where = f"{manifest['where']}: " if manifest["where"] else ""
        return {"class": manifest["reject_code"], "message": f"{where}{message}"}
    return {
        "class": "duplicate_key",
        "message": f"row {row + 1}: the key was seen before, at row {duplicates.get(row, 0) + 1}",
    }
