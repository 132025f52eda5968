"""Embeddings: what an answer's text becomes, and what it cannot be."""

from __future__ import annotations

import base64
import json
import struct
from array import array

import pytest

from bulkrate.core.answer import judge
from bulkrate.core.embedding import decimals, pack, unpack
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.request import Embedding
from bulkrate.core.usage import Usage

USED = Usage(input_tokens=7)


def judged(text: str, dimensions: int | None = None) -> Outcome:
    return judge(Embedding(dimensions))(Outcome(text=text, model="m", usage=USED))


def data(*embeddings: object) -> str:
    return json.dumps([{"object": "embedding", "index": n, "embedding": e} for n, e in enumerate(embeddings)])


def test_numbers_become_bytes() -> None:
    outcome = judged(data([0.5, -1, 3e-8]), 3)
    assert outcome == Outcome(model="m", usage=USED, embedding=struct.pack("<3f", 0.5, -1, 3e-8))
    assert outcome.embedding is not None
    assert unpack(outcome.embedding) == array("f", [0.5, -1, 3e-8])


def test_base64_becomes_the_same_bytes() -> None:
    packed = pack([0.1, 0.2])
    assert judged(data(base64.b64encode(packed).decode())).embedding == packed


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "can be read"),
        ("[]", "0 embeddings"),
        ("{}", "can be read"),
        ('[{"embedding": null}]', "can be read"),
        ('[{"embedding": [0.1, null]}]', "can be read"),
        ('[{"embedding": ["0.1"]}]', "can be read"),
        (data([]), "is empty"),
        (data([0.1], [0.2]), "2 embeddings, not one"),
        (data([1e39]), "no number of 32 bits"),
        (data([1e39, -1e39]), "no number of 32 bits"),
        (data("!"), "not the base64"),
        (data(""), "not the base64"),
        (data("AAAA"), "not the base64"),
        (data(base64.b64encode(struct.pack("<f", float("nan"))).decode()), "no number of 32 bits"),
    ],
)
def test_what_is_no_embedding_is_invalid_and_paid(text: str, said: str) -> None:
    outcome = judged(text)
    assert outcome.error is ErrorClass.INVALID_OUTPUT
    assert outcome.message is not None
    assert said in outcome.message
    assert (outcome.embedding, outcome.usage) == (None, USED)


def test_another_size_than_was_asked_for() -> None:
    outcome = judged(data([0.1, 0.2]), 3)
    assert outcome.message == "the embedding has 2 numbers, not the 3 asked for"


def test_a_failed_row_stays_as_it_is() -> None:
    failed = Outcome(ErrorClass.TRANSIENT, "no answer")
    assert judge(Embedding())(failed) is failed


def test_decimals_are_short_and_exact() -> None:
    numbers = array("f", [0.1, 1 / 3, -2.5e-20, 0.0])
    written = decimals(numbers)
    assert array("f", json.loads(json.dumps(written))) == numbers
    assert json.dumps(written[0]) == "0.100000001"
