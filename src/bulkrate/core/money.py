"""Amounts of money as people write them. One currency so far: every published price is in USD."""

from __future__ import annotations

import re
from decimal import Decimal

from bulkrate.errors import BulkrateError

CURRENCY = "USD"

_AMOUNT = re.compile(
    r"(?P<dollar>\$\s*)?(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(?P<currency>[A-Za-z]{3})?", re.ASCII
)


def parse_money(text: str) -> Decimal:
    """Read "20", "20USD", "20 USD" or "$20".

    Thousands separators are refused: "1,500" is one and a half in half of the world.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise BulkrateError(
            f"not an amount of money: {text!r}",
            code="bad_money",
            hint='write it as "20", "0.50", "20 USD" or "$20", without thousands separators',
        )
    currency = match["currency"]
    if currency is not None and currency.upper() != CURRENCY:
        raise BulkrateError(
            f"{currency.upper()} is not supported: prices are in {CURRENCY}",
            code="bad_money",
            hint=f"give the amount in {CURRENCY}",
        )
    return Decimal(match["number"])
