"""The page of one run: what it did, what it cost, what it was expected to cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from importlib.resources import files

from minijinja import Environment, safe

from bulkrate import __version__
from bulkrate.pages.charts import Line, bars, columns, spans, steps
from bulkrate.pages.figures import Figures
from bulkrate.pricing.money import format_money


def run_page(figures: Figures, *, bill: Sequence[tuple[str, str]], made_at: datetime) -> str:
    """The whole document; `bill` are its lines as people read them, label and value."""
    source = (files(__package__) / "run.html.jinja").read_text(encoding="utf-8")
    environment = Environment(templates={"run.html": source}, undefined_behavior="strict")
    run, quote = figures.run, figures.quote
    paid = bool(figures.spent and figures.spent[-1][1])
    return environment.render_template(
        "run.html",
        job=run.job_name,
        run=run.id,
        model=f"{run.provider}/{run.model}",
        state=str(run.state),
        approved=_day(run.approved_at),
        finished=_day(run.finished_at),
        made=_day(made_at),
        version=__version__,
        rows=[(name, f"{count:,}", _mood(name, count)) for name, count in figures.rows.items()],
        bill=list(bill),
        paid=paid,
        live=paid and figures.live is not None,
        ceiling=paid and quote is not None and quote.cost_max is not None,
        cost=safe(_cost(figures, paid=paid)),
        comparison=safe(_comparison(figures, paid=paid)),
        inputs=_chart(figures.input_sizes),
        outputs=_chart(figures.output_sizes),
        failures={
            "picture": safe(bars(_most_first(figures.failures), show="{:,.0f}".format)),
            "numbers": _plain(_most_first(figures.failures)),
        },
        shards=safe(spans(figures.spans)),
        more_shards=f"{figures.more_spans:,}" if figures.more_spans else "",
    )


def _day(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def _mood(name: str, count: int) -> str:
    """The class of a count in the style sheet."""
    moods = {"succeeded": "good", "failed": "bad", "rejected": "bad"}
    return moods.get(name, "") if count else ""


def _chart(sizes: Sequence[tuple[str, int]]) -> dict[str, object]:
    return {"picture": safe(columns(sizes)), "numbers": _plain(sizes)}


def _plain(counts: Sequence[tuple[str, int]]) -> list[tuple[str, str]]:
    return [(name, f"{count:,}") for name, count in counts]


def _most_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: -item[1])


def _money(value: float) -> str:
    return format_money(Decimal(repr(value)))


def _cost(figures: Figures, *, paid: bool) -> str:
    """Money over time against the ceiling; tokens where nothing is paid by the token."""
    begin = [(figures.run.approved_at, 0.0)] if figures.run.approved_at is not None else []
    if not paid or figures.spent is None:
        tokens = Line("spent", "tokens", begin + list(figures.tokens)) if figures.tokens else None
        return steps([tokens] if tokens else [], level=None, show="{:,.0f}".format)
    lines = [Line("spent", "spent", begin + _floats(figures.spent))]
    if figures.live is not None:
        lines.insert(0, Line("live", "at the live price", begin + _floats(figures.live)))
    most = figures.quote.cost_max if figures.quote is not None else None
    return steps(lines, level=None if most is None else ("ceiling of the quote", float(most)), show=_money)


def _floats(points: Sequence[tuple[datetime, Decimal]]) -> list[tuple[datetime, float]]:
    return [(at, float(amount)) for at, amount in points]


def _comparison(figures: Figures, *, paid: bool) -> str:
    quote = figures.quote
    amounts = {
        "spent": figures.spent[-1][1] if paid and figures.spent else None,
        "same, live": figures.live[-1][1] if paid and figures.live else None,
        "least quoted": None if quote is None else quote.input_only,
        "most quoted": None if quote is None else quote.cost_max,
    }
    return bars([(label, float(amount)) for label, amount in amounts.items() if amount], show=_money)
