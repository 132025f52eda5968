"""From a row to the strings that differ, or to a reason that holds nothing of the row."""

from __future__ import annotations

import datetime
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_jobs import job_asking, template

from bulkrate.core.problem import Problem
from bulkrate.core.request import Choice, DocumentPart, ImagePart, JsonSchema, Message, TextPart, Tool, hole
from bulkrate.errors import JobError
from bulkrate.jobs.template import LineTemplate, RowTemplate


def rendered(prompt: str, row: dict[str, object]) -> str | Problem:
    values = template(prompt).render(row)
    return values if isinstance(values, Problem) else values[-1]


def test_only_what_differs_is_a_hole():
    compiled = template("Label: {{ body }}\n", system="Be {{ 'brief' }}, count {{ range(3) | list }}.")
    assert compiled.request.messages == (
        Message("system", "Be brief, count [0, 1, 2]."),
        Message("user", hole(0)),
    )
    assert compiled.columns == {"body"}
    assert compiled.render({"body": "<b>&</b>", "id": 7}) == ["Label: <b>&</b>\n"]
    assert compiled.texts(["Label: x"]) == [("system", "Be brief, count [0, 1, 2]."), ("user", "Label: x")]
    assert compiled.request_for(["Label: x"]).messages[1] == Message("user", "Label: x")


def test_a_prompt_without_columns_is_the_same_for_every_row():
    compiled = template("Write a riddle.")
    assert compiled.columns == frozenset()
    assert compiled.render({"id": 1}) == []
    assert compiled.request.messages == (Message("user", "Write a riddle."),)


def test_messages_with_parts():
    compiled = template(
        messages=[
            {"role": "system", "content": "Read {{ kind }} papers."},
            {"role": "user", "content": [
                {"text": "Total of {{ id }}?"}, {"image": "{{ url }}", "detail": "low"},
            ]},
            {"role": "assistant", "content": "Which page?"},
            {"role": "user", "content": [
                {"document": "data:application/pdf;base64,{{ pdf }}", "name": "a.pdf"},
            ]},
        ]
    )  # fmt: skip
    row = {"kind": "old", "id": 3, "url": "https://example.org/3.png", "pdf": "JVBERi0="}
    values = compiled.render(row)
    assert isinstance(values, list)
    assert compiled.request_for(values).messages == (
        Message("system", "Read old papers."),
        Message("user", (TextPart("Total of 3?"), ImagePart("https://example.org/3.png", "low"))),
        Message("assistant", "Which page?"),
        Message("user", (DocumentPart("data:application/pdf;base64,JVBERi0=", "a.pdf"),)),
    )
    assert compiled.texts(values) == [
        ("system", "Read old papers."),
        ("user", "Total of 3?"),
        ("assistant", "Which page?"),
    ]
    assert compiled.render({**row, "url": "http://example.org/3.png"})[0] == "bad_url"


def test_the_whole_request_section_arrives():
    request = template(
        "{{ a }}",
        model="openrouter/meta/llama",
        output={"json_schema": {"type": "object"}},
        max_output_tokens=9,
        temperature=0,
        top_p=0.5,
        seed=1,
        stop="END",
        reasoning="low",
        tools=[{"name": "f", "parameters": {"type": "object"}, "strict": True}],
        extra={"logprobs": True},
    ).request
    assert request.model == "meta/llama"
    assert request.output == JsonSchema({"type": "object"})
    assert (request.max_output_tokens, request.temperature, request.top_p, request.seed) == (9, 0.0, 0.5, 1)
    assert (request.stop, request.reasoning, request.extra) == (("END",), "low", {"logprobs": True})
    assert request.tools == (Tool("f", None, {"type": "object"}, True),)
    assert template("{{ a }}", output={"choice": ["b", "a"]}).request.output == Choice(("b", "a"))


@pytest.mark.parametrize(
    ("prompt", "value", "expected"),
    [
        ("{{ v }}", 3, "3"),
        ("{{ v }}", 1.0, "1.0"),
        ("{{ v }}", True, "True"),
        ("{{ v }}", Decimal("1.10"), "1.10"),
        ("{{ v }}", 2**64, str(2**64)),
        ("{{ v }}", datetime.date(2026, 5, 1), "2026-05-01"),
        ("{{ v.year }}", datetime.date(2026, 5, 1), "2026"),
        ("{{ v }}", [1, "a"], "[1, 'a']"),
        ("{{ v | tojson }}", {"a": "<é'>", "b": None}, '{"a": "<é\'>", "b": null}'),
        ("{{ v | tojson(indent=1) }}", [1], "[\n 1\n]"),
        ("{{ v | tojson }}", [Decimal("1.10"), datetime.date(2026, 5, 1)], '["1.10", "2026-05-01"]'),
        ("{{ v[:3] }}", "abcdef", "abc"),
        ("{{ v[1:] }}{{ v[::2] }}{{ v[-2:] }}", "abcdef", "bcdefaceef"),
        ("{% for x in v[:2] %}{{ x }};{% endfor %}", ["a", "b", "c"], "a;b;"),
        ("{{ v.strip().upper() }}", " a ", "A"),
        ("{{ v.k | default('none') }}", {}, "none"),
        ("{# {{ missing }} #}{{ v }}", "a", "a"),
        ("{% raw %}{{ v }}{% endraw %} {{ v }}", "a", "{{ v }} a"),
        ("{{ v }}\n", "a", "a\n"),
        ("{{ v }}\r\n", "a\r\n", "a\r\n\r\n"),
        ("{{ v }}", "{{ 7 * 7 }}{% if %}{#", "{{ 7 * 7 }}{% if %}{#"),
    ],
)
def test_values_read_as_jinja_writes_them(prompt, value, expected):
    assert rendered(prompt, {"v": value}) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "{{ v }}",
        "{{ v | upper }}",
        "{{ v ~ '!' }}",
        "{{ v | tojson }}",
        "{{ v[:10] }}",
        "{{ v | length }}",
        "{{ v + 1 }}",
        "{% for x in v %}{{ x }}{% endfor %}",
        "{{ row['v'] }}",
        "{{ row.v | trim }}",
    ],
)
def test_a_null_never_becomes_text(prompt):
    assert rendered(prompt, {"v": None}) == Problem(
        "null_value", "request.prompt: `v` is null; `| default(…)` puts a text in its place"
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("{{ v | default('none given') }}", "none given"),
        ("{{ row['v'] | default('none given') }}", "none given"),
        ("{% if v %}a{% else %}b{% endif %}", "b"),
        ("{{ 'a' if v is none else 'b' }}", "a"),
        ("{{ v or 'b' }}", "b"),
    ],
)
def test_a_null_can_be_asked_about_and_replaced(prompt, expected):
    assert rendered(prompt, {"v": None}) == expected


def test_a_null_inside_a_value_is_seen():
    assert rendered("{{ v.k }}", {"v": {"k": None}})[0] == "null_value"
    assert rendered("{{ v.k | upper }}", {"v": {"k": None}})[0] == "null_value"
    assert rendered("{{ v | join(', ') }}", {"v": ["a", None]})[0] == "null_value"


def test_what_is_not_in_the_row():
    assert rendered("a\n{{ boddy }}", {"body": "x"}) == Problem(
        "undefined_column", "line 2 of request.prompt: `boddy` is not in this row"
    )
    assert rendered("{{ v.k }}", {"v": {}}) == Problem(
        "undefined_column", "line 1 of request.prompt: `v.k` is not in this row"
    )
    assert rendered("{{ boddy | tojson }}", {}) == Problem(
        "undefined_column", "request.prompt: `boddy` is not in this row"
    )
    assert rendered("{{ boddy | default('x') }}", {}) == "x"


def test_columns_whose_names_are_no_words():
    compiled = template("{{ row['Ticket subject'] }}: {{ row.body }} {{ id }}. Each row counts.")
    assert compiled.columns == {"Ticket subject", "body", "id"}
    assert not compiled.whole_row
    assert compiled.render({"Ticket subject": "A", "body": "b", "id": 1, "other": b"x"}) == [
        "A: b 1. Each row counts."
    ]


@pytest.mark.parametrize("use", ["row | tojson", "row[name]", "row.get('a')", "row.items() | list", "row"])
def test_the_row_as_a_whole(use):
    compiled = template("{{ " + use + " }}")
    assert compiled.whole_row


def test_a_row_as_json():
    compiled = template("{{ row | tojson }}")
    assert compiled.render({"a": 1, "b c": None, "é": "x"}) == ['{"a": 1, "b c": null, "é": "x"}']


@pytest.mark.parametrize("prompt", ["{{ v }}", " {{ v }}\n\t", "{% if v %}{{ v }}{% endif %}"])
@pytest.mark.parametrize("value", ["", "  ", "\n\t\r", "\u00a0\u2003"])
def test_an_empty_prompt(prompt, value):
    assert rendered(prompt, {"v": value}) == Problem("empty_prompt", "the prompt is empty")


def test_an_empty_turn_beside_an_image_is_no_empty_prompt():
    compiled = template(
        messages=[{"role": "user", "content": [{"text": "{{ v }}"}, {"image": "https://example.org/a.png"}]}]
    )
    assert compiled.render({"v": ""}) == [""]


def test_errors_hold_nothing_of_the_row():
    secret = "xyzzy"
    for prompt in (
        "{{ v + 1 }}",
        "{{ v | int }}",
        "{{ v.nope() }}",
        "{{ v() }}",
        "{{ v | round }}",
        "{{ d[v] }}",
    ):
        problem = template(prompt).render({"v": secret, "d": {}})
        assert isinstance(problem, Problem)
        assert problem.code in {"template_error", "undefined_column"}
        assert secret not in problem.message
    assert rendered("{{ v }}", {"v": b"\xff"}) == Problem(
        "template_error", "request.prompt reads a column that holds bytes, not text"
    )


def test_marks_of_holes_in_a_row_are_refused():
    assert rendered("{{ v }}", {"v": hole(0)})[0] == "forbidden_character"
    assert rendered("a {{ v }}", {"v": hole(0)[:2]})[0] == "forbidden_character"
    assert rendered("{{ a }}{{ b }}", {"a": "\uf8ff", "b": "\ue0b0"})[0] == "forbidden_character"


def test_it_travels_as_its_job():
    compiled = template("{{ v }}", system="s {{ w }}")
    again = pickle.loads(pickle.dumps(compiled))
    assert again.request == compiled.request
    assert again.render({"v": 1, "w": 2}) == compiled.render({"v": 1, "w": 2}) == ["s 2", "1"]


def test_templates_that_cannot_work():
    with pytest.raises(JobError, match=r"^request\.prompt: line 2 of the template: syntax error: "):
        template("a\n{{ b")
    with pytest.raises(JobError, match="template not found"):
        template("{% include 'other' %} {{ a }}")
    with pytest.raises(JobError, match="private-use"):
        template("{{ '\uf8ff' ~ '\ue0b0' }}")
    with pytest.raises(ValueError, match="request section"):
        LineTemplate(job_asking("{{ a }}"))


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_any_text_arrives_as_it_is(text):
    values = _PLAIN.render({"v": text})
    if isinstance(values, Problem):
        assert values.code == "forbidden_character"
    else:
        assert values == [f"[{text}]"]


_PLAIN: RowTemplate = template("[{{ v }}]")
