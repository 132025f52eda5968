"""State machines are tables: (state, event) -> (state, effects). Nothing else decides what happens next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

S = TypeVar("S", bound=StrEnum)
E = TypeVar("E", bound=StrEnum)


class IllegalTransition(Exception):
    """An event came in a state that does not know it: a bug, never a user's mistake."""


@dataclass(frozen=True, slots=True)
class Table(Generic[S, E]):
    """One state machine. `initial` and `final` are for the reader and the drawing."""

    name: str
    initial: S
    final: frozenset[S]
    moves: Mapping[tuple[S, E], S]

    def next(self, state: S, event: E) -> S:
        """The state after `event`. Raises IllegalTransition when the table has no such move."""
        try:
            return self.moves[(state, event)]
        except KeyError:
            raise IllegalTransition(f"{self.name}: no move from {state} on {event}") from None

    def knows(self, state: S, event: E) -> bool:
        """Whether `event` is legal in `state`."""
        return (state, event) in self.moves

    def mermaid(self) -> str:
        """The table as a Mermaid state diagram, for the docs."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        lines += [f"    {old} --> {new}: {event}" for (old, event), new in self.moves.items()]
        lines += [f"    {state} --> [*]" for state in sorted(self.final)]
        return "\n".join(lines) + "\n"


def moves(rows: Iterable[tuple[S, E, S]]) -> dict[tuple[S, E], S]:
    """Build a table's moves from rows (state, event, next state). Raises ValueError on a twin."""
    table: dict[tuple[S, E], S] = {}
    for old, event, new in rows:
        if (old, event) in table:
            raise ValueError(f"two moves from {old} on {event}")
        table[(old, event)] = new
    return table
