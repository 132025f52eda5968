"""What a plan was made of: model, rows and prices, in a form that can be compared."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bulkrate.pipeline.setup import Setup
from bulkrate.pricing.rates import LANES, Rate


def name_of(setup: Setup) -> str:
    """The model as "provider/name"."""
    return f"{setup.job.provider}/{setup.model}"


def digests_of(setup: Setup, snapshot: str, at: datetime) -> dict[str, Any]:
    """What a run is held against: the files' content, the model, and the prices in force."""
    return {
        "source": snapshot,
        "model": name_of(setup),
        "prices": {lane: rate_document(rate) for lane, rate in rates_of(setup, at).items()},
    }


def rate_document(rate: Rate | None) -> dict[str, Any] | None:
    """What a rate charges; not its date or source, which may change without changing a price."""
    if rate is None:
        return None
    kinds = ("input_mtok", "cached_mtok", "cache_write_mtok", "output_mtok", "reasoning_mtok")

    def amounts(of: Any) -> dict[str, str | None]:
        prices = {kind: getattr(of, kind) for kind in kinds}
        return {kind: None if cost is None else f"{cost.normalize():f}" for kind, cost in prices.items()}

    return amounts(rate) | {
        "request_k": None if rate.request_k is None else f"{rate.request_k.normalize():f}",
        "steps": [{"over_tokens": step.over_tokens} | amounts(step) for step in rate.steps],
    }


def rates_of(setup: Setup, at: datetime) -> dict[str, Rate | None]:
    return {lane: setup.prices.rate(setup.job.provider, setup.model, lane, at) for lane in LANES}
