"""Options that several verbs share, and how their values are read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated

import typer


def seconds(text: str) -> float:
    """Seconds from `90`, `1.5`, `10m` or `2h`."""
    try:
        value = float(text)
    except ValueError:
        from bulkrate.jobs.fields import duration_s

        try:
            value = duration_s(text)
        except ValueError:
            raise typer.BadParameter('must be seconds, or a duration such as "10m" or "2h"') from None
    if not 0 <= value < float("inf"):
        raise typer.BadParameter("must be a time from now on")
    return value


def ago(now: datetime, age_s: float) -> datetime:
    """So many seconds before `now`; the first moment there is when that is before it."""
    try:
        return now - timedelta(seconds=age_s)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def address(text: str) -> str:
    """`127.0.0.1:8098`, `[::1]:8098`, `localhost:0`."""
    host, _, port = text.rpartition(":")
    if not host.strip("[]") or not (port.isascii() and port.isdecimal() and int(port) < 1 << 16):
        raise typer.BadParameter("must be HOST:PORT, 127.0.0.1:8098 for instance")
    return text


def money(text: str) -> Decimal:
    """An amount: `20`, `0.50`, `20USD` or `$20`."""
    from bulkrate.errors import BulkrateError
    from bulkrate.pricing.money import parse_money

    try:
        return parse_money(text)
    except BulkrateError as error:
        raise typer.BadParameter(f"{error.message}; {error.hint}") from None


def share(text: str) -> Decimal:
    """A share: `80%` or `0.8`."""
    number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    try:
        value = Decimal(number.strip())
    except ArithmeticError:
        value = Decimal("NaN")
    if not value.is_finite():
        raise typer.BadParameter('must be a share such as "80%" or 0.8')
    return value / 100 if percent else value


JobOrPlan = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="A job file (*.bulk.yaml), an OpenAI batch file (.jsonl), or a plan (*.plan.json).",
    ),
]
File = Annotated[
    str,
    typer.Argument(metavar="FILE", help="A job file (*.bulk.yaml), or an OpenAI batch file (.jsonl)."),
]
RunName = Annotated[
    str,
    typer.Argument(
        metavar="RUN", help="A run's id, the beginning of one, a job's name (its latest run), or a job file."
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model", metavar="PROVIDER/NAME", help="Who answers an OpenAI batch file (.jsonl) instead."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Approve the quote without being asked.")]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Start anew: resume nothing, take over no earlier answers.")
]
MaxCost = Annotated[
    Decimal | None,
    typer.Option(
        "--max-cost",
        parser=money,
        metavar="AMOUNT",
        help="The most the run may cost (USD): a higher quote is refused, and nothing is sent beyond it.",
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        parser=seconds,
        metavar="SECONDS|10m|2h",
        help="Stop waiting after this long (exit code 3); the work goes on.",
    ),
]
Poll = Annotated[
    float | None,
    typer.Option("--poll", parser=seconds, metavar="SECONDS", help="Time between two looks at a batch."),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the end.")]
