"""The resolution vector as it lies in the table: version 1 of `core.vector`, compressed."""

from __future__ import annotations

import zstandard

from bulkrate.core.vector import Vector
from bulkrate.errors import LedgerError

# Level 1 takes a third of a millisecond for 10k rows; higher levels save little on bytes this regular.
_LEVEL = 1


def to_blob(vector: Vector) -> bytes:
    """The compressed vector."""
    return zstandard.ZstdCompressor(level=_LEVEL).compress(vector.to_bytes())


def from_blob(blob: bytes, *, run: str, number: int) -> Vector:
    """Read a vector. Raises LedgerError naming the run and the partition when it is damaged."""
    try:
        return Vector.from_bytes(zstandard.ZstdDecompressor().decompress(blob))
    except (zstandard.ZstdError, ValueError) as error:
        raise LedgerError(
            f"the resolution vector of run {run}, partition {number} is damaged: {error}",
            code="ledger_damaged",
            hint="`bulkrate recollect` builds it again from the raw result files",
        ) from None
