"""Golden texts of wrong job files: file, line, field, what is wrong; the hint names what was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulkrate.errors import JobError
from bulkrate.jobs.load import load_job, load_job_mapping
from bulkrate.jobs.spec import Job

HEAD = """
name: tickets
source: {path: tickets.csv, key: id}
"""


def test_a_misspelt_field_prints_file_line_and_suggestion(complain):
    lines, hint = complain(
        """
        name: tickets
        source:
          path: tickets.csv
          kee: id
        request:
          model: openai/gpt-5-mini
          prompt: "{{ body }}"
        """
    )
    assert lines == ["job.bulk.yaml:4: source.kee: there is no such field"]
    assert hint == "did you mean `key`?"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(complain):
    lines, hint = complain(
        """
        name: Tickets!
        source:
          kee: id
        request:
          model: gpt-5-mini
          promt: "{{ body }}"
          max_output_tokens: 1.5
          temperature: hot
        lane:
          poll: 5s
          deadline: tomorrow
        sink: answers.jsonl
        max_failed: 3
        reuse: exakt
        attempts: 0
        prompt: hello
        """
    )
    assert lines == [
        "job.bulk.yaml:1: name: must be lower-case letters, digits, hyphens and underscores: at most 64, "
        "the first a letter or digit",
        "job.bulk.yaml:2: source.path: is missing",
        "job.bulk.yaml:3: source.kee: there is no such field",
        'job.bulk.yaml:5: request.model: must be "provider/model", for example "openai/gpt-5-mini"',
        "job.bulk.yaml:6: request.promt: there is no such field",
        "job.bulk.yaml:7: request.max_output_tokens: must be a whole number",
        "job.bulk.yaml:8: request.temperature: must be a number, not text",
        "job.bulk.yaml:10: lane.poll: must be a number, not text",
        'job.bulk.yaml:11: lane.deadline: must be a duration such as "24h", "90m" or "1d12h"',
        "job.bulk.yaml:12: sink: must be a section with fields, not text",
        "job.bulk.yaml:13: max_failed: must be at most 1",
        "job.bulk.yaml:14: reuse: must be one of exact, never",
        "job.bulk.yaml:15: attempts: must be at least 1",
        "job.bulk.yaml:16: prompt: there is no such field",
    ]
    assert hint is not None
    assert hint.split("\n") == [
        "line 3: did you mean `key`?",
        "line 6: did you mean `prompt`?",
        "line 12: did you mean `sink.path`?",
        "line 14: did you mean `exact`?",
        "line 16: did you mean `request.prompt`?",
    ]


def test_lines_inside_nested_lists(complain):
    lines, hint = complain(
        """
        name: scans
        source: {path: scans.jsonl, key: id}
        request:
          model: openai/gpt-5-mini
          messages:
            - role: system
              content: You read invoices.
            - role: usr
              content:
                - text: "What is the total?"
                - image: "{{ url }}"
                  detial: low
                - text: a
                  image: "https://example.org/a.png"
                - {}
        """
    )
    assert lines == [
        "job.bulk.yaml:8: request.messages[1].role: must be one of system, user, assistant",
        "job.bulk.yaml:12: request.messages[1].content[1].detial: there is no such field",
        "job.bulk.yaml:13: request.messages[1].content[2]: needs exactly one of `text`, `image`, `document`",
        "job.bulk.yaml:15: request.messages[1].content[3]: needs exactly one of `text`, `image`, `document`",
    ]
    assert hint == "line 8: did you mean `user`?\nline 12: did you mean `detail`?"


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("  model: openai/m", "request: needs `prompt`, `messages`, `embed` or `raw`"),
        ("  model: openai/m\n  embed: a\n  prompt: b", "request.prompt: cannot stand beside `embed`"),
        ("  model: openai/m\n  embed: a\n  seed: 1", "request.seed: cannot stand beside `embed`"),
        (
            "  model: openai/m\n  embed: a\n  output: {choice: [a, b]}",
            "request.output: cannot stand beside `embed`",
        ),
        ("  model: openai/m\n  embed: ''", "request.embed: is empty"),
        ("  model: openai/m\n  embed: a\n  extra: {input: b}", "request.extra.input: is made from `embed`"),
        ("  model: openai/m\n  prompt: a\n  dimensions: 8", "request.dimensions: goes with `embed` only"),
        (
            "  model: openai/m\n  prompt: a\n  messages: [{role: user, content: b}]",
            "request.messages: cannot stand beside `prompt`",
        ),
        (
            "  model: openai/m\n  system: a\n  messages: [{role: user, content: b}]",
            "request.system: cannot stand beside `messages`; make it the first message",
        ),
        (
            "  model: openai/m\n  messages: [{role: system, content: b}]",
            "request.messages: needs at least one message of the user",
        ),
        ("  model: openai/m\n  messages: []", "request.messages: needs at least one message of the user"),
        ("  model: openai/m\n  prompt: ''", "request.prompt: is empty"),
        ("  model: openai/m\n  prompt: '  '", "request.prompt: is empty"),
        ("  model: openai/m\n  prompt: a\n  system: ''", "request.system: is empty"),
        ("  model: openai/m\n  prompt: a\n  stop: ['x', 'x']", 'request.stop[1]: repeats the value "x"'),
        (
            "  model: openai/m\n  prompt: a\n  tools: [{type: function, function: {name: f}}]",
            "request.tools[0]: must be the function itself, without `type` around it",
        ),
        ("  model: openai/m\n  prompt: a\n  extra: {n: 2}",
         "request.extra.n: would be paid and not read: one answer per row"),
        ("  model: openai/m\n  prompt: a\n  extra: {stream: true}",
         "request.extra.stream: cannot be used in a batch"),
        ("  model: openai/m\n  prompt: a\n  extra: {top_p: 1}",
         "request.extra.top_p: is set by `request.top_p`"),
        (
            "  model: openai/m\n  prompt: a\n  output: json",
            "request.output: must be `text`, or a section with `choice` or `json_schema`",
        ),
        (
            "  model: openai/m\n  prompt: a\n  output: {}",
            "request.output: needs exactly one of `choice` and `json_schema`",
        ),
        (
            "  model: openai/m\n  prompt: a\n  output: {choice: [a, b], json_schema: {type: object}}",
            "request.output: needs exactly one of `choice` and `json_schema`",
        ),
        (
            "  model: openai/m\n  messages: [{role: user, content: [{image: scans/a.png}]}]",
            "request.messages[0].content[0].image: names no file that is there",
        ),
        (
            "  model: openai/m\n  prompt: \"a \\uF8FF\\uE0B00\\uE0B1\\uF8FF\"",
            "request: contains private-use characters (U+F8FF U+E0B0) that Bulkrate keeps for itself",
        ),
    ],
)  # fmt: skip
def test_one_problem(complain, section, expected):
    lines, _ = complain(HEAD + "request:\n" + section)
    assert [line.split(": ", 1)[1] for line in lines] == [expected]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("[a]", [":6: request.output.choice: needs at least two labels"]),
        ("[]", [":6: request.output.choice: needs at least two labels"]),
        ("a", [":6: request.output.choice: must be a list, not text"]),
        ("[a, b, a]", [':6: request.output.choice[2]: repeats the label "a"']),
        ("[a, '', ' ']", [":6: request.output.choice[1]: is an empty label"]),
        ("[a, {b: c}]", [":6: request.output.choice[1]: must be text, not a section"]),
    ],
)
def test_labels(complain, labels, expected):
    lines, _ = complain(
        f"{HEAD}request:\n  model: openai/m\n  prompt: '{{{{ body }}}}'\n  output: {{choice: {labels}}}"
    )
    assert [line.removeprefix("job.bulk.yaml") for line in lines] == expected


def test_a_template_error_says_which_line_of_the_template(complain):
    lines, _ = complain(
        """
        name: tickets
        source: {path: tickets.csv}
        request:
          model: openai/gpt-5-mini
          system: "{{ 1 / 0 }}"
          prompt: |
            A ticket:
            {{ body }
        """
    )
    assert lines == [
        "job.bulk.yaml:5: request.system: line 1 of the template: "
        "invalid operation: unable to calculate 1 / 0",
        "job.bulk.yaml:6: request.prompt: line 2 of the template: syntax error: unexpected `}`, "
        "expected end of variable block",
    ]


def test_an_unknown_filter_is_found_before_any_row(complain):
    lines, _ = complain(HEAD + "request:\n  model: openai/m\n  prompt: '{{ body | uper }}'")
    assert lines == [
        "job.bulk.yaml:5: request.prompt: line 1 of the template: unknown filter: filter uper is unknown"
    ]


def test_a_missing_request_is_fine_only_for_a_batch_file(complain):
    lines, _ = complain(HEAD)
    assert lines == [
        "job.bulk.yaml:1: request: is missing (only an OpenAI batch file, .jsonl, can do without)"
    ]
    lines, _ = complain("name: a\nsource:\n  path: a.jsonl\n  key: id")
    assert lines == ['job.bulk.yaml:4: source.key: is always "custom_id" in an OpenAI batch file']


def test_schema_files(complain, tmp_path):
    text = HEAD + "request:\n  model: openai/m\n  prompt: '{{ body }}'\n  output: {json_schema: answer.json}"
    assert complain(text)[0] == [
        "job.bulk.yaml:6: request.output.json_schema: cannot read answer.json: No such file or directory"
    ]
    (tmp_path / "answer.json").write_text('{\n"type": }')
    assert complain(text)[0][0].startswith(
        "job.bulk.yaml:6: request.output.json_schema: answer.json:2 is not JSON: "
    )
    (tmp_path / "answer.json").write_text("[]")
    assert complain(text)[0] == [
        "job.bulk.yaml:6: request.output.json_schema: answer.json must hold a JSON object"
    ]
    (tmp_path / "answer.json").write_text('{"type": "strin"}')
    assert complain(text)[0][0].startswith(
        "job.bulk.yaml:6: request.output.json_schema: answer.json is not a valid JSON Schema, at type: "
    )
    (tmp_path / "answer.json").write_text('{"$ref": "https://example.org/other.json"}')
    assert "lies outside the schema" in complain(text)[0][0] or "not" in complain(text)[0][0]
    (tmp_path / "answer.json").write_text('{"type": "object"}')
    assert load_job("job.bulk.yaml").request.output.document == {"type": "object"}


def test_files_that_are_no_job(complain, tmp_path):
    assert complain("")[0] == ["job.bulk.yaml: the job is empty"]
    assert complain("- a\n- b")[0] == ["job.bulk.yaml:1: the job must be a list of fields, `name: value`"]
    with pytest.raises(JobError, match=r"^none.yaml: cannot be read: No such file or directory$"):
        load_job("none.yaml")
    with pytest.raises(JobError) as missing:
        load_job("job.bulk.yml")
    assert missing.value.hint == "did you mean job.bulk.yaml?"
    Path("latin.yaml").write_bytes(b"name: a\nsource: {path: caf\xe9.csv}\n")
    with pytest.raises(JobError, match=r"^latin.yaml:2: is not UTF-8 text$"):
        load_job("latin.yaml")


def test_the_base_is_not_a_field(complain):
    lines, _ = complain(HEAD + "base: /tmp\nrequest: {model: openai/m, prompt: a}")
    assert lines == ["job.bulk.yaml:3: base: there is no such field"]


def test_in_python_the_same_words_without_a_file():
    with pytest.raises(JobError) as caught:
        load_job_mapping({"name": "a", "source": {"path": "a.csv"}, "request": {"model": "m", "promt": "x"}})
    assert str(caught.value).split("\n") == [
        'request.model: must be "provider/model", for example "openai/gpt-5-mini"',
        "request.promt: there is no such field",
    ]
    assert caught.value.hint == "request.promt: did you mean `prompt`?"
    with pytest.raises(JobError, match=r"^name: is missing"):
        Job.create(source={"path": "a.csv"}, request={"model": "openai/m", "prompt": "x"})


def test_no_message_holds_a_prompt(complain):
    secret = "xyzzy-plugh"
    for section in (
        f"  model: openai/m\n  prompt: '{secret} {{{{ body'",
        f"  model: openai/m\n  prompt: [{secret}]",
        f"  model: openai/m\n  messages: [{{role: user, content: [{{text: {secret}, image: {secret}}}]}}]",
        f"  model: openai/m\n  prompt: a\n  messages: {secret}",
        f"  model: openai/m\n  messages: [{{role: user, content: [{{image: {secret}}}]}}]",
    ):
        lines, hint = complain(HEAD + "request:\n" + section)
        assert secret not in "\n".join(lines) + (hint or "")
