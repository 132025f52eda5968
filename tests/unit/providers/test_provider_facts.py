"""Dated facts, and the figures a user puts in their place."""

from __future__ import annotations

import pytest

from bulkrate.core.limits import Limits
from bulkrate.errors import ConfigError
from bulkrate.providers.facts import read_facts, with_overrides
from bulkrate.providers.openai.provider import PACKAGE, provider
from bulkrate.providers.registry import get_provider, provider_names


def test_openai_limits_are_the_published_ones() -> None:
    limits = provider.limits("gpt-5-mini", {})
    assert (limits.requests, limits.file_bytes, limits.window_s) == (50_000, 200_000_000, 86_400)
    assert limits.queued_tokens is None, "an organisation's own figure: no API tells it"


def test_the_longest_prefix_names_the_window() -> None:
    facts = read_facts(PACKAGE)
    assert facts.context_window("gpt-4-0613") == 8_192
    assert facts.context_window("gpt-4-turbo-2024-04-09") == 128_000
    assert facts.context_window("gpt-4o-mini") == 128_000
    assert facts.context_window("gpt-4.1-nano") == 1_047_576
    assert facts.context_window("claude") is None


@pytest.mark.parametrize(
    ("model", "reasons"), [("o3-mini", True), ("gpt-5-mini", True), ("gpt-4o", False), ("gpt-4.1", False)]
)
def test_models_that_think_first(model: str, reasons: bool) -> None:
    assert read_facts(PACKAGE).reasons(model) is reasons


def test_overrides() -> None:
    env = {
        "BULKRATE_LIMITS__QUEUED_TOKENS": "2_000_000",
        "BULKRATE_LIMITS__REQUESTS": "7",
        "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "0.5",
        "BULKRATE_LIMITS__LISTING_LAG_S": "0",
        "BULKRATE_LIMITS__UNKNOWN": "x",
    }
    limits = with_overrides(Limits(), env)
    assert (limits.queued_tokens, limits.requests) == (2_000_000, 7)
    assert limits.quiet_s == 0.5
    assert limits.file_bytes == Limits().file_bytes


@pytest.mark.parametrize("text", ["", "many", "1e6", "0", "-1", "1.5"])
def test_a_count_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="BULKRATE_LIMITS__BATCHES_IN_FLIGHT"):
        with_overrides(Limits(), {"BULKRATE_LIMITS__BATCHES_IN_FLIGHT": text})


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "0", "soon"])
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError):
        with_overrides(Limits(), {"BULKRATE_LIMITS__CREATE_TIMEOUT_S": text})


def test_the_registry_suggests_the_nearest_name() -> None:
    assert "openai" in provider_names()
    assert get_provider("openai") is provider
    with pytest.raises(ConfigError) as caught:
        get_provider("opnai")
    assert caught.value.hint == "did you mean openai?"
