"""How the rows of one partition ended: outcomes, vector and manifest side by side, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from bulkrate.core.answer import value_of
from bulkrate.core.outcome import ErrorClass
from bulkrate.core.request import Embedding, JsonSchema, Output
from bulkrate.core.vector import RowState, Vector
from bulkrate.datasets.content import row_hash
from bulkrate.pipeline.outcomes import Columns
from bulkrate.pipeline.row_files import digests

_COLUMNS = ("error", "message", "finish_reason", "model", "input_tokens", "output_tokens")

_STATUS = {RowState.SUCCEEDED: "succeeded", RowState.FAILED: "failed", RowState.REJECTED: "rejected"}
_STATUSES = [_STATUS.get(RowState(state), "pending") for state in range(len(RowState))]

End = tuple[str, Any, dict[str, str] | None, str | None, str | None, int | None, int | None, int]
"""status, output, error, finish_reason, model, input_tokens, output_tokens, attempts"""


def outcome_columns(output: Output) -> tuple[str, ...]:
    """The columns of an outcome that a row's end is made of: its answer, and what is around it."""
    return (answer_column(output), *_COLUMNS)


def answer_column(output: Output) -> str:
    """Where the answer is kept."""
    return "embedding" if isinstance(output, Embedding) else "text"


class Ends:
    """The ends of a partition's rows, by index, as the result columns hold them."""

    def __init__(
        self,
        *,
        first: int,
        vector: Vector,
        outcomes: Columns,
        manifest: pa.Table,
        duplicates: Mapping[int, int],
        output: Output,
    ) -> None:
        self.first = first
        self._manifest = manifest
        self._hashes = digests(manifest, "row_hash")
        outputs = outcomes[answer_column(output)]
        if isinstance(output, JsonSchema):
            outputs = [value_of(output, text) for text in outputs]
        errors: list[dict[str, str] | None] = [None] * len(vector)
        for index in vector.rows_in(RowState.FAILED):
            errors[index] = _failure(outcomes, index)
        self.ends: list[End] = list(
            zip(
                [_STATUSES[state] for state in vector.states],
                outputs,
                errors,
                outcomes["finish_reason"],
                outcomes["model"],
                outcomes["input_tokens"],
                outcomes["output_tokens"],
                vector.attempts,
                strict=True,
            )
        )
        for index in vector.rows_in(RowState.REJECTED):
            error = self._rejection(index, duplicates)
            self.ends[index] = ("rejected", None, error, None, None, None, None, vector.attempts[index])

    def match(self, start: int, rows: Sequence[Mapping[str, Any] | None]) -> bool:
        """Whether `rows` are those that were assembled, from index `start` on."""
        if None in rows:
            return all(self._matches(index, row) for index, row in enumerate(rows, start))
        hashes = b"".join([row_hash(row) for row in rows if row is not None])
        return self._hashes[16 * start : 16 * (start + len(rows))] == hashes

    def _matches(self, index: int, row: Mapping[str, Any] | None) -> bool:
        digest = None if row is None else row_hash(row)
        return bool(self._manifest["row_hash"][index].as_py() == digest)

    def key(self, index: int) -> str | None:
        """The key columns' values, as a JSON array."""
        key: str | None = self._manifest["key"][index].as_py()
        return key

    def changed(self, index: int, message: str) -> End:
        """The end of a row whose answer is not delivered."""
        error = {
            "class": str(ErrorClass.SOURCE_CHANGED),
            "message": f"{message}; run the job again to answer it as it is now",
        }
        return ("failed", None, error, None, None, None, None, self.ends[index][7])

    def _rejection(self, index: int, duplicates: Mapping[int, int]) -> dict[str, str]:
        code, message, where = (
            self._manifest[name][index].as_py() for name in ("reject_code", "reject_message", "where")
        )
        if code is not None:
            place = f"{where}: " if where else ""
            return {"class": code, "message": f"{place}{message}"}
        row = self.first + index
        return {
            "class": "duplicate_key",
            "message": f"row {row + 1}: the key was seen before, at row {duplicates.get(row, 0) + 1}",
        }


def _failure(outcomes: Columns, index: int) -> dict[str, str] | None:
    if outcomes["input_tokens"][index] is None:
        return {"class": str(ErrorClass.CANCELLED), "message": "the run was cancelled first"}
    error = outcomes["error"][index]
    return None if error is None else {"class": error, "message": outcomes["message"][index]}
