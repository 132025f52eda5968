"""What YAML reads as something else than its author wrote."""

from __future__ import annotations

import pytest

from bulkrate.jobs.load import load_job

LABELS = """
name: tickets
source: {path: tickets.csv}
request:
  model: openai/gpt-5-mini
  prompt: "{{ body }}"
  output:
    choice:
      - maybe
      - LABEL
"""


@pytest.mark.parametrize(
    ("label", "kind"),
    [
        ("no", "a boolean"),
        ("yes", "a boolean"),
        ("Off", "a boolean"),
        ("true", "a boolean"),
        ("1", "a number"),
        ("1.10", "a number"),
        ("0x1f", "a number"),
        ("12:30", "a number"),
        ("1_000", "a number"),
        (".inf", "a number"),
        ("2024-05-01", "a date"),
        ("2024-13-45", "a date"),
        ("null", "nothing"),
        ("~", "nothing"),
    ],
)
def test_a_bare_label_asks_for_quotes(complain, label, kind):
    lines, _ = complain(LABELS.replace("LABEL", label))
    assert lines == [
        f"job.bulk.yaml:9: request.output.choice[1]: the bare word {label} is read as {kind}; "
        f'write "{label}" in quotes'
    ]


def test_an_empty_item_is_empty(complain):
    lines, _ = complain(LABELS.replace("LABEL", ""))
    assert lines == ["job.bulk.yaml:9: request.output.choice[1]: is empty"]


def test_quoted_labels_are_texts(tmp_path):
    path = tmp_path / "job.bulk.yaml"
    path.write_text(LABELS.replace("- LABEL", "- \"no\"\n      - 'yes'\n      - '1'\n      - \"2024-05-01\""))
    assert load_job(path).request.output.choice == ("maybe", "no", "yes", "1", "2024-05-01")


def test_other_text_fields_ask_for_quotes_too(complain):
    lines, _ = complain(
        """
        name: 2024
        source: {path: 1.5, key: no}
        request: {model: openai/m, prompt: yes, reasoning: off, stop: [1]}
        """
    )
    assert lines == [
        'job.bulk.yaml:1: name: the bare word 2024 is read as a number; write "2024" in quotes',
        'job.bulk.yaml:2: source.key: the bare word no is read as a boolean; write "no" in quotes',
        'job.bulk.yaml:2: source.path: the bare word 1.5 is read as a number; write "1.5" in quotes',
        'job.bulk.yaml:3: request.prompt: the bare word yes is read as a boolean; write "yes" in quotes',
        'job.bulk.yaml:3: request.reasoning: the bare word off is read as a boolean; write "off" in quotes',
        'job.bulk.yaml:3: request.stop[0]: the bare word 1 is read as a number; write "1" in quotes',
    ]


def test_labels_in_a_schema(complain):
    text = """
        name: a
        source: {path: a.csv}
        request:
          model: openai/m
          prompt: "{{ body }}"
          output:
            json_schema:
              type: object
              properties:
                answer:
                  type: string
                  enum:
                    - VALUE
                    - maybe
        """
    assert complain(text.replace("VALUE", "no"))[0][0] == (
        "job.bulk.yaml:13: request.output.json_schema.properties.answer.enum[0]: "
        'the bare word no is read as a boolean; write "no" in quotes'
    )
    assert complain(text.replace("VALUE", "1"))[0] == [
        "job.bulk.yaml:7: request.output.json_schema: asks for a text that equals 1, "
        "at properties/answer/enum; quote the value"
    ]


def test_a_deadline_with_a_colon_is_not_a_number_of_seconds(complain):
    lines, _ = complain(
        "name: a\nsource: {path: a.csv}\nlane: {deadline: 24:00}\nrequest: {model: openai/m, prompt: a}"
    )
    assert lines == ['job.bulk.yaml:3: lane.deadline: must be a duration such as "24h", "90m" or "1d12h"']


def test_keys(complain):
    lines, _ = complain(
        """
        name: a
        source: {path: a.csv}
        request: {model: openai/m, prompt: "{{ a }}", extra: {on: 1}}
        name: b
        1: x
        """
    )
    assert lines == [
        'job.bulk.yaml:3: request.extra.on: the bare key on is read as a boolean; write "on" in quotes',
        "job.bulk.yaml:4: name: stands twice; the first is on line 1",
        'job.bulk.yaml:5: 1: the bare key 1 is read as a number; write "1" in quotes',
    ]


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("name: a\nprompt: b: c\n", 2, "quote a text that contains a colon followed by a space"),
        ("name: a\nsource:\n\tpath: b\n", 3, "indent with spaces, not with tabs"),
        ("name: a\nprompt: {{ body }}\n", 2, "quote a text that begins with a brace"),
        ('name: a\nprompt: "never closed\n', 3, None),
        ("name: a\nname: &x [*x]\n", None, None),
        ("name: a\nb: !!python/object:os.system {}\n", 2, None),
        ("name: a\nb: \x07\n", 2, None),
        ("a: 1\n---\nb: 2\n", 2, None),
    ],
)
def test_what_is_not_yaml_names_its_line(complain, text, line, hint):
    lines, found = complain(text)
    where = "job.bulk.yaml" if line is None else f"job.bulk.yaml:{line}"
    assert lines[0].startswith(f"{where}: is not ")
    assert found == hint


def test_aliases_that_multiply_are_stopped(complain):
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert complain("\n".join(rows))[0] == [
        "job.bulk.yaml: is not usable YAML: it is too large for a job file"
    ]


def test_anchors_and_merges_are_fine(tmp_path):
    path = tmp_path / "job.bulk.yaml"
    path.write_text(
        "name: a\nsource: &s {path: a.csv, key: id}\n"
        "request: {model: openai/m, prompt: '{{ a }}', extra: {x: &l [1], y: *l, z: {<<: {k: 1}, k: 2}}}\n"
    )
    assert load_job(path).request.extra == {"x": [1], "y": [1], "z": {"k": 2}}


def test_json_job_files(complain, tmp_path):
    good = tmp_path / "job.json"
    good.write_text(
        '{\n\t"name":"a",\n\t"source":{"path":"a.csv"},'
        '\n\t"request":{"model":"openai/m","prompt":"\\ud83d\\ude00 {{ a }}"}}'
    )
    assert load_job(good).request.prompt == "\U0001f600 {{ a }}"
    assert complain('{\n\t"name": "a",\n\t"sauce": {}\n}', "job.json")[0] == [
        "job.json:1: source: is missing",
        "job.json:3: sauce: there is no such field",
    ]
    assert complain('{"name": "a",\n "name": }', "job.json")[0][0].startswith(
        "job.json:2: is not valid JSON: "
    )
    assert complain('{"name": 1,\n"name": "b"}', "job.json")[0] == [
        "job.json:1: source: is missing",
        "job.json:2: name: stands twice; the first is on line 1",
    ]
