from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.tokens import counter_for


@pytest.mark.parametrize(
    ("provider", "model", "source"),
    [
        ("openai", "gpt-4o-mini", "toktok o200k_base"),
        ("openai", "gpt-4.1-nano-2025-04-14", "toktok o200k_base"),
        ("openai", "gpt-5.4-mini", "toktok o200k_base"),
        ("openai", "o1", "toktok o200k_base"),
        ("openai", "o3-mini", "toktok o200k_base"),
        ("openai", "o4-mini-2025-04-16", "toktok o200k_base"),
        ("openai", "gpt-4", "toktok cl100k_base"),
        ("openai", "gpt-4-turbo", "toktok cl100k_base"),
        ("openai", "gpt-3.5-turbo-0125", "toktok cl100k_base"),
        ("openai", "text-embedding-3-small", "toktok cl100k_base"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::abc123", "toktok o200k_base"),
        ("azure", "gpt-35-turbo", "toktok cl100k_base"),
        ("groq", "openai/gpt-oss-120b", "toktok o200k_harmony"),
        ("bedrock", "openai.gpt-oss-20b-1:0", "toktok o200k_harmony"),
        ("together", "OpenAI/gpt-oss-20B", "toktok o200k_harmony"),
    ],
)
def test_a_known_openai_model_is_counted_exactly(provider: str, model: str, source: str) -> None:
    counter = counter_for(provider, model)
    assert (counter.method, counter.source) == ("exact", source)


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-6-mini"),
        ("openai", "gpt-4.9"),
        ("openai", "o4"),
        ("openai", "whatever-comes"),
        ("azure", "my-deployment"),
        ("groq", "openai/gpt-7"),
    ],
)
def test_an_unpublished_vocabulary_is_an_estimate_by_o200k(provider: str, model: str) -> None:
    counter = counter_for(provider, model)
    assert counter.method == "estimate"
    assert counter.source.startswith("toktok o200k_base (assumed: ")
    assert counter.count_texts(["hello world"]) == [2]


@pytest.mark.parametrize(
    ("provider", "model", "source"),
    [
        ("anthropic", "claude-sonnet-4-6", "estimate: 2.8 bytes a token"),
        ("anthropic", "claude-sonnet-4-20250514", "estimate: 2.8 bytes a token"),
        ("anthropic", "claude-opus-4-7", "estimate: 2.2 bytes a token"),
        ("anthropic", "claude-opus-5", "estimate: 2.2 bytes a token"),
        ("bedrock", "us.anthropic.claude-3-5-haiku-20241022-v1:0", "estimate: 2.8 bytes a token"),
        ("vertex", "claude-opus-4@20250514", "estimate: 2.8 bytes a token"),
        ("gemini", "gemini-3-flash", "estimate: 3.2 bytes a token"),
        ("mistral", "mistral-small-latest", "estimate: 3 bytes a token"),
        ("local", "another-model", "estimate: 3 bytes a token"),
    ],
)
def test_a_model_without_a_public_vocabulary_gets_a_stated_estimate(
    provider: str, model: str, source: str
) -> None:
    counter = counter_for(provider, model)
    assert (counter.method, counter.source) == ("estimate", source)


@given(provider=st.text(max_size=20), model=st.text(max_size=40))
def test_no_name_raises(provider: str, model: str) -> None:
    assert counter_for(provider, model).source


def test_a_model_has_one_counter_for_the_process() -> None:
    assert counter_for("openai", "gpt-4o") is counter_for("openai", "gpt-4o")


def test_harmonys_own_system_message_is_counted() -> None:
    chat = [("user", "hi")]
    oss, plain = counter_for("groq", "openai/gpt-oss-20b"), counter_for("openai", "gpt-4o")
    assert oss.count_chats([chat])[0] == plain.count_chats([chat])[0] + 61


def test_the_import_loads_no_tokenizer() -> None:
    script = (
        "import sys, bulkrate.tokens; print(sorted({'toktok', 'tokenizers', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
