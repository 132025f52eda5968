"""Reasons: for each class of failure, what was said about the first row that failed so."""

from __future__ import annotations

from bulkrate.core.outcome import CLASS_OF_CODE
from bulkrate.core.vector import NO_SHARD, RowState
from bulkrate.ledger.ledger import Ledger
from bulkrate.pipeline.outcomes import outcome_of_row
from bulkrate.pipeline.run_folder import RunFolder


def first_reasons(ledger: Ledger, folder: RunFolder, run: str) -> dict[str, str]:
    """Error class to the message of the first failed row of that class, in row order.

    Messages are the provider's or our own; an outcome without one has no entry.
    """
    found: dict[str, str] = {}
    seen: set[int] = set()
    for part, vector in ledger.vectors(run):
        for index in vector.rows_in(RowState.FAILED):
            code, shard = vector.errors[index], vector.shards[index]
            if code in seen:
                continue
            seen.add(code)
            if code not in CLASS_OF_CODE or shard == NO_SHARD:
                continue
            row = part.first_row + index
            leader = folder.pairs(folder.aliases_path, row, row + 1).get(row, row)
            outcome = outcome_of_row(folder, shard, leader)
            if outcome is not None and outcome["message"]:
                found[str(CLASS_OF_CODE[code])] = outcome["message"]
    return found
