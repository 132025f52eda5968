"""The page of one run: what it did, what it cost, what it was expected to cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from importlib.resources import files
from typing import TypeVar

from minijinja import Environment, safe

from bulkrate import __version__
from bulkrate.pages.charts import Bar, Line, bars, columns, share, short, spans, steps
from bulkrate.pages.figures import Figures
from bulkrate.pricing.money import CURRENCY, format_money

MOST_MOMENTS = 40  # lines of the table under the cost chart
MOODS = {"succeeded": "good", "failed": "bad", "rejected": "bad", "pending": "open"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The numbers of a chart: columns by name, the first of which names the row."""

    names: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture, what its colours mean, and its numbers."""

    title: str
    picture: object
    table: Table
    key: Sequence[tuple[str, str]] = ()


def run_page(
    figures: Figures, *, bill: Sequence[tuple[str, str]], advice: Sequence[str], made_at: datetime
) -> str:
    """The whole document; `bill` are its lines as people read them, `advice` says what to do next."""
    source = (files(__package__) / "run.html.jinja").read_text(encoding="utf-8")
    environment = Environment(templates={"run.html": source}, undefined_behavior="strict")
    run = figures.run
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
        rows=[
            (name, f"{count:,}", MOODS.get(name, "") if count else "") for name, count in figures.rows.items()
        ],
        share=safe(_share(figures.rows)),
        money=_money_facts(figures) if paid else [],
        bill=list(bill),
        # What stands between backticks is a command.
        advice=[each.split("`") for each in advice],
        cost=_cost(figures) if paid else _tokens(figures),
        comparison=_comparison(figures) if paid else _quoted(figures),
        wasted=_wasted(figures),
        failures=_failures(figures),
        inputs=_sizes(figures.input_sizes, "Input"),
        outputs=_sizes(figures.output_sizes, "Output"),
        shards=_shards(figures),
        more_shards=f"{figures.more_spans:,}" if figures.more_spans else "",
    )


def _day(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M} UTC"


def _second(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


def _share(rows: Mapping[str, int]) -> str:
    parts = [Bar(MOODS[name], name, rows[name], f"{rows[name]:,}") for name in MOODS if rows.get(name)]
    return share(parts, about=f"Rows. {_said(parts)}")


def _said(shown: Sequence[Bar]) -> str:
    return "; ".join(f"{bar.label}: {bar.said}" for bar in shown)


def _tick(value: float) -> str:
    return format_money(Decimal(repr(value))).removesuffix(f" {CURRENCY}") if value else "0"


def _most(amount: Decimal) -> str:
    """A bound, which must not look lower than it is."""
    return format_money(amount, rounding=ROUND_CEILING)


def _ceiling(figures: Figures) -> Decimal | None:
    return None if figures.quote is None else figures.quote.cost_max


def _money_facts(figures: Figures) -> list[tuple[str, str, str]]:
    """Spent, saved, and how that compares with the quote: a name, a value, a mood."""
    assert figures.spent
    spent = figures.spent[-1][1]
    found = [("spent", format_money(spent), "")]
    live = figures.live[-1][1] if figures.live else Decimal(0)
    if live > spent:
        share_of_live = f"{100 * (live - spent) / live:.0f} %"
        found.append((f"saved: {share_of_live} of the live price", format_money(live - spent), "good"))
    if most := _ceiling(figures):
        found.append(("of the quote's ceiling", f"{100 * spent / most:.0f} %", "bad" if spent > most else ""))
    return found


def _cost(figures: Figures) -> Chart:
    """Money over time against the ceiling."""
    assert figures.spent
    spent = _by_moment(figures.spent)
    live = None if figures.live is None else _by_moment(figures.live)
    levels = {"level": _ceiling(figures), "expected": figures.expected}
    begin = [] if figures.run.approved_at is None else [(figures.run.approved_at, 0.0)]
    key = [("spent", f"spent: {format_money(figures.spent[-1][1])}")]
    lines = [Line("spent", key[0][1], begin + _floats(spent))]
    if live:
        key.append(("live", f"the same at the live price: {format_money(live[-1][1])}"))
        lines.insert(0, Line("live", key[1][1], begin + _floats(live)))
    if most := levels["level"]:
        key.append(("level", f"the quote's ceiling: {_most(most)}"))
    if expected := levels["expected"]:
        key.append(("expected", f"expected: {format_money(expected)}"))
    rows = [
        (_second(at), format_money(amount), *([] if live is None else [format_money(live[place][1])]))
        for place, (at, amount) in enumerate(spent)
    ]
    return Chart(
        title="What it cost, as the answers came",
        picture=safe(
            steps(
                lines,
                levels={name: float(amount) for name, amount in levels.items() if amount},
                about=f"Cost in {CURRENCY} as the answers came. {'; '.join(text for _, text in key)}",
                tick=_tick,
            )
        ),
        table=Table(names=("until", "spent", *(["live price"] if live else [])), rows=_thinned(rows)),
        key=key,
    )


def _tokens(figures: Figures) -> Chart | None:
    """Tokens over time, where nothing is paid by the token."""
    tokens = _by_moment(figures.tokens)
    if not tokens:
        return None
    begin = [] if figures.run.approved_at is None else [(figures.run.approved_at, 0.0)]
    label = f"tokens: {tokens[-1][1]:,}"
    line = Line("spent", label, begin + [(at, float(count)) for at, count in tokens])
    return Chart(
        title="Tokens, as the answers came",
        picture=safe(steps([line], levels={}, about=f"Tokens as the answers came. {label}", tick=short)),
        table=Table(names=("until", "tokens"), rows=_thinned([(_second(at), f"{n:,}") for at, n in tokens])),
        key=[("spent", label)],
    )


def _by_moment(points: Sequence[tuple[datetime, T]]) -> list[tuple[datetime, T]]:
    """What a sum had come to at each moment at which it grew."""
    return list(dict(points).items())


def _floats(points: Sequence[tuple[datetime, Decimal]]) -> list[tuple[datetime, float]]:
    return [(at, float(amount)) for at, amount in points]


def _thinned(rows: Sequence[T]) -> list[T]:
    """At most so many of them, evenly, the last one among them."""
    every = math.ceil(len(rows) / MOST_MOMENTS) or 1
    return list(reversed(rows[::-1][::every]))


def _comparison(figures: Figures) -> Chart:
    """What it cost, beside what it would have cost and what was expected."""
    spent, live, quote = figures.spent, figures.live, figures.quote
    shown = [
        *_amount("spent", "spent", spent[-1][1] if spent else None),
        *_amount("live", "same, live", live[-1][1] if live else None),
        *_amount("quoted", "quote, least", None if quote is None else quote.input_only),
        *_amount("quoted", "expected", figures.expected),
        *_bound("quoted", "quote, most", _ceiling(figures)),
    ]
    return _bars("Bill, live price and quote", shown, ("", "amount"))


def _quoted(figures: Figures) -> Chart | None:
    """What it is expected to cost, as long as nothing was paid."""
    quote = figures.quote
    if quote is None or not quote.input_only:
        return None
    shown = [
        *_amount("quoted", "least", quote.input_only),
        *_amount("quoted", "expected", figures.expected),
        *_bound("quoted", "most", quote.cost_max),
        *_bound("live", "most, live", quote.live_max),
    ]
    return _bars("The quote", shown, ("", "amount"))


def _amount(name: str, label: str, amount: Decimal | None) -> list[Bar]:
    """A bar where there is something to draw."""
    return [Bar(name, label, float(amount), format_money(amount))] if amount else []


def _bound(name: str, label: str, amount: Decimal | None) -> list[Bar]:
    """The same, rounded up."""
    return [Bar(name, label, float(amount), _most(amount))] if amount else []


def _wasted(figures: Figures) -> Chart | None:
    found = sorted((figures.wasted or {}).items(), key=lambda item: -item[1])
    shown = [bar for ended, amount in found for bar in _amount("bad", ended, amount)]
    return _bars("Paid for without an answer", shown, ("ended", "amount")) if shown else None


def _failures(figures: Figures) -> Chart | None:
    found = sorted(figures.failures.items(), key=lambda item: -item[1])
    shown = [Bar("bad", name, count, f"{count:,}") for name, count in found]
    return _bars("Rows that failed, by class", shown, ("class", "rows")) if shown else None


def _bars(title: str, shown: Sequence[Bar], names: Sequence[str]) -> Chart:
    return Chart(
        title=title,
        picture=safe(bars(shown, about=f"{title}. {_said(shown)}")),
        table=Table(names=names, rows=[(bar.label, bar.said) for bar in shown]),
    )


def _sizes(sizes: Sequence[tuple[str, int]], what: str) -> Chart | None:
    if not sizes:
        return None
    requests = sum(count for _, count in sizes)
    most = max(sizes, key=lambda size: size[1])
    about = f"{what} tokens of {requests:,} requests: most often {most[0]}, {most[1]:,} times"
    return Chart(
        title=f"{what} tokens per request",
        picture=safe(columns(sizes, about=about)),
        table=Table(names=("tokens", "requests"), rows=[(name, f"{count:,}") for name, count in sizes]),
    )


def _shards(figures: Figures) -> Chart | None:
    found = figures.spans
    if not found:
        return None
    return Chart(
        title="Shards: with the provider, then fetched",
        picture=safe(spans(found, about=f"When each of {len(found):,} shards was with the provider")),
        table=Table(
            names=("shard", "sent", "ended", "fetched"),
            rows=[(s.label, _second(s.begin), _second(s.middle), _second(s.end)) for s in found],
        ),
        key=[("waiting", "with the provider"), ("fetching", "being fetched"), ("plain", "* sent again")],
    )
