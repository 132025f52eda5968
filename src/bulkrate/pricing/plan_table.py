"""The plan as people read it: a table of models and lanes, and lines about the rows."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from html import escape
from typing import TYPE_CHECKING

from bulkrate.pricing.money import format_money

if TYPE_CHECKING:
    from bulkrate.pricing.plan import LanePlan, ModelPlan, OutputForecast, Plan

HEADER = ("MODEL", "LANE", "LOW", "EXPECTED", "HIGH", "CEILING", "SAVES", "TOO LATE", "PRICES OF")


def table(plan: Plan) -> list[tuple[str, ...]]:
    """A line for each model and lane; not for flex without a price of its own, unless the job uses it."""
    return [
        (model.model, *_line(plan, model, lane))
        for model in plan.models
        for lane in model.lanes.values()
        if lane.published or lane.lane != "flex" or plan.lane == "flex"
    ]


def _line(plan: Plan, model: ModelPlan, lane: LanePlan) -> tuple[str, ...]:
    if model.free:
        return (lane.lane, "none", "none", "none", "none", "-", _late(lane), "-")
    saving, live = model.saving(lane.lane), model.lanes.get("live")
    whole = None if live is None else live.expected if live.expected is not None else live.ceiling
    share = "-" if lane.lane == "live" or not whole or saving is None else f"{100 * saving / whole:.0f} %"
    source = (
        lane.prices_source if lane.prices_dated is None else f"{lane.prices_dated} ({lane.prices_source})"
    )
    return (
        lane.lane if lane.published or lane.ceiling is lane.low is None else f"{lane.lane} (live price)",
        _amount(lane.low, plan.currency),
        _amount(lane.expected, plan.currency),
        _amount(lane.high, plan.currency, most=True),
        _amount(lane.ceiling, plan.currency, most=True),
        share,
        _late(lane),
        source or "-",
    )


def _amount(amount: Decimal | None, currency: str, *, most: bool = False) -> str:
    if amount is None:
        return "?"
    return format_money(amount, currency, rounding=ROUND_CEILING) if most else format_money(amount, currency)


def _late(lane: LanePlan) -> str:
    return "-" if not lane.chance_missed else share(lane.chance_missed)


def share(value: float) -> str:
    """A chance in per cent, never rounded down to none."""
    percent = 100 * value
    return f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %" if percent >= 0.1 else "under 0.1 %"


def lines(plan: Plan) -> list[tuple[str, str]]:
    """Label and value: rows, tokens, what is known of the answers."""
    rows, own = plan.rows, plan.own
    said = f"{rows['to_send']:,} of {rows['total']:,}"
    for name, what in (
        ("rejected", "rejected"),
        ("repeated", "the same as another"),
        ("reused", "answered before"),
        ("pilot", "answered by the pilot"),
    ):
        if rows.get(name):
            said += f"; {rows[name]:,} {what}"
    how = "exact" if own.input_method == "exact" else "estimated"
    return [
        ("rows to send", said),
        ("input tokens", f"{own.input_tokens:,}, {how} ({own.input_source}){_billed(own)}"),
        *(("tokens a row", line) for line in histogram(plan)),
        ("output tokens", output(own.output)),
        *_bound(plan),
        ("shards", f"{plan.shards:,}"),
        ("sent again", _retries(own)),
        ("time", _time(plan)),
        *_total(plan),
    ]


def _total(plan: Plan) -> list[tuple[str, str]]:
    """The user's own lines, added to what the job's lane comes to."""
    if plan.total is None or plan.likely is None:
        return []
    parts = [f"{format_money(plan.likely, plan.currency)} for the answers"]
    if plan.reprocess:
        again = format_money(plan.likely * plan.reprocess, plan.currency)
        parts.append(f"{again} for asking {100 * plan.reprocess:f} % again".replace(".00 %", " %"))
    if plan.store_cost:
        parts.append(f"{format_money(plan.store_cost, plan.currency)} for keeping them")
    return [("in all", f"{format_money(plan.total, plan.currency)}: {', '.join(parts)}")]


def _billed(own: ModelPlan) -> str:
    if own.input_factor is None or own.input_factor == 1:
        return ""
    return f"; {own.input_factor.normalize():f} are billed for one that is counted, as measured"


def _bound(plan: Plan) -> list[tuple[str, str]]:
    lane = plan.own.lanes.get(plan.lane)
    if lane is None or lane.bound is None:
        return []
    most = format_money(lane.bound, plan.currency, rounding=ROUND_CEILING)
    return [("hard bound", f"{most} on the {plan.lane} lane; above it at most 5 times of 100, however long")]


def histogram(plan: Plan, width: int = 30) -> list[str]:
    """One line for each bucket."""
    buckets = plan.lengths.histogram()
    most = max((bucket["rows"] for bucket in buckets), default=0)
    edge = len(f"{buckets[-1]['to_tokens']:,}") if buckets else 0
    return [
        f"{bucket['from_tokens']:>{edge},} to {bucket['to_tokens']:>{edge},}  "
        f"{'#' * -(-width * bucket['rows'] // most):{width}}  {bucket['rows']:,}"
        for bucket in buckets
    ]


def output(found: OutputForecast) -> str:
    """What is known of the answers' length."""
    if found.basis == "none_needed":
        return "none"
    if found.expected is None:
        most = "not capped" if found.high is None else f"at most {found.high:,}"
        return f"{most}; how many is not known without a pilot (--pilot)"
    high = "" if found.high is None else f" to {found.high:,}"
    said = f"about {found.expected:,} ({found.low:,}{high}"
    if found.confidence is not None:
        said += f" in {100 * found.confidence:.0f} of 100 such forecasts"
    said += f"), by {found.source}"
    return said + ("; a few long ones decide, more rows would narrow it" if found.skewed else "")


def _retries(own: ModelPlan) -> str:
    if own.retries.factor is None:
        return "none measured yet: no earlier run of this template is here"
    times, most = own.retries.factor, own.retries.most or own.retries.factor
    said = f"{times:f} times the cost of the answers (up to {most:f})"
    return f"{said}, by {own.retries.requests:,} requests of earlier runs"


def _time(plan: Plan) -> str:
    window = f"the provider's window is {hours(plan.window_s)}"
    batch = plan.own.lanes.get("batch")
    if batch is None or not batch.chance_missed:
        return window
    late = f"{share(batch.chance_missed)} chance of missing it"
    if plan.deadline_s is not None:
        window = f"deadline {hours(plan.deadline_s)}, {late}; {window}"
    else:
        window = f"{window}, {late}"
    own = plan.turnaround["own_batches"]
    mine = "one batch of yours" if own == 1 else f"{own:,} batches of yours"
    return f"{window} (by others' batches)" if not own else f"{window} (by {mine} and others')"


def hours(seconds: float) -> str:
    """A span of time in the unit that fits."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size and (unit != "d" or seconds > 2 * size):
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.0f} s"


def html(plan: Plan) -> str:
    """For notebooks."""
    left = 'style="text-align:left"'
    head = "".join(f"<th {left}>{escape(name.lower())}</th>" for name in HEADER)
    body = "".join(
        "<tr>" + "".join(f"<td {left}>{escape(cell)}</td>" for cell in line) + "</tr>" for line in table(plan)
    )
    about = "".join(
        f"<tr><th {left}>{escape(name)}</th><td {left}><code>{escape(value)}</code></td></tr>"
        for name, value in lines(plan)
    )
    return f"<table>{about}</table><table><tr>{head}</tr>{body}</table>"
