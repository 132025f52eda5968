"""`bulkrate bill`: what runs cost, by the tokens the provider reported."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal
from bulkrate.errors import BulkrateError

if TYPE_CHECKING:
    from decimal import Decimal

    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.workspace import Workspace
    from bulkrate.pricing.statement import Statement, Sum

MaybeRun = Annotated[
    str | None,
    typer.Argument(
        metavar="RUN",
        help="One run: its id, the beginning of one, a job's name, or a job file. Default: all.",
    ),
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="DATE|30d|12h", help="Only runs approved since then (UTC)."),
]
By = Annotated[
    str,
    typer.Option(
        "--by",
        metavar="WORDS",
        help="Group by these, with commas between: model, lane, kind, attempt, ended, job, tag, run, day, "
        "month.",
    ),
]
Focus = Annotated[
    Path | None,
    typer.Option("--focus", metavar="FILE", help="Also write FOCUS 1.2 rows: .csv or .parquet."),
]


def bill(
    context: typer.Context,
    run: MaybeRun = None,
    *,
    since: Since = None,
    by: By = "model",
    focus: Focus = None,
    json: options.Json = False,
) -> int:
    """Show what runs cost: by the tokens reported, at the prices of the day each was approved."""
    from bulkrate.cli.choosing import workspace_of
    from bulkrate.pipeline.spending import spending_of

    terminal: Terminal = context.obj
    words = _words(by)
    with workspace_of(terminal) as workspace:
        runs = _runs(workspace, run, since)
        if focus is not None:
            _export(terminal, workspace, runs, focus)
        found = spending_of(workspace.ledger, workspace.home, runs, workspace.prices, by=words)
    if json:
        terminal.document(found.to_json())
        return 0
    if run is not None and runs:
        title = f"bill of run {runs[0].id} of {runs[0].job_name}"
    else:
        title = f"bill of {found.runs:,} run{'' if found.runs == 1 else 's'}"
    terminal.rows(title, pairs(found))
    if found.groups:
        terminal.data([b"\n"])
        terminal.table(*table(found))
    return 0


def _words(by: str) -> tuple[str, ...]:
    from bulkrate.pricing.statement import DIMENSIONS

    words = tuple(dict.fromkeys(word.strip() for word in by.split(",") if word.strip()))
    unknown = [word for word in words if word not in DIMENSIONS]
    if unknown or not words:
        raise typer.BadParameter(f"--by takes {', '.join(DIMENSIONS)}; not {by!r}")
    return words


def _runs(workspace: Workspace, run: str | None, since: str | None) -> list[RunRecord]:
    from bulkrate.cli.choosing import run_of

    found = [run_of(workspace, run)] if run is not None else workspace.ledger.runs()
    if since is None:
        return found
    begin = _time(since, workspace.clock.now())
    return [each for each in found if (each.approved_at or each.created_at) >= begin]


def _time(text: str, now: datetime) -> datetime:
    """A moment: a day (its beginning in UTC), a time, or so long ago."""
    try:
        if len(text) == len("2026-11-24"):
            return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        when = datetime.fromisoformat(text)
        return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    except ValueError:
        pass
    try:
        return options.ago(now, options.seconds(text))
    except typer.BadParameter:
        raise typer.BadParameter('--since is a day such as 2026-11-01, or a duration such as "30d"') from None


def _export(terminal: Terminal, workspace: Workspace, runs: list[RunRecord], path: Path) -> None:
    from bulkrate.pipeline.spending import used_of
    from bulkrate.pricing.charges import charges
    from bulkrate.pricing.focus import focus_rows, write_focus

    used = (each for run in runs for each in used_of(workspace.ledger, workspace.home, run))
    rows = focus_rows(charges(used, workspace.prices))
    try:
        write_focus(rows, path)
    except OSError as error:
        raise BulkrateError(
            f"{path} cannot be written: {error.strerror}", code="out", hint="say where with --focus"
        ) from None
    terminal.note(f"{len(rows):,} FOCUS rows written to {path}")


def pairs(found: Statement) -> list[tuple[str, str]]:
    """The statement as people read it: label and value."""
    from decimal import ROUND_CEILING

    from bulkrate.cli.quoting import quote_error
    from bulkrate.pricing.money import format_money

    whole = found.whole
    if found.prices and whole.cost == 0 and all(dated is None for dated, _ in found.prices):
        return [("cost", "none: it runs on this machine")]
    if whole.cost is None:
        shown = [("cost", f"not known: no price for {', '.join(sorted(whole.unpriced))}")]
    else:
        shown = [("cost", f"{format_money(whole.cost, found.currency)} by the tokens reported")]
    if found.reported is not None:
        by_them = format_money(found.reported, found.currency)
        shown.append(("provider says", f"{by_them} for {found.reported_requests:,} requests"))
    if found.quoted is None:
        shown.append(("quoted", "without an upper end"))
    elif found.quoted:
        most = format_money(found.quoted, found.currency, rounding=ROUND_CEILING)
        share = "" if whole.cost is None else f"; the bill is {100 * whole.cost / found.quoted:.0f} % of that"
        shown.append(("quoted", f"at most {most}{share}"))
    if found.expected is not None:
        shown.append(("expected", format_money(found.expected, found.currency)))
    foretold = found.quoted if found.expected is None else found.expected
    if foretold and whole.cost is not None:
        shown.append(("quote error", quote_error(foretold, whole.cost, found.currency)))
    if whole.live and whole.saving is not None:
        saved = f"{100 * whole.saving / whole.live:.0f} % saved"
        shown.append(("live price", f"{format_money(whole.live, found.currency)}; {saved}"))
    if found.per_accepted_row is not None:
        row = format_money(found.per_accepted_row, found.currency)
        shown.append(("an answer", f"{row}, everything spent over {found.accepted_rows:,} answered rows"))
    shown += [("wasted", _amount(each, ended, found)) for ended, each in found.wasted.items()]
    if found.sent_again.tokens:
        shown.append(("sent again", _amount(found.sent_again, "for every attempt but the first", found)))
    if found.possibly_billed:
        shown.append(
            ("unknown", f"{found.possibly_billed:,} requests that may have been billed, in no figure")
        )
    shown += [
        ("notes", f"{model}: no published {lane} rate, the live price stands in")
        for model, lane in found.unpublished
    ]
    for dated, source in found.prices:
        shown.append(("prices of", source if dated is None else f"{dated.isoformat()} ({source})"))
    return shown


def _amount(each: Sum, what: str, found: Statement) -> str:
    from bulkrate.pricing.money import format_money

    if each.cost is None:
        return f"{what}: no price is known"
    return f"{format_money(each.cost, found.currency)} {what}"


def table(found: Statement) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The groups: header and rows."""
    from bulkrate.pricing.money import format_money

    def amount(value: Decimal | None) -> str:
        return "not known" if value is None else format_money(value, found.currency)

    header = (*(word.upper() for word in found.by), "TOKENS", "COST", "LIVE PRICE", "SAVED")
    rows = [
        (*names, f"{each.tokens:,}", amount(each.cost), amount(each.live), amount(each.saving))
        for names, each in found.groups.items()
    ]
    return header, rows
