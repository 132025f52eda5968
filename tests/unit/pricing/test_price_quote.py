"""The quote before anything is spent, and the limit it is held against."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from bulkrate.core.usage import Usage
from bulkrate.errors import Refused
from bulkrate.pricing import Quote, TooFew, check_max_cost, make_quote, price, rate

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def _quote(model: str = "openai/gpt-5-mini", **changes: Any) -> Quote:
    provider, _, name = model.partition("/")
    arguments: dict[str, Any] = {
        "provider": provider,
        "model": name,
        "rows": 1000,
        "input_tokens": 350_000,
        "input_method": "exact",
        "input_source": "o200k_base",
        "max_output_tokens": 100,
        "at": NOW,
        **changes,
    }
    return make_quote(**arguments)


def test_a_quote_as_a_document() -> None:
    assert _quote(reused_rows=7, notes=["images are not counted"]).to_json() == snapshot(
        {
            "provider": "openai",
            "model": "gpt-5-mini",
            "rows": 1000,
            "input_tokens": 350000,
            "input_method": "exact",
            "input_source": "o200k_base",
            "output_tokens_max": 100000,
            "reused_rows": 7,
            "batch_max": "0.14375",
            "live_max": "0.2875",
            "input_only": "0.04375",
            "currency": "USD",
            "prices_dated": "2026-11-10",
            "prices_source": "genai-prices 0.2.3",
            "published_batch_rate": True,
            "free": False,
            "notes": ["images are not counted"],
            "lane": "batch",
            "flex_max": "0.14375",
            "published_flex_rate": True,
            "low": None,
            "expected": None,
            "high": None,
            "bound": None,
            "longest_input_tokens": None,
        }
    )


@pytest.mark.parametrize(
    "model", ["openai/gpt-5-mini", "openai/foo", "local/smollm2-135m", "groq/llama-3.3-70b-versatile"]
)
def test_survives_json(model: str) -> None:
    quote = _quote(model, max_output_tokens=None)
    assert Quote.from_json(json.loads(json.dumps(quote.to_json()))) == quote


def test_reads_the_document_of_a_newer_version() -> None:
    quote = _quote()
    assert Quote.from_json({**quote.to_json(), "band": ["1", "2"]}) == quote


def test_ceiling_floor_and_saving() -> None:
    quote = _quote()
    # batch: 0.125 in and 1 out, live: 0.25 and 2, per million
    assert quote.output_tokens_max == 100_000
    assert quote.batch_max == Decimal("0.04375") + Decimal("0.1")
    assert quote.live_max == Decimal("0.0875") + Decimal("0.2")
    assert quote.input_only == Decimal("0.04375")
    assert quote.saving_max == Decimal("0.14375")
    assert quote.published_batch_rate
    assert quote.prices_dated is not None
    assert quote.prices_dated >= date(2026, 11, 10)
    assert quote.notes == ()


def test_no_published_batch_rate() -> None:
    quote = _quote("groq/llama-3.3-70b-versatile")
    assert not quote.published_batch_rate
    assert quote.batch_max == quote.live_max
    assert quote.notes == ("no published batch rate: the live price stands in",)


def test_unknown_price() -> None:
    quote = _quote("openai/foo")
    assert (quote.batch_max, quote.live_max, quote.input_only, quote.prices_dated) == (None, None, None, None)
    assert not quote.published_batch_rate
    assert quote.notes == ("price unknown for openai/foo",)


def test_no_cap_no_ceiling() -> None:
    quote = _quote(max_output_tokens=None)
    assert (quote.output_tokens_max, quote.batch_max, quote.live_max) == (None, None, None)
    assert quote.input_only == Decimal("0.04375")
    assert quote.notes == ("no cap on output: the ceiling is unknown",)


def test_an_embedding_needs_no_cap() -> None:
    quote = _quote("openai/text-embedding-3-small", max_output_tokens=None)
    assert quote.batch_max == quote.input_only == Decimal("0.007")
    assert "no cap on output: the ceiling is unknown" not in quote.notes


def test_nothing_to_send_costs_nothing() -> None:
    quote = _quote(rows=0, input_tokens=0, max_output_tokens=None, reused_rows=1000)
    assert (quote.batch_max, quote.output_tokens_max, quote.reused_rows) == (0, 0, 1000)
    assert quote.notes == ()


def test_this_machine_is_free() -> None:
    quote = _quote("local/smollm2-135m", max_output_tokens=None, input_method="estimate")
    assert quote.free
    assert (quote.batch_max, quote.live_max, quote.input_only) == (0, 0, 0)
    assert quote.notes == ("runs on this machine: no price per token",)


def test_an_estimate_says_so() -> None:
    quote = _quote(
        "anthropic/claude-sonnet-4-5",
        input_method="estimate",
        input_source="bytes / 4",
        longest_input_tokens=900,
    )
    assert quote.notes == ("input tokens are an estimate (bytes / 4): the ceiling is off by as much",)


def test_the_entry_a_name_was_matched_to_is_shown() -> None:
    assert _quote("openai/gpt-5-mini-2025-08-07").notes == ("priced as openai/gpt-5-mini",)


def test_short_rows_pay_neither_long_context_nor_cache_writes() -> None:
    short = _quote("openai/gpt-6-sol", longest_input_tokens=900)
    assert short.batch_max == (350_000 * Decimal(1) + 100_000 * Decimal(5)) / 1_000_000
    assert short.notes == ()


def test_without_the_longest_row_the_worst_is_assumed() -> None:
    # One row may hold nearly all the tokens: long-context cache writes at 2.5 and its answer at 7.5.
    worst = _quote("openai/gpt-6-sol")
    assert (
        worst.batch_max == (350_000 * Decimal("2.5") + 100 * Decimal("7.5") + 99_900 * Decimal(5)) / 1_000_000
    )
    assert worst.notes == (
        "rows over 272,000 input tokens cost more: the ceiling allows for them",
        "input may be billed as cache writes, which cost more: the ceiling allows for it",
    )


_lengths = st.one_of(st.integers(1, 2000), st.integers(271_990, 272_010), st.integers(1, 600_000))
_parts = st.floats(0, 1)


@given(
    model=st.sampled_from(["gpt-6-sol", "gpt-5.6-luna", "gpt-5-mini", "gpt-4o-mini"]),
    rows=st.lists(st.tuples(_lengths, _parts, _parts, _parts), min_size=1, max_size=30),
    cap=st.integers(1, 5000),
    tell_longest=st.booleans(),
)
def test_no_bill_of_the_same_rows_is_above_the_ceiling(
    model: str, rows: list[tuple[int, float, float, float]], cap: int, tell_longest: bool
) -> None:
    usages = []
    for length, cached, written, answered in rows:
        cached_tokens = int(length * cached)
        # Short prompts are not written to the cache.
        writes = int((length - cached_tokens) * written) if length >= 1024 else 0
        usages.append(Usage(length, int(cap * answered), cached_tokens, writes))
    quote = _quote(
        f"openai/{model}",
        rows=len(rows),
        input_tokens=sum(usage.input_tokens for usage in usages),
        max_output_tokens=cap,
        longest_input_tokens=max(usage.input_tokens for usage in usages) if tell_longest else None,
    )
    for lane, ceiling in (("batch", quote.batch_max), ("live", quote.live_max)):
        known = rate("openai", model, lane, NOW)
        assert known is not None
        assert ceiling is not None
        assert sum(price(known, usage) for usage in usages) <= ceiling


def test_a_limit_is_kept_to_the_last_digit() -> None:
    quote = _quote()
    check_max_cost(quote, None)
    check_max_cost(quote, Decimal("0.14375"))
    with pytest.raises(Refused) as caught:
        check_max_cost(quote, Decimal("0.143749999"))
    assert caught.value.exit_code == 4
    assert caught.value.code == "over_max_cost"


def test_the_refusal_never_shows_a_ceiling_below_the_limit() -> None:
    with pytest.raises(Refused, match=r"ceiling of 2\.51 USD is over the limit of 2\.50 USD"):
        check_max_cost(
            _quote("openai/gpt-5-mini", rows=2500, input_tokens=8, max_output_tokens=1000), Decimal("2.5")
        )


def test_a_limit_without_a_cap_is_refused() -> None:
    with pytest.raises(Refused, match="without a cap") as caught:
        check_max_cost(_quote(max_output_tokens=None), Decimal(1000))
    assert caught.value.code == "no_output_cap"
    assert "max_output_tokens" in (caught.value.hint or "")


def test_a_limit_on_an_unknown_price_is_refused() -> None:
    with pytest.raises(Refused, match="price unknown") as caught:
        check_max_cost(_quote("openai/foo"), Decimal(1000))
    assert caught.value.code == "price_unknown"


def test_a_free_run_is_within_any_limit() -> None:
    check_max_cost(_quote("local/smollm2-135m", max_output_tokens=None), Decimal(0))


def test_rows_too_few_for_a_batch_are_quoted_live() -> None:
    plain, mixed = _quote(), _quote(too_few=TooFew(200, 70_000))
    assert plain.batch_max is not None
    assert plain.live_max is not None
    assert mixed.batch_max == plain.batch_max * 800 / 1000 + plain.live_max * 200 / 1000
    assert _quote(too_few=TooFew(1000, 350_000)).batch_max == plain.live_max
    assert _quote(too_few=TooFew(10, 3_500), max_output_tokens=None).batch_max is None
