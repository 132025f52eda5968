"""A run of the soak as a plan: everything that is random about it, drawn from one seed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

LABELS = ("billing", "bug", "praise", "other")
TIMEOUTS = {"CREATE_TIMEOUT_S": "20", "UPLOAD_TIMEOUT_S": "30", "LISTING_LAG_S": "15", "LEASE_MARGIN_S": "5"}
LISTING_LAG_S = 15.0
LEASE_S = 55.0  # create and upload timeouts and the margin
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the source: its key and its text, which is the prompt."""

    key: str
    body: str


@dataclass(slots=True)
class Session:
    """One simulated process, and what happens before it starts."""

    kill_after: int | None = None
    pause_s: float = 0.0
    faults: str | None = None  # None: as they are
    trouble_rate: float = 0.0
    listing_lag_s: float = 0.0
    lose_disk: bool = False  # rm -rf of the state directory
    edit: bool = False
    timeout_s: float | None = None
    until_submitted: bool = False
    stop_after: int | None = (
        None  # stopped at this step of a call, for longer than its lease; another takes over
    )
    stopped_s: float = 0.0


@dataclass(slots=True)
class Plan:
    """One run of the soak."""

    seed: int
    rows: list[Row]
    choice: bool
    reuse: str | None
    shard_rows: int
    poll_s: float
    polls: int
    disk: bool = False  # the state directory may be lost
    sessions: list[Session] = field(default_factory=list)

    @property
    def budgeted(self) -> bool:
        """Whether the ledger has a budget, raised from process to process. A lost ledger would forget it."""
        return self.seed % 10 == 4 and not self.disk

    @property
    def exact(self) -> bool:
        """Whether equal prompts are answered once."""
        return self.reuse == "exact" or (self.reuse is None and self.choice)

    def job(self) -> dict[str, Any]:
        """The job document."""
        request: dict[str, Any] = {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}"}
        if self.choice:
            request["output"] = {"choice": list(LABELS)}
        else:
            request["max_output_tokens"] = 40
        job = {
            "name": "soak",
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": request,
            "sink": {"path": "answers.jsonl", "include": "all"},
            "attempts": ATTEMPTS,
        }
        return job | ({} if self.reuse is None else {"reuse": self.reuse})


def answer_to(prompt: str, *, choice: bool) -> str:
    """What the provider answers to a prompt; the soak's own truth about every row."""
    digest = blake2b(prompt.encode(), digest_size=8).digest()
    return LABELS[digest[0] % len(LABELS)] if choice else f"re {digest.hex()}"


def make_plan(seed: int) -> Plan:
    """The plan of a seed."""
    dice = random.Random(f"soak/{seed}")
    rows = make_rows(dice, dice.choice([dice.randint(5, 20), dice.randint(5, 60)]))
    shards = dice.choice([1, 1, 1, 2, 2, 3, 4, 6, 10])
    plan = Plan(
        seed=seed,
        rows=rows,
        choice=dice.random() < 0.4,
        reuse=dice.choice([None, None, "exact", "never"]),
        shard_rows=max(-(-len(rows) // shards), 2),
        poll_s=dice.choice([10.0, 40.0]),
        polls=dice.choice([1, 2, 2, 3]),
    )
    flavour = dice.choice(["plain", "plain", "plain", "edits", "disk"])
    plan.disk = flavour == "disk"
    deaths = dice.choice([0, 1, 1, 2, 2, 3, 4, 6])
    reach = dice.choice([10, 40, 40, 120])
    rate = dice.choice([0.0, 0.0, 0.05, 0.15, 0.3])
    for number in range(deaths):
        session = Session(
            kill_after=1 + int(dice.expovariate(1 / reach)),
            pause_s=dice.choice([0.0, 0.0, 1.0, dice.uniform(0, 60), dice.uniform(0, 4000)]),
            faults=make_faults(dice, plan) if number == 0 or dice.random() < 0.4 else None,
            trouble_rate=rate,
            listing_lag_s=dice.choice([0.0, dice.uniform(0, LISTING_LAG_S)]),
        )
        if number:
            session.lose_disk = flavour == "disk" and dice.random() < 0.5
            session.edit = flavour == "edits" and dice.random() < 0.5
        if dice.random() < 0.15:
            session.timeout_s = dice.uniform(0, 60)
        session.until_submitted = dice.random() < 0.05
        if dice.random() < 0.12:
            session.kill_after, session.stop_after = None, 1 + int(dice.expovariate(1 / 8))
            session.stopped_s = LEASE_S + dice.choice([1.0, dice.uniform(0, 400)])
        plan.sessions.append(session)
    plan.sessions.append(
        Session(
            pause_s=dice.choice([0.0, 1.0, 100.0]),
            faults=make_faults(dice, plan) if deaths == 0 or dice.random() < 0.3 else None,
            trouble_rate=rate,
            listing_lag_s=dice.choice([0.0, dice.uniform(0, LISTING_LAG_S)]),
            lose_disk=flavour == "disk" and deaths > 0 and dice.random() < 0.5,
            edit=flavour == "edits" and dice.random() < 0.5,
        )
    )
    return plan


def make_rows(dice: random.Random, count: int) -> list[Row]:
    """Rows with, now and then, keys that repeat, prompts that are empty and prompts that are equal."""
    twins, blanks, equals = (dice.choice([0.0, 0.0, 0.1]) for _ in range(3))
    rows: list[Row] = []
    for number in range(count):
        key = rows[dice.randrange(len(rows))].key if rows and dice.random() < twins else f"T-{number}"
        body = new_text(dice)
        if dice.random() < blanks:
            body = " "
        elif rows and dice.random() < equals:
            body = rows[dice.randrange(len(rows))].body
        rows.append(Row(key, body))
    return rows


def edited(dice: random.Random, rows: list[Row]) -> list[Row]:
    """The source after somebody worked on it: rows changed, gone, and new."""
    made = list(rows)
    for _ in range(dice.randint(1, 5)):
        place = dice.randrange(len(made)) if made else 0
        kind = dice.choice(["edit", "delete", "insert"])
        if kind == "insert" or not made:
            made.insert(place, Row(f"N-{dice.randrange(10**9)}", new_text(dice)))
        elif kind == "edit":
            made[place] = Row(made[place].key, new_text(dice))
        else:
            del made[place]
    return made


def new_text(dice: random.Random) -> str:
    """A text nobody has had before."""
    return f"ticket {dice.randrange(10**12):x} says" + " so" * dice.randint(0, 12)


def make_faults(dice: random.Random, plan: Plan) -> str:
    """Up to four of the provider's own faults, in its words."""
    some = plan.shard_rows
    many = dice.choice(["1", "1", "2", "3"])
    when = dice.choice(["before", "after"])
    known = [
        f"missing={dice.randint(1, some)},batches={many}",
        f"missing={dice.randint(1, some)},billed=0,batches={many}",
        f"bad_rows={dice.randint(1, 3)},status=400,batches={many}",
        f"bad_rows={dice.randint(1, some)},status={dice.choice([429, 500, 503])},batches={many}",
        f"expire_after={dice.randint(0, some)},batches={many}",
        f"token_queue={dice.choice([60, 150, 400, 1000])}",
        f"status_503={dice.randint(1, 4)},batches=all",
        f"stuck={dice.randint(1, 2)},polls={dice.randint(1, 5)},phase={dice.choice(PHASES)}",
        f"truncate={dice.randint(1, some)},batches={many}",
        f"bad_json={dice.randint(1, some)},batches={many}",
        f"create_unanswered={dice.randint(1, 2)},when={when},skip={dice.randint(0, 2)}",
        f"{dice.choice(SILENT)}_unanswered=1,when={when},skip={dice.randint(0, 3)}",
    ]
    chosen: dict[str, str] = {}
    for fault in dice.sample(known, dice.choice([0, 1, 2, 3, 4])):
        chosen.setdefault(fault.partition("=")[0], fault)
    if "expire_after" in chosen and "stuck" in chosen:
        del chosen["stuck"]  # together they hold a batch until its window of a day closes
    return " ".join(chosen.values())


PHASES = ("validating", "in_progress", "finalizing")
SILENT = ("upload", "status", "download", "list", "delete")
