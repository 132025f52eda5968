"""Amounts of money as people read them."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from bulkrate.core.money import CURRENCY, parse_money

__all__ = ["CURRENCY", "format_money", "parse_money"]

_CENT = Decimal("0.01")


def format_money(amount: Decimal, currency: str = CURRENCY, *, rounding: str = ROUND_HALF_EVEN) -> str:
    """Write cents from one unit upwards ("12.34 USD"), two significant digits below ("0.00012 USD").

    Pass `rounding=ROUND_CEILING` for a bound: a rounded ceiling must not look lower than it is.
    """
    step = _CENT
    if 0 < abs(amount) < 1:
        step = min(_CENT, Decimal(1).scaleb(amount.adjusted() - 1))
    return f"{amount.quantize(step, rounding=rounding):f} {currency}"
