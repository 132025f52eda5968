"""What a run will take of the disk, before it is begun."""

from __future__ import annotations

from dataclasses import dataclass

from bulkrate.core.request import Embedding, FreeText, Output
from bulkrate.pipeline.run_folder import RunFolder

TEXT = FreeText()
# Measured 2026-11 on answers of 2 and 145 tokens of English words: raw results 22 and 269 bytes a row,
# decoded outcomes 6 and 233, a shard's row numbers 8. Rounded up: other texts compress worse.
ROW_BYTES = 50
TOKEN_BYTES = 4
# A number of an embedding, measured 2026-11 on 8,792 texts of 256: 5.9 bytes raw, 3.7 decoded.
NUMBER_BYTES = 10


@dataclass(frozen=True, slots=True)
class DiskUse:
    """`assembled_bytes` are there when the run is prepared; `results_bytes` come with the answers at their
    longest (None: nothing bounds them). The answers' own file is apart from both."""

    assembled_bytes: int
    results_bytes: int | None


def disk_use(folder: RunFolder, rows: int, output_tokens_max: int | None, output: Output = TEXT) -> DiskUse:
    """Forecast for an assembled run of which `rows` are to be sent; the tokens are the sum over all rows."""
    assembled = sum(path.stat().st_size for path in folder.root.rglob("*") if path.is_file())
    if output_tokens_max is None:
        return DiskUse(assembled, None)
    row_bytes = ROW_BYTES
    if isinstance(output, Embedding):
        if output.dimensions is None:
            return DiskUse(assembled, None)
        row_bytes += output.dimensions * NUMBER_BYTES
    return DiskUse(assembled, rows * row_bytes + output_tokens_max * TOKEN_BYTES)
