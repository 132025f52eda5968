"""What a run comes to, in words: beside what was expected, with a warning where it is above that."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

from bulkrate.pricing.money import format_money

if TYPE_CHECKING:
    from bulkrate.pipeline.workspace import Workspace

Costs = Mapping[str, str | None]


def band(costs: Costs) -> str:
    """`about 4.82 USD, 4.70 USD to 5.15 USD`; what is not known is a question mark."""

    def said(name: str, rounding: str) -> str:
        amount = costs[name]
        return "?" if amount is None else format_money(Decimal(amount), rounding=rounding)

    low, high = said("low", ROUND_FLOOR), said("high", ROUND_CEILING)
    return f"about {said('expected', ROUND_HALF_EVEN)}, {low} to {high}"


def above(comes_to: str | None, expected: Costs) -> bool:
    """Whether a cost is over the upper end of what was expected."""
    most = expected["high"]
    return comes_to is not None and most is not None and Decimal(comes_to) > Decimal(most)


def outlook(workspace: Workspace, run_id: str) -> str:
    """One line about a run under way; empty where nothing told beforehand what it would cost."""
    from bulkrate.pipeline.expected import expected_band
    from bulkrate.pipeline.reforecast import reforecast_cost

    run = workspace.run(run_id)
    expected = expected_band(workspace.ledger, run)
    now = None if expected is None else reforecast_cost(workspace, run)
    if expected is None or now is None:
        return ""
    said = f"forecast: {band(now.to_json())}"
    if above(now.to_json()["expected"], expected.to_json()):
        said += f"; warning: {band(expected.to_json())} was expected"
    return said
