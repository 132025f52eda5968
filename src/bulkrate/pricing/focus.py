"""FOCUS 1.2 rows (the FinOps Foundation's open format for bills) from charges, and their file.

One row for each kind of token of a batch, or of a run's single requests in an hour. Columns of our own begin
with `x_`, as the specification asks. The cost is what the tokens reported cost at the known rate; an invoice
may differ. Specification: focus.finops.org, version 1.2 of May 2025; checked with focus-validator 2.2.1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkrate.errors import BulkrateError
from bulkrate.pricing.charges import Charge
from bulkrate.pricing.money import CURRENCY

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = "1.2"

# Costs of an engine by the hour do not end; this is a billionth of a billionth.
_PLACES = Decimal("1e-18")
_MILLION = 1_000_000
_THOUSAND = 1_000

_KINDS = {
    "input": "Input Tokens",
    "cached": "Cached Input Tokens",
    "cache_write": "Cache Write Tokens",
    "output": "Output Tokens",
    "reasoning": "Reasoning Tokens",
    "request": "Requests",
}
_NAMES = {
    "openai": "OpenAI",
    "anthropic": "Anthropic",
    "google": "Google",
    "azure": "Microsoft",
    "mistral": "Mistral AI",
    "aws": "AWS",
    "bedrock": "AWS",
    "groq": "Groq",
    "x-ai": "xAI",
}

_DECIMALS = frozenset(
    {
        "BilledCost",
        "ConsumedQuantity",
        "ContractedCost",
        "ContractedUnitPrice",
        "EffectiveCost",
        "ListCost",
        "ListUnitPrice",
        "PricingQuantity",
    }
)
_TIMES = frozenset({"BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart"})


@dataclass(frozen=True, slots=True)
class _Group:
    """What one row is about."""

    run: str
    job: str
    tags: tuple[tuple[str, str], ...]
    model: str
    lane: str
    batch: str
    kind: str
    unit_price: Decimal
    live_unit_price: Decimal
    hour: datetime
    priced: str
    over_tokens: int = 0


def focus_rows(found: Iterable[Charge]) -> list[dict[str, Any]]:
    """The rows: costs as Decimal, times in UTC, None for null. Raises BulkrateError for a charge without a
    price."""
    sums: dict[_Group, tuple[int, Decimal, Decimal]] = {}
    for charge in found:
        if charge.cost is None or charge.live is None:
            raise BulkrateError(
                f"no price is known for {charge.used.model}, and a FOCUS row needs a cost",
                code="price_unknown",
                hint="docs/reference/prices.md says how to give it one; --since or RUN leave runs out",
            )
        group = _group(charge)
        quantity, cost, live = sums.get(group, (0, Decimal(0), Decimal(0)))
        sums[group] = (quantity + charge.quantity, cost + charge.cost, live + charge.live)
    return [_row(group, *sums[group]) for group in sorted(sums, key=_order)]


def _group(charge: Charge) -> _Group:
    used = charge.used
    per = _THOUSAND if charge.kind == "request" else _MILLION
    dated = "" if charge.prices_dated is None else f"{charge.prices_dated.isoformat()} "
    return _Group(
        run=used.run,
        job=used.job,
        tags=used.tags,
        model=used.model,
        lane=used.lane,
        batch=used.batch,
        kind=charge.kind,
        unit_price=(charge.unit_price or Decimal(0)) / per,
        live_unit_price=(charge.live_unit_price or Decimal(0)) / per,
        hour=used.ended_at.replace(minute=0, second=0, microsecond=0),
        priced=dated + charge.prices_source,
        over_tokens=used.over_tokens,
    )


def _order(group: _Group) -> tuple[Any, ...]:
    return (group.hour, group.run, group.batch, group.model, group.lane, group.kind, group.unit_price)


def _row(group: _Group, quantity: int, cost: Decimal, live: Decimal) -> dict[str, Any]:
    provider, _, model = group.model.partition("/")
    name = _NAMES.get(provider, provider)
    unit = "Requests" if group.kind == "request" else "Tokens"
    amount = Decimal(quantity).quantize(Decimal("0.1"))  # a number without a point is read as no decimal
    month = group.hour.replace(day=1, hour=0)
    over = f" over {group.over_tokens}" if group.over_tokens else ""
    return {
        "AvailabilityZone": None,
        "BilledCost": _exact(cost),
        "BillingAccountId": provider,
        "BillingAccountName": None,
        "BillingAccountType": None,
        "BillingCurrency": CURRENCY,
        "BillingPeriodEnd": (month + timedelta(days=32)).replace(day=1),
        "BillingPeriodStart": month,
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeDescription": f"{_KINDS[group.kind]} of {model}, {group.lane}",
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodEnd": group.hour + timedelta(hours=1),
        "ChargePeriodStart": group.hour,
        "ConsumedQuantity": amount,
        "ConsumedUnit": unit,
        "ContractedCost": _exact(cost),
        "ContractedUnitPrice": _exact(group.unit_price),
        "EffectiveCost": _exact(cost),
        "InvoiceId": None,
        "InvoiceIssuerName": name,
        "ListCost": _exact(live),
        "ListUnitPrice": _exact(group.live_unit_price),
        "PricingCategory": "Standard",
        "PricingQuantity": amount,
        "PricingUnit": unit,
        "ProviderName": name,
        "PublisherName": name,
        "ResourceId": group.batch or group.run,
        "ResourceName": None,
        "ResourceType": "Batch" if group.batch else "Run",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": f"{name} API",
        "ServiceSubcategory": "Generative AI",
        "SkuId": group.model,
        "SkuMeter": _KINDS[group.kind],
        "SkuPriceDetails": json.dumps({"x_lane": group.lane}),
        "SkuPriceId": f"{group.model} {group.kind} {group.lane}{over}",
        "SubAccountId": None,
        "SubAccountName": None,
        "SubAccountType": None,
        "Tags": json.dumps({**dict(group.tags), "bulkrate/job": group.job}),
        "x_RunId": group.run,
        "x_Lane": group.lane,
        "x_TokenKind": group.kind,
        "x_Prices": group.priced,
    }


def _exact(amount: Decimal) -> Decimal:
    exponent = amount.as_tuple().exponent
    return amount if isinstance(exponent, int) and exponent >= -18 else amount.quantize(_PLACES)


_NOTHING = _Group(
    "", "", (), "/", "", "", "input", Decimal(0), Decimal(0), datetime(2026, 1, 1, tzinfo=UTC), ""
)
COLUMNS = tuple(_row(_NOTHING, 0, Decimal(0), Decimal(0)))


def write_focus(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the rows as CSV or Parquet, by the file's ending. Raises BulkrateError for another."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        pq.write_table(_table(rows), path)
    elif path.suffix == ".csv":
        import csv

        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    else:
        raise BulkrateError(
            f"{path.name}: FOCUS rows are written as .csv or .parquet",
            code="usage",
            hint="end the file's name with one of them",
        )


def _table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    import pyarrow as pa

    def kind(name: str) -> pa.DataType:
        if name in _DECIMALS:
            return pa.decimal128(38, 18)
        return pa.timestamp("us", tz="UTC") if name in _TIMES else pa.string()

    schema = pa.schema([(name, kind(name)) for name in COLUMNS])
    return pa.Table.from_pylist(list(rows), schema=schema)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
