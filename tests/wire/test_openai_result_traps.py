"""Result lines as they should not be, and what becomes of their rows. A paid answer is kept if it can be."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.request import Choice, FreeText, Output
from bulkrate.core.usage import NONE, Usage
from bulkrate.providers.openai.wire import Dialect, OpenAIWire

ID = "0123456789" + "0000000001"
WIRE = OpenAIWire(Dialect())
LABELS = Choice(("yes", "no"))


def answered(message: Any = None, *, finish: Any = "stop", **body: Any) -> dict[str, Any]:
    """The response of an answered row."""
    choices = [{"index": 0, "message": message or {"content": "yes"}, "finish_reason": finish}]
    usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    return {
        "status_code": 200,
        "request_id": "req_1",
        "body": {"model": "gpt-4o-mini-2024-07-18", "choices": choices, "usage": usage, **body},
    }


def line(response: Any = None, error: Any = None, **fields: Any) -> bytes:
    return json.dumps({"id": "r", "custom_id": ID, "response": response, "error": error, **fields}).encode()


def outcome_of(content: bytes, output: Output | None = None) -> Outcome:
    decoded = WIRE.decode(content, output or FreeText())
    assert decoded is not None
    assert decoded.custom_id == ID
    return decoded.outcome


def end_of(content: bytes, output: Output | None = None) -> ErrorClass | None:
    return outcome_of(content, output).error


def test_an_answer() -> None:
    assert outcome_of(line(answered())) == Outcome(
        text="yes", finish_reason="stop", model="gpt-4o-mini-2024-07-18", usage=Usage(9, 4)
    )


@pytest.mark.parametrize(
    ("response", "error", "ending", "reason"),
    [
        (None, {"code": "batch_expired", "message": "late"}, ErrorClass.EXPIRED, "batch_expired: late"),
        (None, {"code": "batch_cancelled", "message": ""}, ErrorClass.CANCELLED, "batch_cancelled"),
        (None, {"code": None, "message": "what"}, ErrorClass.TRANSIENT, "what"),
        (None, "the server is on fire", ErrorClass.TRANSIENT, "the server is on fire"),
        (None, None, ErrorClass.TRANSIENT, "the result line has neither response nor error"),
        (None, "", ErrorClass.TRANSIENT, "the result line has neither response nor error"),
        (None, {}, ErrorClass.TRANSIENT, "the result line has neither response nor error"),
        ({"status_code": 0, "body": {}}, None, ErrorClass.TRANSIENT, "0"),
        ({"status_code": None, "body": {}}, None, ErrorClass.TRANSIENT, "0"),
        ({"body": {}}, None, ErrorClass.TRANSIENT, "0"),
        ({"status_code": 302, "body": "moved"}, None, ErrorClass.TRANSIENT, "302 moved"),
        ({"status_code": 500, "body": None}, None, ErrorClass.TRANSIENT, "500"),
        ({"status_code": 200, "body": None}, None, ErrorClass.TRANSIENT, "status 200 with an empty body"),
        ({"status_code": 200, "body": ""}, None, ErrorClass.TRANSIENT, "status 200 with an empty body"),
        ({"status_code": 200}, None, ErrorClass.TRANSIENT, "status 200 with an empty body"),
        ({"status_code": 200, "body": {}}, None, ErrorClass.TRANSIENT, "the answer has no choices"),
        (
            {"status_code": 200, "body": {"data": None}},
            None,
            ErrorClass.TRANSIENT,
            "the answer has no choices",
        ),
        ({"status_code": 200, "body": {"data": []}}, None, ErrorClass.TRANSIENT, "the answer has no choices"),
        ({"status_code": 200, "body": {"data": {}}}, None, ErrorClass.TRANSIENT, "the answer has no choices"),
        (
            {"status_code": 200, "body": {"choices": []}},
            None,
            ErrorClass.TRANSIENT,
            "the answer has no choices",
        ),
    ],
)
def test_rows_without_an_answer(response: Any, error: Any, ending: ErrorClass, reason: str) -> None:
    assert outcome_of(line(response, error)) == Outcome(ending, reason)


@pytest.mark.parametrize(
    "error", [None, "", {}, {"code": None, "message": None}, {"code": "", "message": ""}]
)
def test_an_empty_error_is_no_error(error: Any) -> None:
    assert end_of(line(answered(), error)) is None


@pytest.mark.parametrize(
    ("status", "error", "ending"),
    [
        (400, {"message": "bad", "type": "invalid_request_error", "code": None}, ErrorClass.BAD_REQUEST),
        (400, {"message": "long", "code": "context_length_exceeded"}, ErrorClass.TOO_LONG),
        (400, {"message": "no", "code": "content_policy_violation"}, ErrorClass.REFUSED),
        (400, {"message": "no", "code": "content_filter"}, ErrorClass.REFUSED),
        (400, "plain text", ErrorClass.BAD_REQUEST),
        (400, None, ErrorClass.BAD_REQUEST),
        (404, {"code": "model_not_found"}, ErrorClass.BAD_REQUEST),
        (422, {"code": 422, "message": "x"}, ErrorClass.BAD_REQUEST),
        (408, None, ErrorClass.TRANSIENT),
        (409, None, ErrorClass.TRANSIENT),
        (429, {"code": "rate_limit_exceeded"}, ErrorClass.TRANSIENT),
        (500, {"code": None, "type": "server_error", "message": "oops"}, ErrorClass.TRANSIENT),
        (503, "<html>", ErrorClass.TRANSIENT),
    ],
)
@pytest.mark.parametrize("place", ["body", "line"])
def test_a_rejected_row_in_either_place(status: int, error: Any, ending: ErrorClass, place: str) -> None:
    """The error stands in `response.body.error` with a null `error`, or beside the response."""
    if place == "body":
        content = line({"status_code": status, "body": {"error": error}})
    else:
        content = line({"status_code": status, "body": {}}, error)
    outcome = outcome_of(content)
    assert outcome.error is ending
    assert outcome.usage == NONE
    assert (outcome.message or "").startswith(str(status))


def test_an_error_beside_an_answer_counts() -> None:
    assert end_of(line(answered(), {"code": "server_error", "message": "after all"})) is ErrorClass.TRANSIENT


@pytest.mark.parametrize(
    ("message", "finish", "ending", "text"),
    [
        ({"content": None, "refusal": "I will not"}, "stop", ErrorClass.REFUSED, None),
        ({"content": "half an"}, "length", ErrorClass.TRUNCATED, "half an"),
        ({"content": None}, "length", ErrorClass.TRUNCATED, None),
        ({"content": "half"}, "content_filter", ErrorClass.REFUSED, "half"),
        ({"content": None}, "stop", ErrorClass.INVALID_OUTPUT, None),
        ({"content": ""}, "stop", None, ""),
        ({"content": "yes"}, None, None, "yes"),
        ({"content": "yes", "refusal": ""}, "stop", None, "yes"),
    ],
)
def test_ends_of_an_answer(message: Any, finish: Any, ending: Any, text: str | None) -> None:
    outcome = outcome_of(line(answered(message, finish=finish)))
    assert (outcome.error, outcome.text, outcome.usage) == (ending, text, Usage(9, 4))


CALLS = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]


@pytest.mark.parametrize("content", [None, ""])
def test_calls_of_tools(content: str | None) -> None:
    outcome = outcome_of(line(answered({"content": content, "tool_calls": CALLS}, finish="tool_calls")))
    assert outcome.error is None
    assert json.loads(outcome.text or "") == CALLS


def test_a_call_of_the_older_kind() -> None:
    call = {"name": "f", "arguments": "{}"}
    outcome = outcome_of(line(answered({"content": None, "function_call": call}, finish="function_call")))
    assert json.loads(outcome.text or "") == call


def test_vectors() -> None:
    body = {"model": "e", "data": [{"index": 0, "embedding": [0.5, -1]}], "usage": {"prompt_tokens": 3}}
    outcome = outcome_of(line({"status_code": 200, "body": body}))
    assert outcome.usage == Usage(3, 0)
    assert json.loads(outcome.text or "") == body["data"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ('{"label": "yes"}', "yes"),
        ('{"label":"no","why":"x"}', "no"),
        ("yes", "yes"),
        ('{"label": 1}', '{"label": 1}'),
        ('["label"]', '["label"]'),
        ('{"label": ', '{"label": '),
        ("", ""),
    ],
)
def test_a_label_is_unwrapped(written: str, read: str) -> None:
    assert outcome_of(line(answered({"content": written})), LABELS).text == read
    assert outcome_of(line(answered({"content": written}))).text == written, "free text stays as it is"


def test_vllm_labels_have_no_wrapper() -> None:
    wire = OpenAIWire(Dialect(choice="structured_outputs"))
    decoded = wire.decode(line(answered({"content": '{"label": "yes"}'})), LABELS)
    assert decoded is not None
    assert decoded.outcome.text == '{"label": "yes"}'


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, NONE),
        ({}, NONE),
        ([], NONE),
        ("many", NONE),
        ({"prompt_tokens": None, "completion_tokens": 4}, Usage(0, 4)),
        ({"prompt_tokens": "9", "completion_tokens": 4}, Usage(0, 4)),
        ({"prompt_tokens": 9.0, "completion_tokens": 4}, Usage(9, 4)),
        ({"prompt_tokens": 10**30, "completion_tokens": 4}, Usage(0, 4)),
        ({"prompt_tokens": 2**63, "completion_tokens": 4}, Usage(0, 4)),
        ({"prompt_tokens": -9, "completion_tokens": 4}, Usage(0, 4)),
        ({"prompt_tokens": True, "completion_tokens": 4}, Usage(0, 4)),
        ({"prompt_tokens": 9, "prompt_tokens_details": None}, Usage(9, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": None}}, Usage(9, 0)),
        ({"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": "5"}}, Usage(9, 0)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 4,
                "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 3},
                "completion_tokens_details": {"reasoning_tokens": 2},
            },
            Usage(9, 4, 5, 3, 2),
        ),
    ],
)
def test_odd_usage_never_costs_an_answer(usage: Any, counted: Usage) -> None:
    outcome = outcome_of(line(answered(usage=usage)))
    assert (outcome.error, outcome.text, outcome.usage) == (None, "yes", counted)


def test_usage_that_is_missing() -> None:
    response = answered()
    del response["body"]["usage"]
    assert outcome_of(line(response)).usage == NONE


@pytest.mark.parametrize("number", ["1e400", "9" * 5_000, "-0", "0.1e-400", "NaN", "-Infinity"])
def test_huge_numbers_where_nobody_looks(number: str) -> None:
    content = line(answered()).replace(b'"request_id"', f'"n": {number}, "request_id"'.encode())
    assert outcome_of(content).text == "yes"


def test_numbers_of_more_than_64_bits_in_a_tool_call() -> None:
    calls = [{"function": {"name": "f", "arguments": {"n": 2**70}}}]
    outcome = outcome_of(line(answered({"content": None, "tool_calls": calls})))
    assert outcome.error is None
    assert '"name":"f"' in (outcome.text or "")


@pytest.mark.parametrize(
    "fields",
    [
        {"model": 7},
        {"choices": [{"message": {"content": "yes", "refusal": {}}, "finish_reason": "stop"}]},
        {"choices": [{"message": {"content": "yes"}, "finish_reason": 7}]},
        {"choices": [{"message": {"content": [{"type": "text", "text": "yes"}]}, "finish_reason": "stop"}]},
        {"error": []},
        {"error": {"code": 1.5}},
    ],
)
def test_odd_fields_never_cost_an_answer(fields: dict[str, Any]) -> None:
    outcome = outcome_of(line(answered(**fields)))
    assert (outcome.error, outcome.text, outcome.usage) == (None, "yes", Usage(9, 4))


@pytest.mark.parametrize("status", ["200", 200.0])
def test_a_status_of_another_type(status: Any) -> None:
    assert end_of(line({**answered(), "status_code": status})) is None


@pytest.mark.parametrize("choices", [7, "x", {}, [7], [None], [{}], [{"message": "x"}]])
def test_choices_that_are_none(choices: Any) -> None:
    assert end_of(line(answered(choices=choices))) in (ErrorClass.TRANSIENT, ErrorClass.INVALID_OUTPUT)


def test_a_byte_order_mark() -> None:
    assert outcome_of(b"\xef\xbb\xbf" + line(answered())).text == "yes"


def test_bytes_that_are_no_text() -> None:
    """The row is known, and what it cost; the answer is not to be trusted."""
    outcome = outcome_of(line(answered({"content": "caf#"})).replace(b"#", b"\xe9"))
    assert outcome.error is ErrorClass.TRANSIENT
    assert outcome.text == "caf\ufffd"
    assert outcome.usage == Usage(9, 4)


def test_half_a_character() -> None:
    """JSON can write half of a surrogate pair, UTF-8 cannot: the rest of the answer stands."""
    outcome = outcome_of(line(answered({"content": "ok #"})).replace(b"#", b"\\ud83d"))
    assert (outcome.error, outcome.text) == (None, "ok \ufffd")
    outcome = outcome_of(line(answered({"content": "ok #"})).replace(b"#", b"\\ud83d\\ude00"))
    assert outcome.text == "ok \U0001f600"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   ",
        b"null",
        b"7",
        b'"text"',
        b"[]",
        b'[{"custom_id": "a"}]',
        b"{}",
        line(answered(), custom_id=None),
        line(answered(), custom_id=7),
        line(answered(), custom_id=["x"]),
        line(answered())[:-1],
        line(answered()) + b"x",
        b"<html>502</html>",
        b"\xff\xfe{\x00",
        b"[" * 100_000,
        b'{"custom_id": ' + b"[" * 100_000,
    ],
)
def test_lines_that_are_nobodys(content: bytes) -> None:
    assert WIRE.decode(content, FreeText()) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("response", "error", "status_code", "body", "choices", "message", "content", "usage", "data", "code")


@given(
    st.recursive(
        json_values,
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(NAMES), inner, min_size=1, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_whatever_a_line_holds_its_row_has_an_end(value: Any) -> None:
    fields = value if isinstance(value, dict) else {"response": value}
    content = json.dumps({**fields, "custom_id": ID}).encode()
    decoded = WIRE.decode(content, LABELS)
    assert decoded is not None
    assert decoded.custom_id == ID
    for text in (decoded.outcome.text, decoded.outcome.message, decoded.outcome.model):
        assert text is None or text.encode()


@given(st.binary(max_size=200))
def test_whatever_the_bytes_nothing_is_raised(content: bytes) -> None:
    WIRE.decode(content, FreeText())
    WIRE.decode(line(answered({"content": "#"})).replace(b"#", content), LABELS)


@pytest.mark.parametrize(
    ("field", "said", "cost"),
    [
        ("cost", 0.00014, "0.00014"),
        ("cost", 0, "0"),
        ("cost_in_usd_ticks", 37_756_000, "0.0037756"),
        ("cost", "0.5", None),
        ("cost", -1, None),
        ("cost", 1e12, None),
        ("cost", True, None),
        ("cost", None, None),
        ("cost", {"total_cost": 1}, None),
    ],
)
@pytest.mark.parametrize("readable", [True, False])
def test_what_a_server_says_that_an_answer_cost(
    field: Any, said: Any, cost: str | None, readable: bool
) -> None:
    wire = OpenAIWire(Dialect(cost_field=field))
    usage = {"prompt_tokens": 9 if readable else 9.0, "completion_tokens": 4, field: said}
    decoded = wire.decode(line(answered(usage=usage)), FreeText())
    assert decoded is not None
    assert decoded.outcome.usage == Usage(9, 4)
    assert decoded.outcome.reported_cost == (None if cost is None else Decimal(cost))
    assert outcome_of(line(answered(usage=usage))).reported_cost is None, "a server that was not asked"
