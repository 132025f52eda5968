"""Holes are a short cut: what they give must equal the long way, for the fingerprint and for every body."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_jobs import job_asking, template

from bulkrate.core.problem import Problem
from bulkrate.core.request import canonical_bytes, digest_of, fingerprint, split
from bulkrate.jobs.template import RowTemplate
from bulkrate.providers.openai.wire import Dialect, OpenAIWire

TEXTS = st.text(alphabet=st.characters(codec="utf-8"), max_size=40)
VALUES = st.one_of(TEXTS, st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.booleans())

TEMPLATES = [
    template("{{ a }}"),
    template("A {{ a }} \"quoted\" \\ {{ b }}\n", system="é {{ c }} 😀"),
    template("{{ a }} {{ a }}", system="constant", output={"choice": ["x", "y"]}, seed=1, temperature=0),
    template(
        messages=[
            {"role": "system", "content": "{{ b }}"},
            {"role": "user", "content": [{"text": "t {{ a }}"}, {"image": "data:,{{ c }}"}]},
            {"role": "assistant", "content": "ok"},
            {"role": "user", "content": "{{ a }} and"},
        ],
        output={"json_schema": {"type": "object", "properties": {"é": {"type": "string"}}}},
        tools=[{"name": "f", "parameters": {"type": "object"}}],
        extra={"logprobs": True},
    ),
]  # fmt: skip


@pytest.mark.parametrize("compiled", TEMPLATES)
@given(row=st.fixed_dictionaries({"a": VALUES, "b": VALUES, "c": VALUES}))
def test_the_short_cut_is_the_long_way(compiled: RowTemplate, row: dict[str, Any]):
    values = compiled.render(row)
    if isinstance(values, Problem):
        assert values.code in {"empty_prompt", "forbidden_character"}
        return
    encoded = [orjson.dumps(value) for value in values]
    whole = compiled.request_for(values)
    assert digest_of(split(canonical_bytes(compiled.request)).parts(encoded)) == fingerprint(whole)
    for dialect in (Dialect(), Dialect(choice="structured_outputs", cap_field="max_tokens")):
        wire = OpenAIWire(dialect)
        body = split(orjson.dumps(wire.body(compiled.request))).fill(encoded)
        assert body == orjson.dumps(wire.body(whole))


def of(prompt: str = "{{ a }}", **request: Any) -> bytes:
    compiled = template(prompt, **request)
    values = compiled.render({"a": "row"})
    assert isinstance(values, list)
    return fingerprint(compiled.request_for(values))


def test_a_larger_cap_keeps_the_fingerprint_and_changes_the_job():
    assert of(max_output_tokens=10) == of(max_output_tokens=40) == of()
    one, two = (job_asking("{{ a }}", max_output_tokens=cap).identity() for cap in (10, 40))
    assert one != two


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "{{ a }} "},
        {"system": "s"},
        {"model": "openai/gpt-5"},
        {"output": {"choice": ["a", "b"]}},
        {"output": {"choice": ["b", "a"]}},
        {"output": {"json_schema": {"type": "object"}}},
        {"temperature": 0},
        {"temperature": 1},
        {"top_p": 0.5},
        {"seed": 0},
        {"stop": "x"},
        {"reasoning": "low"},
        {"tools": [{"name": "f"}]},
        {"tools": [{"name": "g"}]},
        {"extra": {"logprobs": True}},
        {"extra": {"logprobs": False}},
    ],
)
def test_every_other_change_changes_it(change):
    base: dict[str, Any] = {"prompt": "{{ a }}", "model": "openai/gpt-5-mini"}
    assert of(**{**base, **change}) != of(**base)
    assert job_asking(**{**base, **change}).identity() != job_asking(**base).identity()


def test_spelling_does_not_change_it():
    assert of(temperature=0) == of(temperature=0.0)
    assert of(stop="x") == of(stop=["x"])
    assert of(output="text") == of()
    assert of("{{ a }}", system="{{ 'x' }}") == of("{{  a  }}", system="x")
