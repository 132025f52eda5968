"""Durations, quotes and other people's words, as they are shown."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import typer

from bulkrate.cli.options import seconds
from bulkrate.cli.quoting import question, quote_pairs
from bulkrate.cli.snapshot import Pace, Snapshot, duration
from bulkrate.cli.terminal import MAX_QUOTED, quoted
from bulkrate.core.usage import NONE
from bulkrate.core.vector import Balance
from bulkrate.pricing import Quote

QUOTE = Quote(
    provider="openai",
    model="gpt-5-mini",
    rows=1_000,
    input_tokens=123_456,
    input_method="exact",
    input_source="toktok o200k_base",
    output_tokens_max=64_000,
    reused_rows=0,
    batch_max=Decimal("0.1211"),
    live_max=Decimal("0.2422"),
    input_only=Decimal("0.01"),
    currency="USD",
    prices_dated=date(2026, 11, 10),
    prices_source="genai-prices 0.2.3",
    published_batch_rate=True,
    free=False,
)


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (timedelta(seconds=-1), "0 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(seconds=185), "3 min 05 s"),
        (timedelta(hours=2, minutes=10), "2 h 10 min"),
        (timedelta(days=1, hours=4, minutes=30), "1 d 4 h"),
    ],
)
def test_durations(span: timedelta, text: str) -> None:
    assert duration(span) == text


@pytest.mark.parametrize(("text", "value"), [("90", 90), ("1.5", 1.5), ("10m", 600), ("2h", 7200), ("0", 0)])
def test_seconds_are_read(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan", "", "10 m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        seconds(text)


def test_foreign_words_cannot_steer_the_terminal() -> None:
    assert quoted("bad\x1b[31m thing\r\nhint: pay me\x07") == "bad [31m thing hint: pay me"
    assert len(quoted("x" * 10_000)) == MAX_QUOTED


def test_a_quote_names_the_date_of_its_prices() -> None:
    pairs = dict(quote_pairs(QUOTE, rejected=12))
    assert pairs == {
        "rows to send": "1,000; 12 rejected",
        "input tokens": "123,456, exact (toktok o200k_base)",
        "output tokens": "at most 64,000 (64 a row)",
        "batch price": "at most 0.13 USD",
        "live price": "at most 0.25 USD (batch is 50 % less)",
        "prices of": "2026-11-10 (genai-prices 0.2.3)",
    }
    assert question(QUOTE) == "Send 1,000 rows to openai for at most 0.13 USD?"


def test_an_unknown_price_is_no_zero() -> None:
    unknown = Quote.from_json(
        QUOTE.to_json()
        | {"batch_max": None, "live_max": None, "input_only": None, "prices_dated": None, "prices_source": ""}
    )
    assert dict(quote_pairs(unknown))["cost"] == "not known: there is no price for this model"
    assert question(unknown) == "Send 1,000 rows to openai at a cost that has no known upper end?"


def test_work_on_this_machine_costs_nothing() -> None:
    free = Quote.from_json(QUOTE.to_json() | {"free": True, "provider": "local"})
    assert dict(quote_pairs(free))["cost"] == "none: it runs on this machine"


def test_the_end_is_estimated_from_the_pace_since_the_first_look() -> None:
    began = datetime(2026, 11, 24, 12, tzinfo=UTC)
    pace = Pace(began)

    def at(done: int) -> Snapshot:
        return Snapshot("active", "openai", Balance(succeeded=done, pending=100 - done), NONE, 0)

    assert pace.end_at(at(20), began) is None, "no pace yet"
    assert pace.end_at(at(20), began + timedelta(seconds=10)) is None, "nothing got done"
    assert pace.end_at(at(40), began + timedelta(seconds=10)) == began + timedelta(seconds=40)
    assert pace.end_at(at(100), began + timedelta(seconds=50)) is None, "it is over"
