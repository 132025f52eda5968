"""Result lines of the Gemini API: every end of a row, the recorded lines, and what no one can read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.request import Choice, FreeText, Message, Output, Request
from bulkrate.core.usage import Usage
from bulkrate.providers.google.provider import provider

WIRE = provider.wire("gemini-2.5-flash")
USAGE = {
    "promptTokenCount": 100,
    "cachedContentTokenCount": 60,
    "candidatesTokenCount": 10,
    "thoughtsTokenCount": 30,
    "toolUsePromptTokenCount": 5,
    "totalTokenCount": 145,
}


def outcome(fields: dict[str, Any], output: Output | None = None) -> Outcome:
    decoded = WIRE.decode(orjson.dumps({"key": "k", **fields}), output or FreeText())
    assert decoded is not None
    assert decoded.custom_id == "k"
    return decoded.outcome


def answered(*parts: dict[str, Any], finish: str | None = "STOP", **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, **fields}
    return {"response": {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "m-001"}}


def ended(fields: dict[str, Any]) -> tuple[ErrorClass | None, str | None]:
    found = outcome(fields)
    return found.error, found.text


def test_an_answer_with_its_usage() -> None:
    found = outcome(answered({"text": "I think", "thought": True}, {"text": "a"}, {"text": "b"}))
    # Thoughts are output beside the candidates; what tools gave back is input; cached is part of the prompt.
    assert found == Outcome(
        text="ab",
        finish_reason="STOP",
        model="m-001",
        usage=Usage(input_tokens=105, output_tokens=40, cached_tokens=60, reasoning_tokens=30),
    )


@pytest.mark.parametrize(
    ("finish", "error"),
    [
        ("STOP", None),
        (None, None),
        ("A_WORD_OF_NEXT_YEAR", None),
        ("MAX_TOKENS", ErrorClass.TRUNCATED),
        ("SAFETY", ErrorClass.REFUSED),
        ("RECITATION", ErrorClass.REFUSED),
        ("PROHIBITED_CONTENT", ErrorClass.REFUSED),
        ("SPII", ErrorClass.REFUSED),
        ("MALFORMED_FUNCTION_CALL", ErrorClass.INVALID_OUTPUT),
        ("OTHER", ErrorClass.TRANSIENT),
    ],
)
def test_why_a_model_stopped(finish: str | None, error: ErrorClass | None) -> None:
    found = outcome(answered({"text": "so far"}, finish=finish))
    assert (found.error, found.text, found.usage.output_tokens) == (error, "so far", 40)
    assert error is None or found.message


def test_the_reason_is_the_providers() -> None:
    found = outcome(answered(finish="SAFETY", finishMessage="harm: high"))
    assert found.message == "the answer was stopped: SAFETY: harm: high"
    blocked = outcome({"response": {"promptFeedback": {"blockReason": "BLOCKLIST"}, "usageMetadata": USAGE}})
    assert (blocked.error, blocked.message) == (ErrorClass.REFUSED, "the prompt was blocked: BLOCKLIST")
    assert blocked.usage.input_tokens == 105


def test_a_cap_that_the_thoughts_have_used_up() -> None:
    assert ended(answered(finish="MAX_TOKENS")) == (ErrorClass.TRUNCATED, None)


def test_calls_of_functions_read_as_in_every_dialect() -> None:
    found = outcome(answered({"functionCall": {"name": "f", "args": {"n": 1}, "id": "c"}}))
    assert orjson.loads(found.text or "") == [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"n":1}'}}
    ]


@pytest.mark.parametrize("text", ['"b"', "b", '"b"\n'])
def test_a_label_comes_without_its_quotation_marks(text: str) -> None:
    assert outcome(answered({"text": text}), Choice(("a", "b"))).text in ("b", "b\n")
    assert outcome(answered({"text": text})).text == text


@pytest.mark.parametrize("spelling", ["error", "status"])
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 3, "message": "bad"}, ErrorClass.BAD_REQUEST),
        ({"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}, ErrorClass.BAD_REQUEST),
        ({"code": "400"}, ErrorClass.BAD_REQUEST),
        ({"code": 7, "message": "no"}, ErrorClass.BAD_REQUEST),
        ({"code": 400, "message": "The input token count (9) exceeds the maximum"}, ErrorClass.TOO_LONG),
        ({"code": 400, "message": "The input token count exceeds the maximum"}, ErrorClass.TOO_LONG),
        ({"code": 8, "message": "later"}, ErrorClass.TRANSIENT),
        ({"code": 13}, ErrorClass.TRANSIENT),
        ({"code": 503}, ErrorClass.TRANSIENT),
        ({"message": "?"}, ErrorClass.TRANSIENT),
        ({"code": 1}, ErrorClass.CANCELLED),
        ("words alone", ErrorClass.TRANSIENT),
    ],
)
def test_errors_of_a_row(spelling: str, error: Any, kind: ErrorClass) -> None:
    assert outcome({spelling: error}).error is kind


def test_a_status_beside_an_answer_takes_nothing_from_it() -> None:
    assert ended({"status": "", **answered({"text": "a"})}) == (None, "a")
    assert ended({"status": {"code": 0}, **answered({"text": "a"})}) == (None, "a")


@pytest.mark.parametrize(
    "fields", [{}, {"response": None}, {"response": {}}, {"response": {"candidates": []}}]
)
def test_nothing_was_answered(fields: dict[str, Any]) -> None:
    assert ended(fields) == (ErrorClass.TRANSIENT, None)


def test_no_content_is_no_answer() -> None:
    assert ended(answered()) == (ErrorClass.INVALID_OUTPUT, None)
    assert ended(answered({"text": ""})) == (None, "")


def test_single_answers() -> None:
    body = answered({"text": "a"})["response"]
    assert ended({"response": {"status_code": 200, "body": body}}) == (None, "a")
    refused = {"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}
    assert outcome({"response": {"status_code": 400, "body": refused}}).error is ErrorClass.BAD_REQUEST
    assert outcome({"response": {"status_code": 429, "body": None}}).error is ErrorClass.TRANSIENT
    line = {"custom_id": "c", "response": None, "error": {"code": "no_answer", "message": "8 calls"}}
    decoded = WIRE.decode(orjson.dumps(line), FreeText())
    assert decoded is not None
    assert (decoded.custom_id, decoded.outcome.error) == ("c", ErrorClass.TRANSIENT)


def test_where_the_id_stands() -> None:
    inline = WIRE.decode(orjson.dumps({"metadata": {"key": "m"}, "error": {"code": 13}}), FreeText())
    assert inline is not None
    assert inline.custom_id == "m"
    for line in (b"{}", b'{"key":""}', b'{"key":7}', b'{"metadata":{}}', b'{"metadata":[]}'):
        assert WIRE.decode(line, FreeText()) is None


def test_vectors_read_as_in_every_dialect() -> None:
    found = outcome({"response": {"embedding": {"values": [0.5, 1]}, "tokenCount": "7"}})
    assert orjson.loads(found.text or "") == [{"object": "embedding", "index": 0, "embedding": [0.5, 1]}]
    assert found.usage == Usage(input_tokens=7)
    assert ended({"response": {"embedding": {}}}) == (ErrorClass.TRANSIENT, None)


def test_damage_on_the_way() -> None:
    line = orjson.dumps({"key": "k", **answered({"text": "abc"})}).replace(b"abc", b"a\xff\xfec")
    decoded = WIRE.decode(line, FreeText())
    assert decoded is not None
    assert decoded.outcome.error is ErrorClass.TRANSIENT
    assert decoded.outcome.usage.output_tokens == 40
    # What JSON can write and UTF-8 cannot, and a mark that some tools put before a file.
    halves = orjson.dumps({"key": "k", **answered({"text": "abc"})}).replace(b"abc", rb"a\ud800c")
    decoded = WIRE.decode(b"\xef\xbb\xbf" + halves, FreeText())
    assert decoded is not None
    assert (decoded.outcome.error, decoded.outcome.text) == (None, "a\ufffdc")


HOSTILE = (None, True, -1, 10**30, 1e300, "", "text", [], [None], {}, {"text": 7})


def _spoilt(value: Any) -> Iterator[Any]:
    """`value` with each of its places in turn held by something else."""
    yield from HOSTILE
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from ({**value, name: spoilt} for spoilt in _spoilt(inner))
    if isinstance(value, list):
        for place, inner in enumerate(value):
            yield from ([*value[:place], spoilt, *value[place + 1 :]] for spoilt in _spoilt(inner))


def test_no_line_is_an_exception() -> None:
    lines = [
        answered({"text": "a", "thought": True}, {"functionCall": {"name": "f", "args": {}}}),
        {"response": {"promptFeedback": {"blockReason": "x"}}},
        {"response": {"embedding": {"values": [1.0]}, "tokenCount": "1", "usageMetadata": {}}},
        {"response": {"status_code": 200, "body": answered({"text": "a"})["response"]}},
        {"error": {"code": 3, "message": "m", "status": "s"}, "status": "s"},
    ]
    for line in lines:
        for fields in _spoilt(line):
            if isinstance(fields, dict):
                found = WIRE.decode(json.dumps({**fields, "key": "k"}).encode(), Choice(("a",)))
                assert found is not None
                assert found.outcome.usage.input_tokens >= 0
                (found.outcome.text or "").encode()


# Usage, characters, and the first half of the text's SHA-256.
RECORDED = {
    "0": (Usage(2, 128), 465, "65a00c5fa7a27e87"),
    "1": (Usage(1, 267), 1_155, "fb4b53492508452e"),
    "2": (Usage(1, 177), 667, "678e8184c0d74c90"),
}


def test_the_recorded_lines(shared_data: Path) -> None:
    """A batch of Gemini's on Vertex (2025): the same responses, `custom_id` and `status` about them."""
    path = shared_data / "batch-wire" / "gemini_batch_response.jsonl"
    if not path.is_file():
        pytest.skip("the recorded traffic is not here")
    found = {}
    for line in path.read_bytes().splitlines():
        decoded = WIRE.decode(line, FreeText())
        assert decoded is not None
        text = decoded.outcome.text or ""
        digest = sha256(text.encode()).hexdigest()[:16]
        found[decoded.custom_id] = (decoded.outcome.usage, len(text), digest)
        assert (decoded.outcome.error, decoded.outcome.finish_reason) == (None, "STOP")
        assert decoded.outcome.model == "gemini-1.5-flash-002@default"
        sent = orjson.loads(line)["request"]
        prompt = sent["contents"][0]["parts"][0]["text"]
        assert WIRE.body(Request("gemini-2.5-flash", (Message("user", prompt),))) == sent
    assert found == RECORDED
