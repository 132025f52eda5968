"""Result lines that no honest server writes: one of them must not cost the shard its other answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bulkrate.core.answer import judge
from bulkrate.core.outcome import Outcome
from bulkrate.core.reconcile import Reconciliation
from bulkrate.core.request import Embedding, FreeText
from bulkrate.pipeline.collect import columns_of
from bulkrate.pipeline.run_folder import outcome_writer
from bulkrate.providers.provider import Wire
from bulkrate.providers.registry import get_provider

# Deep enough for orjson not to write it, for Python not to write it, and for nobody to read it.
DEPTHS = (200, 300, 960, 5_000)
MANY = 5_000_000_000  # tokens: more than 32 bits
ID = "0123456789" * 2


def chat(content: str, calls: str, tokens: int) -> str:
    message = f'{{"role": "assistant", "content": {content}, "tool_calls": {calls}}}'
    usage = f'{{"prompt_tokens": {tokens}, "completion_tokens": {tokens}, "total_tokens": {tokens}}}'
    body = f'{{"model": "m", "choices": [{{"message": {message}}}], "usage": {usage}}}'
    return f'{{"custom_id": "{ID}", "response": {{"status_code": 200, "body": {body}}}}}'


def messages(content: str, calls: str, tokens: int) -> str:
    counts = [f'"{name}": {tokens}' for name in ("input_tokens", "output_tokens", "cache_read_input_tokens")]
    text = f'{{"type": "text", "text": {content}}}, ' if content != "null" else ""
    blocks = f'[{text}{{"type": "tool_use", "input": {calls}}}]'
    message = f'{{"model": "m", "content": {blocks}, "usage": {{{", ".join(counts)}}}}}'
    return f'{{"custom_id": "{ID}", "result": {{"type": "succeeded", "message": {message}}}}}'


def candidates(content: str, calls: str, tokens: int) -> str:
    text = f'{{"text": {content}}}, ' if content != "null" else ""
    parts = f'[{text}{{"functionCall": {{"name": "f", "args": {{"x": {calls}}}}}}}]'
    usage = f'{{"promptTokenCount": {tokens}, "candidatesTokenCount": {tokens}}}'
    response = f'{{"candidates": [{{"content": {{"parts": {parts}}}}}], "usageMetadata": {usage}}}'
    return f'{{"key": "{ID}", "response": {response}}}'


def converse(content: str, calls: str, tokens: int) -> str:
    text = f'{{"text": {content}}}, ' if content != "null" else ""
    blocks = f'[{text}{{"toolUse": {{"name": "f", "input": {calls}}}}}]'
    usage = f'{{"inputTokens": {tokens}, "outputTokens": {tokens}, "cacheReadInputTokens": {tokens}}}'
    output = f'{{"output": {{"message": {{"content": {blocks}}}}}, "usage": {usage}}}'
    return f'{{"recordId": "{ID}", "modelOutput": {output}}}'


DIALECTS = {
    "openai": (get_provider("openai").wire("gpt-4o-mini"), chat),
    "mistral": (get_provider("mistral").wire("mistral-small-latest"), chat),
    "anthropic": (get_provider("anthropic").wire("claude-opus-4-5"), messages),
    "google": (get_provider("google").wire("gemini-2.5-flash"), candidates),
    "bedrock": (get_provider("bedrock").wire("amazon.nova-lite-v1:0"), converse),
}


def outcome(wire: Wire, line: str) -> Outcome | None:
    decoded = wire.decode(line.encode(), FreeText())
    return None if decoded is None else judge(FreeText())(decoded.outcome)


def kept(folder: Path, found: Outcome) -> None:
    with outcome_writer(folder / "outcomes.parquet") as write:
        write(columns_of([0], [found]))


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_a_call_nested_deep_spoils_nothing(tmp_path: Path, name: str, depth: int) -> None:
    wire, line = DIALECTS[name]
    found = outcome(wire, line("null", "[" * depth + "]" * depth, 1))
    if depth < 960:
        assert found is not None
        assert found.succeeded
        assert "[" * depth in (found.text or "")
    if found is not None:
        kept(tmp_path, found)


@pytest.mark.parametrize("name", DIALECTS)
def test_a_count_of_tokens_that_cannot_be_spoils_nothing(tmp_path: Path, name: str) -> None:
    wire, line = DIALECTS[name]
    found = outcome(wire, line('"hello"', "[]", MANY))
    assert found is not None
    assert found.text == "hello"
    assert (found.usage.input_tokens, found.usage.output_tokens) == (0, 0)
    kept(tmp_path, found)


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("half", [r"\ud800", r"\udc00x", "\udcff"])
def test_an_id_with_half_a_character_is_a_strangers(tmp_path: Path, name: str, half: str) -> None:
    wire, line = DIALECTS[name]
    text = line('"hello"', "[]", 1).replace(ID, ID[:-1] + half).replace('"m"', f'"m{half}"')
    decoded = wire.decode(text.encode("utf-8", "surrogateescape"), FreeText())
    assert decoded is not None
    assert decoded.custom_id.encode()
    found = Reconciliation(ID[:10], int(ID[10:15], 36), 10)
    found.add(decoded.custom_id, decoded.outcome)
    assert found.strangers == 1
    kept(tmp_path, judge(FreeText())(decoded.outcome))


def test_the_most_that_a_count_may_be_is_kept(tmp_path: Path) -> None:
    wire, line = DIALECTS["anthropic"]
    found = outcome(wire, line('"hello"', "[]", 10**9))
    assert found is not None
    assert found.usage.input_tokens == 2 * 10**9
    kept(tmp_path, found)


def test_numbers_that_are_none_do_not_hide_how_deep_an_embedding_is(tmp_path: Path) -> None:
    wire: Any = get_provider("openai").wire("text-embedding-3-small", "embed")
    data = json.dumps([{"embedding": [1.0, float("nan")], "more": json.loads("[" * 300 + "]" * 300)}])
    line = f'{{"custom_id": "{ID}", "response": {{"status_code": 200, "body": {{"data": {data}}}}}}}'
    decoded = wire.decode(line.encode(), Embedding())
    kept(tmp_path, judge(Embedding())(decoded.outcome))


@pytest.mark.parametrize("name", ["google", "bedrock"])
def test_an_embedding_nested_too_deep_to_keep_is_no_answer(name: str) -> None:
    model = {"google": "gemini-embedding-001", "bedrock": "amazon.titan-embed-text-v2:0"}[name]
    wire: Any = get_provider(name).wire(model, "embed")
    deep = "[" * 990 + "]" * 990
    line = {
        "google": f'{{"key": "{ID}", "response": {{"embedding": {{"values": {deep}}}}}}}',
        "bedrock": f'{{"recordId": "{ID}", "modelOutput": {{"embedding": {deep}}}}}',
    }[name]
    decoded = wire.decode(line.encode(), Embedding())
    assert decoded is None or not judge(Embedding())(decoded.outcome).succeeded
