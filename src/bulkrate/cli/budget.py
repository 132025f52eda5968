"""`bulkrate budget`: the ledger's budget for a month, and what counts against it."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal

if TYPE_CHECKING:
    from bulkrate.core.budget import Held
    from bulkrate.ledger.records import ReservationRecord
    from bulkrate.pipeline.workspace import Workspace

NONE = "none"

Amount = Annotated[
    str | None,
    typer.Argument(
        metavar="[AMOUNT|none]",
        help="Set the most that everything in this ledger may cost in a calendar month (USD), or take that "
        "limit away. Without it, nothing is changed.",
    ),
]


def _month(text: str) -> str:
    try:
        date.fromisoformat(f"{text}-01")
    except ValueError:
        raise typer.BadParameter("must be a month such as 2026-11") from None
    return text


Month = Annotated[
    str | None,
    typer.Option("--month", parser=_month, metavar="YYYY-MM", help="Show another month (UTC)."),
]


def budget(
    context: typer.Context, amount: Amount = None, *, month: Month = None, json: options.Json = False
) -> int:
    """Show what was spent and is reserved this month, by job; set the ledger's budget."""
    from bulkrate.cli.choosing import workspace_of
    from bulkrate.core.budget import month_of

    terminal: Terminal = context.obj
    limit = None if amount in (None, NONE) else options.money(str(amount))
    with workspace_of(terminal) as workspace:
        if amount is not None:
            with workspace.ledger.transaction("budget") as tx:
                tx.set_budget(limit, workspace.clock.now())
        shown = document(workspace, month or month_of(workspace.clock.now()))
    if json:
        terminal.document(shown)
        return 0
    terminal.rows(f"budget for {shown['month']}", pairs(shown))
    if shown["jobs"]:
        terminal.data([b"\n"])
        rows = [
            (job["job"], money(job["spent"]), money(job["reserved"]), " ".join(job["under_way"]))
            for job in shown["jobs"]
        ]
        terminal.table(("JOB", "SPENT", "RESERVED", "RUNS UNDER WAY"), rows)
    return 0


def document(workspace: Workspace, month: str) -> dict[str, Any]:
    """The month as programs read it: money as strings."""
    from bulkrate.core.budget import held

    limit = workspace.ledger.budget()
    found = workspace.ledger.reservations(month=month)
    whole = held(found)
    jobs: dict[str, list[ReservationRecord]] = {}
    for each in found:
        jobs.setdefault(each.job_name, []).append(each)
    return {
        "month": month,
        "budget": None if limit is None else f"{limit:f}",
        "left": None if limit is None else f"{limit - whole.amount:f}",
        **_amounts(whole),
        "jobs": [
            {"job": job, **_amounts(held(entries)), "under_way": _under_way(entries)}
            for job, entries in sorted(jobs.items())
        ],
    }


def _under_way(entries: list[ReservationRecord]) -> list[str]:
    """The runs that something is reserved for."""
    return sorted({each.run for each in entries if each.run is not None and each.settled_at is None})


def _amounts(held: Held) -> dict[str, Any]:
    return {
        "spent": f"{held.spent:f}",
        "reserved": f"{held.under_way:f}",
        "unbounded": held.unbounded,
        "unpriced": held.unpriced,
    }


def pairs(shown: dict[str, Any]) -> list[tuple[str, str]]:
    """The same as people read it."""
    limit = "none" if shown["budget"] is None else f"{money(shown['budget'])} for everything in this ledger"
    lines = [("budget", limit), ("spent", money(shown["spent"]))]
    lines.append(("reserved", f"{money(shown['reserved'])} at most for what is under way"))
    if shown["left"] is not None:
        lines.append(("left", money(shown["left"])))
    if shown["unbounded"]:
        lines.append(("unknown", f"{shown['unbounded']:,} shards under way have no known upper end"))
    if shown["unpriced"]:
        lines.append(("unknown", f"{shown['unpriced']:,} shards have no known price: they are in no figure"))
    return lines


def money(amount: str) -> str:
    """An amount of the document, for people."""
    from bulkrate.pricing.money import format_money

    return format_money(Decimal(amount))
