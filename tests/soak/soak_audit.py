"""The rules, checked after every commit, at every delivery and at the end."""

from __future__ import annotations

import sqlite3
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from soak_books import Books, Fate, Taken
from soak_plan import ATTEMPTS, Plan, Row, answer_to
from soak_time import EPOCH

from bulkrate.core.usage import Usage
from bulkrate.core.vector import RowState
from bulkrate.ledger.blob import from_blob
from bulkrate.pricing import price, rate

# The states of a shard in which what was sent may be billed, by the audit's own list.
MAY_COST = {"creating", "in_doubt", "fenced", "submitted", "sending", "ended", "landed"}

RATE = rate("openai", "gpt-4o-mini", "batch", EPOCH)

GIVEN_UP_AT_ONCE = {Fate.REFUSED}


class Audit:
    """Compares the source, the ledger, the delivered rows and the provider's books."""

    def __init__(self, folder: Path, plan: Plan, books: Books) -> None:
        self.folder = folder
        self.plan = plan
        self.books = books
        self.rows = plan.rows
        self.edited = False
        self.snapshot_done = False
        self.budget: Decimal | None = Decimal(0)  # of the ledger; None: none
        self._wanted: set[tuple[str, str]] = set()  # (key, prompt) of every row that may be asked
        self._snapshots: dict[str, list[Row]] = {}
        self._reader: sqlite3.Connection | None = None
        self._answered: dict[tuple[str, int], tuple[bytes, list[int]]] = {}

    # -- the source ----------------------------------------------------------------------------------------

    def write_source(self) -> None:
        """Write the rows as they are now."""
        lines = [orjson.dumps({"id": row.key, "body": row.body}) for row in self.rows]
        (self.folder / "rows.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        self._wanted |= {(row.key, row.body) for row in sendable(self.rows)}

    def snapshot_of(self, run: str) -> list[Row]:
        """The rows a run is about: those there were when it was first seen."""
        return self._snapshots.setdefault(run, self.rows)

    def allowed(self) -> Counter[str]:
        """For each prompt, how many answers may be had: one per row, or one in all if answers are reused."""
        most = Counter(prompt for _, prompt in self._wanted)
        return Counter(dict.fromkeys(most, 1)) if self.plan.exact and not self.edited else most

    # -- after every commit --------------------------------------------------------------------------------

    def of_ledger(self) -> str | None:
        """Every partition adds up, agrees with its vector, and no answered row is taken back."""
        for (begun,) in self._connection().execute("SELECT id FROM runs"):
            self.snapshot_of(begun)
        cursor = self._connection().execute(
            "SELECT p.run, p.number, p.rows, p.succeeded, p.failed, p.rejected, p.pending, v.content,"
            " r.state, r.rows FROM partitions p JOIN vectors v ON v.run = p.run AND v.number = p.number"
            " JOIN runs r ON r.id = p.run"
        )
        for run, number, rows, succeeded, failed, rejected, pending, content, state, all_rows in cursor:
            vector = from_blob(content, run=run, number=number)
            counted = vector.balance()
            if (succeeded, failed, rejected, pending) != (
                counted.succeeded, counted.failed, counted.rejected, counted.pending,
            ) or counted.rows != rows:  # fmt: skip
                return f"partition {number} says {succeeded}+{failed}+{rejected}+{pending}, counted {counted}"
            if state != "assembling" and all_rows != rows:
                return f"the run has {all_rows} rows, its only partition {rows}"
            before = self._answered.get((run, number))
            if before is not None:
                for index, old in enumerate(before[0]):
                    if old == RowState.SUCCEEDED and (
                        vector.states[index] != old or vector.shards[index] != before[1][index]
                    ):
                        return f"row {index} was answered by shard {before[1][index]} and is taken back"
            self._answered[run, number] = (bytes(vector.states), list(vector.shards))
        return self._of_reservations()

    def _of_reservations(self) -> str | None:
        """Money is reserved for exactly the shards that may cost something, settled for those that did."""
        cursor = self._connection().execute(
            "SELECT s.run, s.number, s.state, r.id, r.settled_at FROM shards s"
            " LEFT JOIN reservations r ON r.run = s.run AND r.shard = s.number"
        )
        for run, number, state, reserved, settled_at in cursor:
            held = None if reserved is None else "settled" if settled_at else "open"
            wanted = "open" if state in MAY_COST else "settled" if state == "collected" else None
            if held != wanted:
                return f"shard {number} of {run} is {state}, its reservation is {held}"
        if not self.plan.budgeted or self.budget is None:
            return None
        amounts = self._connection().execute("SELECT coalesce(cost, reserved) FROM reservations")
        counted = sum((Decimal(amount) for (amount,) in amounts), Decimal(0))
        return f"{counted} counts against the budget of {self.budget}" if counted > self.budget else None

    def _connection(self) -> sqlite3.Connection:
        if self._reader is None:
            self._reader = sqlite3.connect(self.folder / ".bulkrate" / "ledger.sqlite")
        return self._reader

    def forget_ledger(self) -> None:
        """The disk was lost."""
        self.close()
        self._answered.clear()

    def close(self) -> None:
        """Let go of the ledger."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    # -- at every create, and whenever a process ended ------------------------------------------------------

    def of_budget(self) -> str | None:
        """What the provider has billed is within the budget."""
        if not self.plan.budgeted or self.budget is None:
            return None
        cost = sum((price(RATE, billed(taken)) for taken in self.books.taken), Decimal(0))
        return f"{cost} was billed, over the budget of {self.budget}" if cost > self.budget else None

    # -- at every delivery ---------------------------------------------------------------------------------

    def of_joins(self) -> str | None:
        """No row carries another row's answer, whatever was done to the source meanwhile."""
        here = {(row.key, row.body) for row in self.rows}
        for line in self._sink():
            if line["status"] != "succeeded":
                continue
            if (line["id"], line["body"]) not in here:
                return f"{line['id']} is delivered, but it is not in the source"
            if line["output"] != answer_to(line["body"], choice=self.plan.choice):
                return f"{line['id']} has an answer that is not its own: {line['output']}"
        return None

    def _sink(self) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in (self.folder / "answers.jsonl").read_bytes().splitlines()]

    # -- at the end ----------------------------------------------------------------------------------------

    def of_end(self, run: str) -> str | None:
        """Every row is accounted for, every paid answer delivered, and the money adds up."""
        if not self.snapshot_done:
            return "the job is not done with the source as it is"
        return self.of_joins() or self._of_rows(run) or self._of_money()

    def _of_rows(self, run: str) -> str | None:
        lines = self._sink()
        if [(line["id"], line["body"]) for line in lines] != [(row.key, row.body) for row in self.rows]:
            return f"{len(self.rows)} rows in, {len(lines)} out, or in another order"
        good = [index for index, _ in sendable_at(self.rows)]
        for index, line in enumerate(lines):
            if (line["status"] == "rejected") is (index in good):
                return f"row {index} ({line['id']}) is {line['status']}"
            if line["status"] == "pending":
                return f"row {index} is still pending"
        by_status = Counter(line["status"] for line in lines)
        vector = self._answered[run, 0][0] if self.rows else b""
        for state in (RowState.SUCCEEDED, RowState.FAILED, RowState.REJECTED):
            if vector.count(state) != by_status[state.name.lower()]:
                return f"{by_status[state.name.lower()]} rows delivered as {state.name}, the vector differs"
        return self._of_answers(run, [lines[index] for index in good])

    def _of_answers(self, run: str, lines: list[dict[str, Any]]) -> str | None:
        groups: dict[str, list[dict[str, Any]]] = {}
        for line in lines:
            groups.setdefault(line["body"], []).append(line)
        for prompt, group in groups.items():
            history = self.books.history(prompt)
            fates = [fate for _, fate in history]
            succeeded = sum(line["status"] == "succeeded" for line in group)
            answered = fates.count(Fate.ANSWERED)
            if succeeded and not answered:
                return f"{group[0]['id']} succeeded, but the provider never answered it"
            enough = 1 if self.plan.exact else len(group)
            if not self.edited and answered and succeeded < min(answered, len(group)):
                return f"{group[0]['id']}: {answered} answers were paid, {succeeded} are delivered"
            if answered >= enough and succeeded < len(group) and not self.edited:
                return f"{group[0]['id']}: answered, but not for every row with this prompt"
            if succeeded < len(group) and len(group) == 1:
                mine = [fate for tag, fate in history if tag == run]
                if not given_up(mine):
                    return f"{group[0]['id']} was given up after {[str(fate) for fate in mine]}"
            if len(group) == 1 and not self.edited and group[0]["attempts"] != len(history):
                return f"{group[0]['id']}: {group[0]['attempts']} attempts told, {len(history)} accepted"
        return None

    def _of_money(self) -> str | None:
        ledger = self._connection()
        collected = dict(ledger.execute("SELECT batch_id, run FROM shards WHERE state = 'collected'"))
        spent: dict[str, Usage] = {}
        for taken in self.books.taken:
            if collected.get(taken.batch.id) != taken.tag:
                return f"batch {taken.batch.id} of shard {taken.shard} was paid for and never collected"
            spent[taken.tag] = spent.get(taken.tag, Usage()) + billed(taken)
        told = ledger.execute("SELECT run, sum(input_tokens), sum(output_tokens) FROM usage GROUP BY run")
        booked = {run: (given, made) for run, given, made in told if given or made}
        billed_by_run = {
            run: (used.input_tokens, used.output_tokens) for run, used in spent.items() if used.input_tokens
        }
        if booked != billed_by_run:
            return f"usage {booked}, the provider billed {billed_by_run}"
        settled: dict[str, Decimal] = {}
        for run, cost in ledger.execute("SELECT run, cost FROM reservations"):
            settled[run] = settled.get(run, Decimal(0)) + Decimal(cost)
        untold = {run for (run,) in ledger.execute("SELECT run FROM batches WHERE input_tokens IS NULL")}
        for run, used in spent.items():
            # Lost rows of a batch without a total count at their worst.
            counted, cost = settled[run], price(RATE, used)
            if counted < cost or (counted > cost and run not in untold):
                return f"run {run} counts {counted} against budgets, and cost {cost}"
        return None


def billed(taken: Taken) -> Usage:
    """What the provider billed for a batch."""
    used = taken.batch.usage
    return Usage() if used is None else Usage(used.input_tokens, used.output_tokens)


def given_up(fates: list[Fate]) -> bool:
    """Whether a row may be given up after these attempts."""
    if len(fates) >= ATTEMPTS or Fate.REFUSED in fates:
        return True
    return fates.count(Fate.TRUNCATED) >= 2 or fates.count(Fate.INVALID) >= 2


def sendable(rows: list[Row]) -> list[Row]:
    """The rows that are not rejected: a prompt that is not blank, a key that no such row had before."""
    return [row for _, row in sendable_at(rows)]


def sendable_at(rows: list[Row]) -> list[tuple[int, Row]]:
    """The same with their places."""
    seen: set[str] = set()
    good = []
    for index, row in enumerate(rows):
        if row.key not in seen and row.body.strip():
            good.append((index, row))
            seen.add(row.key)
    return good
