"""Templates that are text with columns in it are joined; the engine's own text is the measure."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from bulkrate.errors import JobError
from bulkrate.jobs.load import load_job_mapping
from bulkrate.jobs.template import RowTemplate

LITERALS = st.sampled_from(
    ["", "a", " ", "\n", "\r\n", "{", "}", "%", "#", "é {x}", "\\n", "'", "-", "}}", "{ {"]
)
TAGS = st.sampled_from(
    ["{{ a }}", "{{a}}", "{{\nb }}", "{{\tb}}", "{{- a }}", "{{ a -}}", "{{ a | upper }}", "{# x #}"]
)
VALUES = st.one_of(
    st.text(), st.integers(-(2**63), 2**63 - 1), st.sampled_from(["{{ a }}", "<&>", " ", "\0"])
)


def template(prompt: str) -> RowTemplate:
    request = {"model": "openai/gpt-4o-mini", "prompt": prompt}
    return RowTemplate(
        load_job_mapping({"name": "x", "source": {"path": "x.csv"}, "request": request}, Path())
    )


@given(st.lists(st.one_of(LITERALS, TAGS), max_size=6).map("".join), VALUES, VALUES)
def test_the_short_cut_gives_what_the_engine_gives(middle: str, a: object, b: object) -> None:
    try:
        made = template("{{ a }}" + middle + "x{{ b }}")
    except JobError:
        reject()  # braces that met made a broken template
    (slot,) = made._slots
    row = {"a": a, "b": b}
    if slot.plain is not None:
        assert slot.joined(row) == made._rendered(slot, row)


@pytest.mark.parametrize(
    ("prompt", "plain"),
    [
        ("{{ a }} and {{ b }}", True),
        ("{{ a }}{% if b %}{{ b }}{% endif %}", False),
        ("{{- a }}", False),
        ("{{ a | upper }}", False),
        ("{{ row.a }}", False),
        ("{{ a }} {# note #}", False),
    ],
)
def test_which_templates_are_plain(prompt: str, plain: bool) -> None:
    (slot,) = template(prompt)._slots
    assert (slot.plain is not None) is plain


@pytest.mark.parametrize("value", [None, 1.5, True, [1], {"x": 1}])
def test_other_values_are_left_to_the_engine(value: object) -> None:
    (slot,) = template("{{ a }}")._slots
    assert slot.joined({"a": value}) is None
    assert slot.joined({}) is None
