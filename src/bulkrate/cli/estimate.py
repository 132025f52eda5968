"""`bulkrate estimate`: what a load would cost, before there is a table or a job."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal
from bulkrate.errors import BulkrateError

if TYPE_CHECKING:
    from bulkrate.pricing.estimate import Estimate, LaneEstimate, Workload

# Beyond these a figure was mistyped, and sums of money would no longer be exact.
MOST_ROWS = 10**12
MOST_TOKENS = 10**9
MOST_GROWTH = 10

Models = Annotated[
    list[str],
    typer.Option("--model", "-m", metavar="PROVIDER/NAME", help="Price this model; may be repeated."),
]
Rows = Annotated[
    int,
    typer.Option("--rows", min=1, max=MOST_ROWS, metavar="N", help="How many rows; 1_000_000 is read too."),
]
Input = Annotated[
    int,
    typer.Option("--input", min=0, max=MOST_TOKENS, metavar="TOKENS", help="Input tokens of a row."),
]
Output = Annotated[
    int,
    typer.Option(
        "--output",
        min=0,
        max=MOST_TOKENS,
        metavar="TOKENS",
        help="Output tokens of a row, reasoning included.",
    ),
]
Cached = Annotated[
    Decimal | None,
    typer.Option(
        "--cached",
        parser=options.share,
        metavar="SHARE",
        help="Share of the input that is read from a prompt cache, such as 80%.",
    ),
]
EveryOption = Annotated[
    Literal["day", "week", "month"] | None,
    typer.Option("--every", help="These rows come again: cost over 12 months, too."),
]
Growth = Annotated[
    Decimal | None,
    typer.Option(
        "--growth",
        parser=options.share,
        metavar="SHARE",
        help="By how much the rows grow from month to month, such as 5%; with --every.",
    ),
]


def estimate(
    context: typer.Context,
    *,
    model: Models,
    rows: Rows,
    input_tokens: Input,
    output_tokens: Output,
    cached: Cached = None,
    every: EveryOption = None,
    growth: Growth = None,
    json: options.Json = False,
) -> int:
    """Estimate what a load would cost, live, by flex and by batch. Needs no job, no key and no network."""
    from bulkrate.ledger.home import Home
    from bulkrate.pipeline.clock import SystemClock
    from bulkrate.pipeline.prices import find_prices
    from bulkrate.pricing.estimate import Workload

    terminal: Terminal = context.obj
    load = Workload(rows, input_tokens, output_tokens, cached or Decimal(0), every, growth or Decimal(0))
    _check(load)
    prices = find_prices(Home.place(terminal.cwd, terminal.env), terminal.env)
    now = SystemClock().now()
    found = [_estimate(name, load, now, prices) for name in dict.fromkeys(model)]
    if json:
        terminal.document(
            {
                "rows": load.rows,
                "input_tokens": load.input_tokens,
                "output_tokens": load.output_tokens,
                "cached": f"{load.cached:f}",
                "every": load.every,
                "growth": f"{load.growth:f}",
                "currency": "USD",
                "models": [each.to_json() for each in found],
            }
        )
        return 0
    terminal.table(*table(found))
    for each in found:
        for note in each.notes:
            terminal.note(f"{each.model}: {note}" if len(found) > 1 else note)
    return 0


def _check(load: Workload) -> None:
    if not 0 <= load.cached <= 1:
        raise typer.BadParameter("--cached is a share of the input, from 0% to 100%")
    if load.growth and load.every is None:
        raise typer.BadParameter("--growth needs --every: what is done once does not grow")
    if not -1 <= load.growth <= MOST_GROWTH:
        raise typer.BadParameter(f"--growth is from -100% to {100 * MOST_GROWTH}% a month")


def _estimate(model: str, load: Workload, at: Any, prices: Any) -> Estimate:
    from bulkrate.pricing.estimate import estimate

    if "/" not in model:
        raise BulkrateError(
            f"which provider's {model}?", code="usage", hint=f"write it as provider/name: openai/{model}"
        )
    found = estimate(model, load, at, prices)
    if found is None:
        raise BulkrateError(f"no price is known for {model}", code="price_unknown", hint=_nearest(model))
    return found


def _nearest(model: str) -> str:
    from difflib import get_close_matches

    from bulkrate.pricing.published import listed_models

    provider, _, name = model.partition("/")
    if near := get_close_matches(name, listed_models(provider), n=3):
        return "is one of these meant? " + ", ".join(f"{provider}/{each}" for each in near)
    return "docs/reference/prices.md says how to give it a price of your own"


def table(found: list[Estimate]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The estimates as people read them: header and rows, a model each."""
    from bulkrate.pricing.money import format_money

    def cost(lane: LaneEstimate, amount: Decimal | None) -> str:
        if lane.rate.lane == "flex" and not lane.rate.published:
            return "-"
        said = format_money(amount or Decimal(0), lane.rate.currency)
        return said if lane.rate.published else f"{said} (live)"

    again = found[0].load.every is not None
    header: tuple[str, ...] = ("MODEL", "LIVE", "FLEX", "BATCH", "BATCH SAVES")
    if again:
        header += ("12 MONTHS LIVE", "12 MONTHS BATCH")
    rows = []
    for each in found:
        live, flex, batch = (each.lanes[lane] for lane in ("live", "flex", "batch"))
        saved = f"{100 * (live.cost - batch.cost) / live.cost:.0f} %" if live.cost else "-"
        row = (each.model, *(cost(lane, lane.cost) for lane in (live, flex, batch)), saved)
        if again:
            row = (*row, cost(live, live.year), cost(batch, batch.year))
        dated = batch.rate.dated
        priced = batch.rate.source if dated is None else f"{dated.isoformat()} ({batch.rate.source})"
        rows.append((*row, priced))
    return (*header, "PRICES OF"), rows
