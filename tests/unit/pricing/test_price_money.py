"""Amounts as people write them."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

import pytest

from bulkrate.errors import BulkrateError
from bulkrate.pricing import format_money, parse_money


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("20", "20"),
        ("20USD", "20"),
        ("20 USD", "20"),
        ("20 usd", "20"),
        ("$20", "20"),
        ("$ 20.50", "20.50"),
        (" .5 ", "0.5"),
        ("0", "0"),
    ],
)
def test_reads_the_usual_ways(text: str, amount: str) -> None:
    assert parse_money(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text", ["", "$", "twenty", "-1", "1,500", "1e3", "NaN", "inf", "20 EUR", "٢٠", "20 USD 5", "1_000", "5."]
)
def test_refuses_the_rest_with_a_hint(text: str) -> None:
    with pytest.raises(BulkrateError) as caught:
        parse_money(text)
    assert caught.value.code == "bad_money"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("0", "0.00 USD"),
        ("12.345", "12.34 USD"),
        ("1234567.8", "1234567.80 USD"),
        ("0.5", "0.50 USD"),
        ("0.00014375", "0.00014 USD"),
        ("-0.00014375", "-0.00014 USD"),
        ("1E+2", "100.00 USD"),
    ],
)
def test_writes_cents_or_two_digits(amount: str, written: str) -> None:
    assert format_money(Decimal(amount)) == written


def test_a_bound_is_rounded_up() -> None:
    assert format_money(Decimal("20.001"), rounding=ROUND_CEILING) == "20.01 USD"
