"""Charges: every token in one line and no more, priced by its lane; and what cannot be exported."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.usage import Usage
from bulkrate.errors import BulkrateError
from bulkrate.pricing import price, rate
from bulkrate.pricing.charges import Used, charges
from bulkrate.pricing.focus import COLUMNS, focus_rows, write_focus
from bulkrate.pricing.statement import DIMENSIONS, statement

AT = datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC)


def _used(**changes: Any) -> Used:
    fields: dict[str, Any] = {
        "run": "xm0o9nc4zy",
        "job": "tickets",
        "model": "openai/gpt-5-mini",
        "lane": "batch",
        "attempt": "first",
        "ended": "answered",
        "batch": "batch_1",
        "requests": 10,
        "usage": Usage(3_500, 80, cached_tokens=1_000, reasoning_tokens=20),
        "ended_at": AT,
        "priced_at": AT,
        **changes,
    }
    return Used(**fields)


@given(
    model=st.sampled_from(["gpt-5-mini", "gpt-6-sol", "o3", "gpt-4o-mini"]),
    lane=st.sampled_from(["batch", "flex", "live"]),
    parts=st.tuples(*[st.integers(0, 400_000)] * 5),
    requests=st.integers(1, 3),
)
def test_the_lines_add_up_to_the_price(model: str, lane: str, parts: tuple[int, ...], requests: int) -> None:
    plain, cached, written, answer, reasoning = parts
    usage = Usage(plain + cached + written, answer + reasoning, cached, written, reasoning)
    lines = charges([_used(model=f"openai/{model}", lane=lane, usage=usage, requests=requests)])
    own, live = rate("openai", model, lane, AT), rate("openai", model, "live", AT)
    assert own is not None and live is not None
    assert sum((line.cost or 0 for line in lines), Decimal(0)) == price(own, usage, requests=requests)
    assert sum((line.live or 0 for line in lines), Decimal(0)) == price(live, usage, requests=requests)
    assert sum(line.quantity for line in lines) == sum(parts)
    assert len({line.kind for line in lines}) == len(lines)


def test_one_unknown_price_makes_the_sums_unknown_and_is_named() -> None:
    lines = charges([_used(), _used(model="openai/foo", ended="truncated")])
    found = statement(lines, by=list(DIMENSIONS), runs=1, accepted_rows=10, quoted=None, possibly_billed=0)
    assert (found.whole.cost, found.per_accepted_row) == (None, None)
    assert found.to_json()["unpriced"] == ["openai/foo"]
    assert found.wasted["truncated"].cost is None
    assert {names[0]: each.cost for names, each in found.groups.items()}["openai/gpt-5-mini"]
    assert {(names[-2], names[-1]) for names in found.groups} == {("2026-11-30", "2026-11")}


def test_a_lane_without_a_published_price_is_named() -> None:
    lines = charges([_used(), _used(model="openai/gpt-4o-mini", lane="flex")])
    found = statement(lines, by=["lane"], runs=1, accepted_rows=1, quoted=None, possibly_billed=0)
    assert found.unpublished == (("openai/gpt-4o-mini", "flex"),)
    assert found.groups["flex",].saving == 0


def test_a_focus_row_needs_a_price() -> None:
    with pytest.raises(BulkrateError, match="no price is known for openai/foo") as caught:
        focus_rows(charges([_used(model="openai/foo")]))
    assert caught.value.code == "price_unknown"


def test_a_focus_row_is_an_hour_of_a_month() -> None:
    row = focus_rows(charges([_used()]))[0]
    assert tuple(row) == COLUMNS
    assert (row["ChargePeriodStart"], row["ChargePeriodEnd"]) == (
        datetime(2026, 11, 30, 23, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
    )
    assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 12, 1, tzinfo=UTC),
    )


def test_lines_of_one_kind_and_price_are_one_focus_row() -> None:
    rows = focus_rows(charges([_used(), _used(ended="truncated"), _used(batch="batch_2")]))
    assert [row["PricingQuantity"] for row in rows if row["SkuMeter"] == "Input Tokens"] == [5_000, 2_500]


def test_an_empty_export_has_its_columns(tmp_path: Path) -> None:
    write_focus([], tmp_path / "none.csv")
    assert (tmp_path / "none.csv").read_text() == ",".join(COLUMNS) + "\n"
    with pytest.raises(BulkrateError, match=r"written as \.csv or \.parquet"):
        write_focus([], tmp_path / "none.xlsx")
