"""The quote as people read it before they say yes. No price without its date."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bulkrate.core.budget import Held, Limit
    from bulkrate.pricing import Quote


def quote_pairs(quote: Quote, *, rejected: int = 0) -> list[tuple[str, str]]:
    """The quote's lines: label and value."""
    from bulkrate.pricing.money import format_money

    def at_most(amount: Decimal | None) -> str:
        if amount is None:
            return "not known"
        return f"at most {format_money(amount, quote.currency, rounding=ROUND_CEILING)}"

    rows = f"{quote.rows:,}"
    if rejected:
        rows += f"; {rejected:,} rejected"
    if quote.reused_rows:
        rows += f"; {quote.reused_rows:,} answered without sending"
    how = "exact" if quote.input_method == "exact" else "estimated"
    pairs = [
        ("rows to send", rows),
        ("input tokens", f"{quote.input_tokens:,}, {how} ({quote.input_source})"),
        ("output tokens", _output(quote)),
    ]
    if quote.free:
        pairs.append(("cost", "none: it runs on this machine"))
    elif quote.prices_dated is None:
        pairs.append(("cost", "not known: there is no price for this model"))
    else:
        batch = at_most(quote.batch_max)
        if quote.batch_max is None and quote.input_only is not None:
            batch = f"input alone {format_money(quote.input_only, quote.currency)}; no upper end is known"
        pairs += [
            ("batch price", batch),
            *([("flex price", at_most(quote.flex_max))] if quote.lane == "flex" else []),
            ("live price", at_most(quote.live_max) + _saving(quote)),
            *([("expected", _expected(quote))] if quote.expected is not None else []),
            *([("hard bound", _bound(quote.bound, quote.currency))] if quote.bound is not None else []),
            *([("sent", f"one by one on the {quote.lane} lane")] if quote.lane != "batch" else []),
            ("prices of", f"{quote.prices_dated.isoformat()} ({quote.prices_source})"),
        ]
    # These two are said above already.
    notes = [note for note in quote.notes if not note.startswith(("runs on this machine", "price unknown"))]
    return pairs + [("notes", note) for note in notes]


def _output(quote: Quote) -> str:
    if quote.output_tokens_max is None:
        return "no cap is known"
    if quote.output_tokens_max == 0:
        return "0" if quote.rows == 0 else "none"
    return f"at most {quote.output_tokens_max:,} ({quote.output_tokens_max // quote.rows:,} a row)"


def _expected(quote: Quote) -> str:
    from bulkrate.cli.outlook import band

    return f"{band(quote.to_json())} in 95 of 100 such forecasts"


def _bound(bound: Decimal, currency: str) -> str:
    from bulkrate.pricing.money import format_money

    most = format_money(bound, currency, rounding=ROUND_CEILING)
    return f"{most} by the pilot: exceeded at most 5 times of 100"


def _saving(quote: Quote) -> str:
    if not quote.saving_max or not quote.live_max:
        return ""
    return f" (batch is {round(100 * quote.saving_max / quote.live_max)} % less)"


def quote_error(quoted: Decimal, cost: Decimal, currency: str) -> str:
    """How far the quote was from the bill."""
    from bulkrate.pricing.money import format_money

    off = quoted - cost
    if not off:
        return "none: the bill is what was quoted"
    share = f" by {_percent(100 * abs(off) / quoted)} %" if quoted else ""
    return f"{format_money(abs(off), currency)}: the quote was too {'high' if off > 0 else 'low'}{share}"


def _percent(share: Decimal) -> str:
    return f"{share:.0f}" if share >= 10 else f"{share:.2g}"


def left_of(limit: Limit, held: Held) -> str:
    """What is left of a budget."""
    from bulkrate.pricing.budgets import NAMES
    from bulkrate.pricing.money import format_money

    left = format_money(max(limit.amount - held.amount, Decimal(0)))
    return f"{left} left of the {NAMES[limit.scope]} of {format_money(limit.amount)}"


def question(quote: Quote) -> str:
    """What is asked before spending."""
    from bulkrate.pricing.money import format_money

    if quote.cost_max is None:
        return f"Send {quote.rows:,} rows to {quote.provider} at a cost that has no known upper end?"
    most = format_money(quote.cost_max, quote.currency, rounding=ROUND_CEILING)
    return f"Send {quote.rows:,} rows to {quote.provider} for at most {most}?"
