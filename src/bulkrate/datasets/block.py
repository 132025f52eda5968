"""What a source hands over: blocks of rows, and the problems of the rows that could not be read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

from bulkrate.core.problem import Problem

__all__ = ["Block", "BlockBuilder", "Places", "Portion", "Problem"]


class Places(Sequence[str]):
    """Where each row of a block came from ("tickets.csv:7"), computed when asked for.

    Rows mostly sit on consecutive lines, so only the breaks are stored: (index of the first row,
    text before the number, number). A text per row would cost as much as parsing it.
    """

    __slots__ = ("breaks", "length")

    def __init__(self, breaks: list[tuple[int, str, int]], length: int) -> None:
        self.breaks = breaks
        self.length = length

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.length))]
        if index < 0:
            index += self.length
        if not 0 <= index < self.length:
            raise IndexError(index)
        first, prefix, number = self.breaks[bisect_right(self.breaks, index, key=lambda b: b[0]) - 1]
        return f"{prefix}{number + index - first}"

    def __iter__(self) -> Iterator[str]:
        return (self[i] for i in range(self.length))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, (Places, list, tuple)):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(list(self))


@dataclass(slots=True)
class Block:
    """Consecutive rows of a source.

    `first`: number of the first row, 0-based over the whole source.
    `rows`: one mapping per row, None where the row could not be read. Every row that is given
    can be written as JSON (UTF-8 text, integers of 64 bits, finite numbers, at most 200 levels deep).
    `problems`: index into `rows` -> why it is None.
    `where`: per row, its file and line (or row) for messages.
    """

    first: int
    rows: list[dict[str, Any] | None]
    problems: dict[int, Problem]
    where: Sequence[str]

    def __len__(self) -> int:
        return len(self.rows)

    def blocks(self, size: int) -> Iterator[Block]:
        """Itself, whatever its size: a block is a `Portion` that is parsed already."""
        yield self


class Portion(Protocol):
    """Consecutive rows that are read but perhaps not parsed yet: what is cheap to hand to another process.

    A portion can be pickled.
    """

    first: int

    def blocks(self, size: int) -> Iterator[Block]:
        """Its rows, in blocks of `size` (the last one smaller)."""
        ...


class BlockBuilder:
    """Collects rows into blocks of exactly `size` rows, across the files of a source.

    Readers append to `rows` themselves (that is the hot path), call `place` when the next row does
    not follow the last one's line, and `take` when `full`.
    """

    __slots__ = ("_breaks", "_first", "problems", "rows", "size")

    def __init__(self, size: int, first: int = 0) -> None:
        """`first`: number of the first row to come."""
        if size < 1:
            raise ValueError("a block has at least one row")
        self.size = size
        self.rows: list[dict[str, Any] | None] = []
        self.problems: dict[int, Problem] = {}
        self._first = first
        self._breaks: list[tuple[int, str, int]] = []

    @property
    def room(self) -> int:
        """How many rows still fit."""
        return self.size - len(self.rows)

    @property
    def full(self) -> bool:
        """No row fits any more."""
        return len(self.rows) >= self.size

    def place(self, prefix: str, number: int) -> None:
        """The next row is at `prefix` + `number`, the rows after it at the numbers that follow."""
        here = (len(self.rows), prefix, number)
        if self._breaks and self._breaks[-1][0] == here[0]:
            self._breaks[-1] = here
        else:
            self._breaks.append(here)

    def reject(self, problem: Problem) -> None:
        """The next row could not be read."""
        self.problems[len(self.rows)] = problem
        self.rows.append(None)

    def take(self) -> Block:
        """The rows collected so far as a block; collecting starts again behind them."""
        block = Block(self._first, self.rows, self.problems, Places(self._breaks, len(self.rows)))
        index, prefix, number = self._breaks[-1]
        self._breaks = [(0, prefix, number + len(self.rows) - index)]
        self._first += len(self.rows)
        self.rows, self.problems = [], {}
        return block
