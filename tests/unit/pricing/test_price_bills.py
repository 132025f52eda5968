"""The bill: usage priced by model, batch beside live."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from inline_snapshot import snapshot

from bulkrate.core.usage import NONE, Usage
from bulkrate.pricing import bill

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_sums_by_model() -> None:
    found = bill(
        [
            ("openai/gpt-5-mini", Usage(1000, 100)),
            ("openai/text-embedding-3-small", Usage(5000, 0), 50),
            ("openai/gpt-5-mini", Usage(3000, 300, cached_tokens=2000), 3),
        ],
        NOW,
    )
    assert found.to_json() == snapshot(
        {
            "cost": "0.000775",
            "batch": "0.000775",
            "live": "0.00145",
            "saving": "0.000675",
            "currency": "USD",
            "usage": {
                "input_tokens": 9000,
                "cached_tokens": 2000,
                "cache_write_tokens": 0,
                "output_tokens": 400,
                "reasoning_tokens": 0,
            },
            "models": [
                {
                    "model": "openai/gpt-5-mini",
                    "requests": 4,
                    "usage": {
                        "input_tokens": 4000,
                        "cached_tokens": 2000,
                        "cache_write_tokens": 0,
                        "output_tokens": 400,
                        "reasoning_tokens": 0,
                    },
                    "cost": "0.000675",
                    "batch": "0.000675",
                    "live": "0.00135",
                    "saving": "0.000675",
                    "published_batch_rate": True,
                    "prices_dated": "2026-11-10",
                    "prices_source": "genai-prices 0.2.3",
                },
                {
                    "model": "openai/text-embedding-3-small",
                    "requests": 50,
                    "usage": {
                        "input_tokens": 5000,
                        "cached_tokens": 0,
                        "cache_write_tokens": 0,
                        "output_tokens": 0,
                        "reasoning_tokens": 0,
                    },
                    "cost": "0.0001",
                    "batch": "0.0001",
                    "live": "0.0001",
                    "saving": "0.0000",
                    "published_batch_rate": False,
                    "prices_dated": "2026-11-10",
                    "prices_source": "genai-prices 0.2.3",
                },
            ],
        }
    )


def test_one_record_of_many_costs_as_much_as_many_records() -> None:
    one_by_one = bill((("openai/gpt-6-sol", Usage(300, 10)) for _ in range(1000)), NOW)
    at_once = bill([("openai/gpt-6-sol", Usage(300_000, 10_000), 1000)], NOW)
    assert one_by_one == at_once
    assert at_once.batch == (300_000 * Decimal(1) + 10_000 * Decimal(5)) / 1_000_000


def test_one_unknown_price_makes_the_total_unknown() -> None:
    found = bill([("openai/gpt-5-mini", Usage(1000, 100)), ("openai/foo", Usage(10, 10))], NOW)
    assert (found.batch, found.live, found.saving) == (None, None, None)
    assert found.unpriced == ("openai/foo",)
    assert found.lines[1].batch == Decimal("0.000225")


def test_no_saving_without_a_published_batch_rate() -> None:
    found = bill([("groq/llama-3.3-70b-versatile", Usage(1_000_000, 1_000_000))], NOW)
    assert not found.lines[0].published_batch_rate
    assert found.saving == 0


def test_this_machine_is_free_and_nothing_is_nothing() -> None:
    assert bill([("local/smollm2-135m", Usage(1_000, 10))], NOW).batch == 0
    assert (bill([], NOW).batch, bill([], NOW).usage) == (0, NONE)
