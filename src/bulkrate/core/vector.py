"""The resolution vector: the truth about every row of a partition, in seven bytes a row.

Four parallel arrays: state, error class, attempts, winning shard. The ledger keeps it as a blob and writes
it in the transaction that records a collected shard. Which rows are pending is a scan, the first answer
wins by compare-and-set, and the balance is a count.

Blob, version 1: `BRV1`, rows as u32, then the arrays of rows x u8, u8, u8, u32, all little-endian.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from bulkrate.core.outcome import CLASS_OF_CODE, ERROR_CODES, ErrorClass

MAGIC = b"BRV1"
NO_SHARD = 0xFFFFFFFF
_HEADER_BYTES = len(MAGIC) + 4
_ONE_MORE = bytes([*range(1, 256), 255])  # attempts saturate


class RowState(IntEnum):
    """One byte per row; numbers are for ever."""

    PENDING = 0
    SUCCEEDED = 1
    FAILED = 2
    REJECTED = 3
    ALIAS = 4  # answered by another row of the run; resolved when that row is


_STATES = bytes(RowState)


@dataclass(frozen=True, slots=True)
class Balance:
    """rows = succeeded + failed + rejected + pending, after every event."""

    succeeded: int = 0
    failed: int = 0
    rejected: int = 0
    pending: int = 0

    @property
    def rows(self) -> int:
        return self.succeeded + self.failed + self.rejected + self.pending

    def __add__(self, other: Balance) -> Balance:
        return Balance(
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.rejected + other.rejected,
            self.pending + other.pending,
        )


class Vector:
    """The mutable vector of one partition. Row indexes are relative to the partition."""

    __slots__ = ("attempts", "errors", "shards", "states")

    def __init__(self, rows: int) -> None:
        self.states = bytearray(rows)
        self.errors = bytearray(rows)
        self.attempts = bytearray(rows)
        self.shards = array("I", [NO_SHARD]) * rows
        if self.shards.itemsize != 4:  # pragma: no cover - no supported platform
            raise AssertionError("array('I') is not 32 bits wide here")

    def __len__(self) -> int:
        return len(self.states)

    @property
    def untouched(self) -> bool:
        """Whether all rows are pending and none was ever sent."""
        return self.states.count(0) == self.errors.count(0) == len(self)

    def reject(self, row: int) -> None:
        """The row is never sent."""
        self.states[row] = RowState.REJECTED

    def alias(self, row: int) -> None:
        """The row takes the end of another row."""
        self.states[row] = RowState.ALIAS

    def succeed(self, row: int, shard: int) -> bool:
        """First success wins: False (and no change) when the row is already answered or rejected."""
        if self.states[row] in (RowState.SUCCEEDED, RowState.REJECTED):
            return False
        self.states[row] = RowState.SUCCEEDED
        self.errors[row] = 0
        self.shards[row] = shard
        return True

    def all_pending(self, start: int, stop: int) -> bool:
        """Whether every row in [start, stop) is pending."""
        return self.states.count(RowState.PENDING, start, stop) == stop - start

    def succeed_all(self, start: int, stop: int, shard: int) -> None:
        """Pending rows in [start, stop) are answered; counts the attempt that did it."""
        rows = stop - start
        self.states[start:stop] = bytes([RowState.SUCCEEDED]) * rows
        self.errors[start:stop] = bytes(rows)
        self.attempts[start:stop] = self.attempts[start:stop].translate(_ONE_MORE)
        self.shards[start:stop] = array("I", [shard]) * rows

    def miss(self, row: int, shard: int, error: ErrorClass, *, final: bool) -> bool:
        """Record a failed attempt; `final` ends the row. An answered row is never taken back.

        A row that was given up stays so whatever comes late: only `reopen` sends it again.
        """
        if self.states[row] in (RowState.SUCCEEDED, RowState.REJECTED):
            return False
        ended = final or self.states[row] == RowState.FAILED
        self.states[row] = RowState.FAILED if ended else RowState.PENDING
        self.errors[row] = ERROR_CODES[error]
        self.shards[row] = shard
        return True

    def count_attempt(self, row: int) -> None:
        """One more attempt was used up (saturates at 255)."""
        self.attempts[row] = min(self.attempts[row] + 1, 255)

    def reopen(self, row: int) -> None:
        """A failed row may be sent again (the user asked): its attempts start anew."""
        if self.states[row] == RowState.FAILED:
            self.states[row] = RowState.PENDING
            self.attempts[row] = 0

    def error_of(self, row: int) -> ErrorClass | None:
        """Class of the last failed attempt."""
        return CLASS_OF_CODE.get(self.errors[row])

    def rows_in(self, state: RowState) -> Iterator[int]:
        """Row indexes in `state`, ascending."""
        position = self.states.find(state)
        while position >= 0:
            yield position
            position = self.states.find(state, position + 1)

    def balance(self) -> Balance:
        """Counts by state. An alias counts as pending until it is settled by `settle_aliases`."""
        count = self.states.count
        return Balance(
            succeeded=count(RowState.SUCCEEDED),
            failed=count(RowState.FAILED),
            rejected=count(RowState.REJECTED),
            pending=count(RowState.PENDING) + count(RowState.ALIAS),
        )

    def to_bytes(self) -> bytes:
        """The blob, version 1."""
        shards = self.shards
        if sys.byteorder == "big":  # pragma: no cover - no supported platform
            shards = array("I", shards)
            shards.byteswap()
        head = MAGIC + len(self).to_bytes(4, "little")
        return b"".join([head, self.states, self.errors, self.attempts, shards.tobytes()])

    @classmethod
    def from_bytes(cls, blob: bytes) -> Vector:
        """Read a blob. Raises ValueError when it is not a whole vector of version 1."""
        rows = int.from_bytes(blob[len(MAGIC) : _HEADER_BYTES], "little")
        if blob[: len(MAGIC)] != MAGIC or len(blob) != _HEADER_BYTES + 7 * rows:
            raise ValueError("not a resolution vector of version 1")
        vector = cls(0)
        body = blob[_HEADER_BYTES:]
        if body[:rows].translate(None, _STATES):
            raise ValueError("a damaged resolution vector: a row in no known state")
        vector.states = bytearray(body[:rows])
        vector.errors = bytearray(body[rows : 2 * rows])
        vector.attempts = bytearray(body[2 * rows : 3 * rows])
        vector.shards = array("I")
        vector.shards.frombytes(body[3 * rows :])
        if sys.byteorder == "big":  # pragma: no cover - no supported platform
            vector.shards.byteswap()
        return vector


def settle_alias(alias: Vector, row: int, leader: Vector, leader_row: int) -> bool:
    """Give an alias the end of its leader; False while the leader has none."""
    state = leader.states[leader_row]
    if state not in (RowState.SUCCEEDED, RowState.FAILED):
        return False
    alias.states[row] = state
    alias.errors[row] = leader.errors[leader_row]
    alias.attempts[row] = leader.attempts[leader_row]
    alias.shards[row] = leader.shards[leader_row]
    return True


def total(balances: Iterable[Balance]) -> Balance:
    """Sum of balances."""
    result = Balance()
    for balance in balances:
        result = result + balance
    return result
