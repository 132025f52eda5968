"""The faults a provider can be told to have, as plain values: parsing, budgets and seeded choices.

Nothing here knows HTTP, a dialect, a clock or a file. A fault is written ``name=count`` followed by
options, for instance ``missing=2``, ``expire_after=600,batches=2`` or ``hold_create=1,when=before``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Final

from bulkrate.testing.fault_kinds import (
    CONTENT,
    FAULTS,
    LIMITED,
    OPERATIONS,
    UNKNOWN_WORDS,
    WHEN,
    WORDS,
    Fate,
    FaultKind,
    Scope,
)

__all__ = [
    "ALL",
    "CONTENT",
    "FAULTS",
    "OPERATIONS",
    "UNKNOWN_WORDS",
    "Fate",
    "Fault",
    "FaultError",
    "FaultKind",
    "FaultPlan",
    "Scope",
]

ALL: Final = -1
"""The value of ``batches`` that means every batch (written ``batches=all``)."""


class FaultError(ValueError):
    """A fault string that names no fault, no option of it, or a value it cannot have."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault with its parameters.

    ``skip`` batches (or calls) behave first. ``batches`` is how many misbehave after them (``ALL``: every
    one); for faults that count calls or batches, ``count`` stands in that place.
    """

    name: str
    count: int
    batches: int = 1
    skip: int = 0
    options: Mapping[str, int | str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Fault:
        """Read ``name=count[,option=value]…``; raises ``FaultError`` with what would have been right."""
        head, *rest = (part.strip() for part in text.split(","))
        name, _, value = head.partition("=")
        kind = FAULTS.get(name)
        if kind is None:
            near = get_close_matches(name, FAULTS, n=3) or list(FAULTS)
            there = "there is" if len(near) == 1 else "there are"
            raise FaultError(f"unknown fault {name!r}; {there}: {', '.join(near)}")
        count = _number(name, value or "1")
        batches, skip, options = 1, 0, dict(kind.options)
        for part in rest:
            key, _, option = part.partition("=")
            if key == "batches" and kind.scope is Scope.BATCH:
                batches = ALL if option == "all" else _number(key, option)
            elif key == "skip" and kind.scope is not Scope.STANDING:
                skip = _number(key, option)
            elif key in kind.options:
                options[key] = _option(name, key, option)
            else:
                known = ", ".join([*kind.options, "batches", "skip"])
                raise FaultError(f"fault {name!r} has no option {key!r}; it has: {known}")
        if kind.scope is Scope.BATCHES:
            batches = count
        return cls(name, count, batches, skip, options)

    def __str__(self) -> str:
        parts = [f"{self.name}={self.count}"]
        if self.batches != 1 and FAULTS[self.name].scope is Scope.BATCH:
            parts.append(f"batches={'all' if self.batches == ALL else self.batches}")
        if self.skip:
            parts.append(f"skip={self.skip}")
        defaults = FAULTS[self.name].options
        parts += [f"{key}={value}" for key, value in self.options.items() if value != defaults[key]]
        return ",".join(parts)

    def number(self, option: str) -> int:
        """The value of a numeric option."""
        return int(self.options[option])

    def word(self, option: str) -> str:
        """The value of a word option."""
        return str(self.options[option])


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """A set of faults and the seed from which every choice of rows and every order follows."""

    faults: tuple[Fault, ...] = ()
    seed: int = 0

    @classmethod
    def parse(cls, faults: str | Iterable[str | Fault] = (), *, seed: int = 0) -> FaultPlan:
        """Read one string (faults apart by spaces) or several; raises ``FaultError``."""
        items = faults.split() if isinstance(faults, str) else list(faults)
        parsed = tuple(item if isinstance(item, Fault) else Fault.parse(item) for item in items)
        names = [fault.name for fault in parsed if FAULTS[fault.name].scope is not Scope.CALL]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise FaultError(f"given twice: {', '.join(twice)}")
        return cls(parsed, seed)

    def __str__(self) -> str:
        return " ".join(str(fault) for fault in self.faults)

    def on_batch(self, name: str, ordinal: int) -> Fault | None:
        """The fault ``name`` if it applies to the ``ordinal``-th batch (from 0) under this plan."""
        for fault in self.faults:
            if fault.name == name:
                nth = ordinal - fault.skip
                return fault if nth >= 0 and (fault.batches == ALL or nth < fault.batches) else None
        return None

    def named(self, name: str) -> Fault | None:
        """The fault ``name`` if the plan has it, whatever its budget."""
        return next((fault for fault in self.faults if fault.name == name), None)

    def on_call(self, operation: str, nth: int) -> Fault | None:
        """The fault that interrupts the ``nth`` call (from 0) of ``operation``: the first that does."""
        for fault in self.faults:
            if FAULTS[fault.name].operation == operation and 0 <= nth - fault.skip < fault.count:
                return fault
        rate = self.named("creation_rate")
        if (
            rate is not None
            and operation == "create"
            and nth % (rate.count + rate.number("refused")) >= rate.count
        ):
            return rate
        return None

    def on_content(self, nth: int) -> dict[str, Fault]:
        """What befalls the bytes of the ``nth`` download (from 0) that is being sent; faults add up here."""
        return {
            fault.name: fault
            for fault in self.faults
            if FAULTS[fault.name].operation == CONTENT and 0 <= nth - fault.skip < fault.count
        }

    def choose(self, label: str, ordinal: int, candidates: Sequence[int], count: int) -> list[int]:
        """``count`` of ``candidates`` (all, if there are fewer): the same for the same seed."""
        chosen = self.rng(label, ordinal).sample(candidates, min(count, len(candidates)))
        return sorted(chosen)

    def rng(self, label: str, ordinal: int) -> random.Random:
        """An independent seeded generator for one purpose, so that adding a fault moves no other choice."""
        return random.Random(f"{self.seed}/{label}/{ordinal}")  # noqa: S311 - reproducible, not secret

    def fates(
        self,
        ordinal: int,
        *,
        rows: int,
        done: int,
        unfinished: Fate,
        refused: Collection[int],
        can_truncate: Callable[[int], bool],
        can_break: Callable[[int], bool],
    ) -> dict[int, Fate]:
        """How each row of a batch ends; rows that are simply answered are left out.

        ``done`` of ``rows`` were run, the others end as ``unfinished``. ``refused`` are rows that no
        provider would accept. ``can_truncate`` and ``can_break`` say which rows those faults may hit.
        """
        fates: dict[int, Fate] = {}
        if done < rows:
            fates = dict.fromkeys(self.choose("done", ordinal, range(rows), rows - done), unfinished)
        if self.on_batch("no_output", ordinal) is not None:
            refused = range(rows)
        fates |= {row: Fate.REFUSED for row in refused if row not in fates}
        picks: tuple[tuple[str, Fate, Callable[[int], bool] | None], ...] = (
            ("missing", Fate.MISSING, None),
            ("bad_rows", Fate.REFUSED, None),
            ("refused_in_output", Fate.REFUSED_IN_OUTPUT, None),
            ("cut_lines", Fate.CUT_LINE, None),
            ("bad_utf8", Fate.BAD_UTF8, None),
            ("empty_body", Fate.EMPTY_BODY, None),
            ("truncate", Fate.TRUNCATED, can_truncate),
            ("bad_json", Fate.BAD_JSON, can_break),
        )
        for name, fate, allowed in picks:
            fault = self.on_batch(name, ordinal)
            if fault is not None:
                pool = [row for row in range(rows) if row not in fates and (allowed is None or allowed(row))]
                fates |= dict.fromkeys(self.choose(name, ordinal, pool, fault.count), fate)
        return fates


def _number(key: str, text: str) -> int:
    if not text.isdecimal():
        raise FaultError(f"{key} wants a whole number of at least 0, not {text!r}")
    return int(text)


def _option(name: str, key: str, text: str) -> int | str:
    words = WORDS.get((name, key), WHEN if key == "when" else None)
    if words is None:
        number, allowed = _number(key, text), LIMITED.get(key)
        if allowed is not None and number not in allowed:
            raise FaultError(f"{key} is a number from {allowed.start} to {allowed.stop - 1}, not {number}")
        return number
    if text not in words:
        raise FaultError(f"{key} is one of {', '.join(words)}, not {text!r}")
    return text
