"""Rates and prices against genai-prices itself: by hand for some models, by its own calculation for all."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import genai_prices
import pytest
from genai_prices.data import providers
from inline_snapshot import snapshot

from bulkrate.core.usage import Usage
from bulkrate.pricing import Rate, Step, price, rate

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BEFORE_BATCH = datetime(2026, 10, 1, tzinfo=UTC)
NEXT_YEAR = datetime(2027, 1, 1, tzinfo=UTC)

EVERY_MODEL = [(provider.id, model.id) for provider in providers for model in provider.models]


def _rate(provider: str, model: str, lane: str = "batch", at: datetime = NOW) -> Rate:
    found = rate(provider, model, lane, at)
    assert found is not None
    return found


def _row(provider: str, model: str, at: datetime = NOW) -> tuple[str, ...]:
    batch, live = _rate(provider, model, "batch", at), _rate(provider, model, "live", at)
    return (
        "published" if batch.published else "no batch rate",
        *(
            f"{getattr(batch, kind)} / {getattr(live, kind)}"
            for kind in ("input_mtok", "cached_mtok", "cache_write_mtok", "output_mtok")
        ),
    )


def test_batch_and_live_rates_of_known_models() -> None:
    # Batch / live: input, cached, cache write, output. Read beside the providers' price pages.
    models = [
        ("openai", "gpt-5-mini"),
        ("openai", "gpt-4o-mini"),  # the cached price stays, as published
        ("openai", "gpt-5.6-luna"),  # cache writes have a price
        ("openai", "text-embedding-3-small"),
        ("anthropic", "claude-sonnet-4-5"),
        ("anthropic", "claude-3-haiku"),
        ("google", "gemini-2.5-flash"),
        ("x-ai", "grok-4.3"),  # a fifth off, not a half
        ("mistral", "mistral-small-latest"),
        ("groq", "llama-3.3-70b-versatile"),
        ("openai", "gpt-3.5-turbo-1106"),  # published, and no cheaper
    ]
    assert {"/".join(model): _row(*model) for model in models} == snapshot(
        {
            "openai/gpt-5-mini": ("published", "0.125 / 0.25", "0.0125 / 0.025", "None / None", "1 / 2"),
            "openai/gpt-4o-mini": ("published", "0.075 / 0.15", "0.075 / 0.075", "None / None", "0.3 / 0.6"),
            "openai/gpt-5.6-luna": ("published", "0.1 / 0.2", "0.01 / 0.02", "0.125 / 0.25", "0.6 / 1.2"),
            "openai/text-embedding-3-small": (
                "no batch rate",
                "0.02 / 0.02",
                "None / None",
                "None / None",
                "None / None",
            ),
            "anthropic/claude-sonnet-4-5": ("published", "1.5 / 3", "0.15 / 0.3", "1.875 / 3.75", "7.5 / 15"),
            "anthropic/claude-3-haiku": (
                "no batch rate",
                "0.25 / 0.25",
                "0.03 / 0.03",
                "0.3 / 0.3",
                "1.25 / 1.25",
            ),
            "google/gemini-2.5-flash": (
                "published",
                "0.15 / 0.3",
                "0.03 / 0.03",
                "None / None",
                "1.25 / 2.5",
            ),
            "x-ai/grok-4.3": ("published", "1 / 1.25", "0.16 / 0.2", "None / None", "2 / 2.5"),
            "mistral/mistral-small-latest": (
                "published",
                "0.075 / 0.15",
                "0.0075 / 0.015",
                "None / None",
                "0.3 / 0.6",
            ),
            "groq/llama-3.3-70b-versatile": (
                "no batch rate",
                "0.59 / 0.59",
                "None / None",
                "None / None",
                "0.79 / 0.79",
            ),
            "openai/gpt-3.5-turbo-1106": ("published", "1 / 1", "None / None", "None / None", "2 / 2"),
        }
    )


def test_long_context_steps_are_whole_sets_of_rates() -> None:
    assert _rate("openai", "gpt-6-sol").steps == snapshot(
        (
            Step(
                over_tokens=272000,
                input_mtok=Decimal("2"),
                cached_mtok=Decimal("0.2"),
                cache_write_mtok=Decimal("2.5"),
                output_mtok=Decimal("7.5"),
            ),
        )
    )


@pytest.mark.parametrize(
    ("provider", "model", "usage", "expected"),
    [
        # batch: 0.125 in, 1 out
        ("openai", "gpt-5-mini", Usage(1000, 200), (1000 * Decimal("0.125") + 200) / 1_000_000),
        # batch cached input 0.0125; reasoning is output at the same price
        (
            "openai",
            "gpt-5-mini",
            Usage(1000, 200, cached_tokens=600, reasoning_tokens=150),
            (400 * Decimal("0.125") + 600 * Decimal("0.0125") + 200) / 1_000_000,
        ),
        # batch halves input (0.075) and output (0.3), and leaves the cached price at the live 0.075
        (
            "openai",
            "gpt-4o-mini",
            Usage(1000, 100, cached_tokens=1000),
            (1000 * Decimal("0.075") + 100 * Decimal("0.3")) / 1_000_000,
        ),
        # long context: at the step the base rates, one token above it the step's for all tokens
        ("openai", "gpt-6-sol", Usage(272_000, 10), (272_000 * Decimal(1) + 10 * Decimal(5)) / 1_000_000),
        (
            "openai",
            "gpt-6-sol",
            Usage(272_001, 10, cached_tokens=1, cache_write_tokens=2000),
            (270_000 * Decimal(2) + Decimal("0.2") + 2000 * Decimal("2.5") + 10 * Decimal("7.5")) / 1_000_000,
        ),
        # cache writes at 1.25 of the input price, halved with it
        (
            "anthropic",
            "claude-sonnet-4-5",
            Usage(10_000, 500, cached_tokens=4000, cache_write_tokens=1000),
            (5000 * Decimal("1.5") + 4000 * Decimal("0.15") + 1000 * Decimal("1.875") + 500 * Decimal("7.5"))
            / 1_000_000,
        ),
        # no output price: an embedding costs its input
        ("openai", "text-embedding-3-small", Usage(1000, 0), Decimal("0.00002")),
    ],
)
def test_price_by_hand(provider: str, model: str, usage: Usage, expected: Decimal) -> None:
    assert price(_rate(provider, model), usage) == expected


def test_a_sum_of_many_requests_is_not_taken_for_one_long_request() -> None:
    many = Usage(input_tokens=1000 * 300, output_tokens=1000 * 10)
    of_one = price(_rate("openai", "gpt-6-sol"), Usage(300, 10))
    assert price(_rate("openai", "gpt-6-sol"), many, requests=1000) == 1000 * of_one


def test_requests_are_charged_where_the_provider_charges_for_them() -> None:
    live = _rate("perplexity", "sonar", "live")
    assert live.request_k is not None
    assert price(live, Usage(), requests=3) == 3 * live.request_k / 1000


def test_parts_larger_than_their_whole_are_never_a_refund() -> None:
    assert price(_rate("openai", "gpt-5-mini"), Usage(input_tokens=0, cached_tokens=1_000_000)) == Decimal(
        "0.0125"
    )


@pytest.mark.parametrize(
    "at", [NOW, BEFORE_BATCH, NEXT_YEAR], ids=["now", "before batch prices", "next year"]
)
def test_every_model_without_a_batch_price_is_flagged(at: datetime) -> None:
    flagged = 0
    for provider, model in EVERY_MODEL:
        batch, live = rate(provider, model, "batch", at), rate(provider, model, "live", at)
        if batch is None or live is None:
            assert batch is live is None
            continue
        matched = _independent(provider, model, Usage(), "live", at).model
        variants = [v for v in matched.price_variants or () if v.when == {"processing": "batch"}]
        expected = any(v.constraint is None or v.constraint.active(at) for v in variants)
        assert batch.published == expected, (provider, model)
        if not batch.published:
            flagged += 1
            # The stand-in is the live rate, not a fraction of it.
            assert price(batch, Usage(1_000_000, 1_000_000)) == price(live, Usage(1_000_000, 1_000_000))
    assert flagged > 1000


@pytest.mark.parametrize("lane", ["batch", "live"])
def test_every_model_costs_what_the_library_computes(lane: str) -> None:
    usages = [
        Usage(350, 8),
        Usage(12_345, 678, cached_tokens=9_000, cache_write_tokens=1_111, reasoning_tokens=600),
        Usage(600_000, 4_000, cached_tokens=1_024, cache_write_tokens=7, reasoning_tokens=3_999),
    ]
    compared = 0
    for provider, model in EVERY_MODEL:
        ours = rate(provider, model, lane, NOW)
        if ours is None:
            continue
        for usage in usages:
            theirs = _independent(provider, model, usage, lane, NOW)
            if theirs.provider.id != ours.priced_as.partition("/")[0]:
                continue
            assert price(ours, usage) == theirs.total_price, (provider, model, usage)
            compared += 1
    assert compared > 5000


def _independent(
    provider: str, model: str, usage: Usage, lane: str, at: datetime
) -> genai_prices.types.PriceCalculation:
    return genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=at,
        price_context={"processing": "batch"} if lane == "batch" else None,
    )


def test_rates_change_on_their_day() -> None:
    assert _rate("google", "gemini-3.6-flash").input_mtok == Decimal("0.375")
    assert _rate("google", "gemini-3.6-flash", at=NEXT_YEAR).input_mtok == Decimal("0.75")


def test_before_the_first_batch_price_there_is_none() -> None:
    assert not _rate("openai", "gpt-5-mini", at=BEFORE_BATCH).published


def test_a_resellers_batch_rate_is_not_the_makers() -> None:
    azure = _rate("azure", "gpt-5-mini")
    assert (azure.published, azure.priced_as) == (False, "openai/gpt-5-mini")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "foo"),
        ("openai", ""),
        ("my-openai-proxy", "gpt-5-mini"),  # the library's own lookup would price it as OpenAI
        ("openai", "moderation"),  # listed without a token price
        ("groq", "whisper-large-v3"),  # priced by the second
    ],
)
def test_an_unknown_price_is_none_never_zero(provider: str, model: str) -> None:
    assert rate(provider, model, "batch", NOW) is None
    assert rate(provider, model, "live", NOW) is None


def test_this_machine_charges_nothing() -> None:
    local = _rate("local", "smollm2-135m")
    assert price(local, Usage(1_000_000, 1_000_000, cached_tokens=500)) == 0
    assert local.dated is None


def test_prices_carry_date_and_source() -> None:
    found = _rate("openai", "gpt-5-mini")
    assert found.source == f"genai-prices {genai_prices.__version__}"
    lock = tomllib.loads((Path(__file__).parents[3] / "uv.lock").read_text())
    locked = next(package for package in lock["package"] if package["name"] == "genai-prices")
    assert locked["version"] == genai_prices.__version__
    # The lock file knows when a version was published; a new version must be added to the list of dates.
    assert found.dated == datetime.fromisoformat(locked["wheels"][0]["upload-time"]).date()


def test_an_unknown_lane_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="express"):
        rate("openai", "gpt-5-mini", "express", NOW)
