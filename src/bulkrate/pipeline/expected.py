"""What a run was expected to cost when it was approved."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import orjson

from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord
from bulkrate.pricing import Quote
from bulkrate.pricing.statement import text


@dataclass(frozen=True, slots=True)
class Band:
    """Costs: what is likely, and between what it lies 95 times of 100. None: not known."""

    low: Decimal | None
    expected: Decimal | None
    high: Decimal | None

    def to_json(self) -> dict[str, str | None]:
        """As a document holds it."""
        return {"low": text(self.low), "expected": text(self.expected), "high": text(self.high)}


def expected_band(ledger: Ledger, run: RunRecord) -> Band | None:
    """By the plan that the run was begun by, else by its quote; None if neither knew."""
    found = [event for event in ledger.events(run.id, kind="plan") if event.detail_json]
    if found and found[-1].detail_json is not None:
        detail = orjson.loads(found[-1].detail_json)
        amounts = (detail.get(name) for name in ("low", "expected", "high"))
        return Band(*(None if amount is None else Decimal(amount) for amount in amounts))
    quote = None if run.quote_json is None else Quote.from_json(orjson.loads(run.quote_json))
    if quote is None or quote.expected is None:
        return None
    return Band(quote.low, quote.expected, quote.high)
