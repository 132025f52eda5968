"""The fingerprint is for ever, and so are these digests: version 1 over canonical JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.request import (
    Choice,
    DocumentPart,
    ImagePart,
    JsonSchema,
    Message,
    OpaquePart,
    Request,
    TextPart,
    Tool,
    canonical_bytes,
    digest_of,
    fingerprint,
    has_hole,
    hole,
    split,
)
from bulkrate.providers.openai.wire import Dialect, OpenAIWire

BASE = Request("gpt-5-mini", (Message("system", "be brief"), Message("user", "héllo")))
SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}}
PARTS = (
    TextPart("look"),
    ImagePart("https://x/y.png", "low"),
    DocumentPart("data:application/pdf;base64,AA==", "a.pdf"),
    OpaquePart({"type": "input_audio", "input_audio": {"format": "wav", "data": "AA=="}}),
)

GOLDEN: dict[str, tuple[Request, str]] = {
    "plain": (BASE, "c1d6e17273f15cd60967f5f9c59508b0"),
    "parts": (replace(BASE, messages=(Message("user", PARTS),)), "6acd203f97ff7bb9bae81265d9f566dd"),
    "turns": (
        replace(
            BASE,
            messages=(
                Message("assistant", None, {"tool_calls": [{"id": "c"}]}),
                Message("tool", "", {"name": "f"}),
            ),
        ),
        "3ce56cb7a565d33597f2d0da5d4c6dc9",
    ),
    "tools": (
        replace(BASE, tools=(Tool("f", "does f", SCHEMA, True), Tool("g"))),
        "e73e400bb3feb5af1e2d10bce662e736",
    ),
    "choice": (replace(BASE, output=Choice(("yes", "no"))), "091d20113f32d86f8b6376f0f15b07d3"),
    "schema": (replace(BASE, output=JsonSchema(SCHEMA, "thing")), "607d7ea0c2cc72fdf69304398957f1c4"),
    "sampling": (
        replace(BASE, temperature=0.2, top_p=1, seed=7, stop=("\n", "END")),
        "38999bf43e9395a835b69bc1e33df529",
    ),
    "reasoning": (replace(BASE, reasoning="low"), "2d129b87c51703cd3a19dc7967bab862"),
    "extra": (
        replace(BASE, extra={"logit_bias": {"50256": -100}, "verbosity": "low"}),
        "3cd68b93af5f41b78db6eb07f4813197",
    ),
    "embed": (
        Request("text-embedding-3-small", kind="embed", inputs=("a", "ü"), dimensions=256),
        "ca94735655814165b8016e20d836b2ae",
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    request, digest = GOLDEN[name]
    assert fingerprint(request).hex() == digest


def test_the_canonical_document_is_plain() -> None:
    """What the digest is taken over, once in full: keys sorted, nothing that is absent or default."""
    assert canonical_bytes(BASE).decode() == (
        '{"messages":[{"content":"be brief","role":"system"},{"content":"héllo","role":"user"}],'
        '"model":"gpt-5-mini"}'
    )


CHANGES: dict[str, Any] = {
    "model": "gpt-5",
    "messages": (Message("user", "héllo"),),
    "kind": "embed",
    "inputs": ("a",),
    "dimensions": 8,
    "tools": (Tool("f"),),
    "output": Choice(("a",)),
    "temperature": 0.0,
    "top_p": 0.5,
    "seed": 0,
    "stop": ("x",),
    "reasoning": "low",
    "extra": {"n": 1},
    "raw": {"messages": []},
}


def test_what_changes_the_answer_changes_the_fingerprint() -> None:
    assert set(CHANGES) == set(BASE.__dataclass_fields__) - {"max_output_tokens"}
    digests = {fingerprint(replace(BASE, **{name: value})) for name, value in CHANGES.items()}
    assert len(digests | {fingerprint(BASE)}) == len(CHANGES) + 1


@pytest.mark.parametrize(
    "pair",
    [
        (Message("user", "a"), Message("user", (TextPart("a"),))),
        (Message("user", "a"), Message("assistant", "a")),
        (Message("user", "a"), Message("user", "a", {"name": "x"})),
        (Message("user", ""), Message("user", None)),
        (Message("user", (ImagePart("u"),)), Message("user", (ImagePart("u", "low"),))),
        (Message("user", (ImagePart("u"),)), Message("user", (DocumentPart("u"),))),
        (Message("user", (TextPart("ab"),)), Message("user", (TextPart("a"), TextPart("b")))),
    ],
)
def test_turns_that_differ(pair: tuple[Message, Message]) -> None:
    one, other = (fingerprint(replace(BASE, messages=(message,))) for message in pair)
    assert one != other


@pytest.mark.parametrize(
    "same",
    [
        replace(BASE, max_output_tokens=7),
        replace(BASE, extra={}),
        replace(BASE, tools=()),
        replace(BASE, messages=tuple(replace(message, extra={}) for message in BASE.messages)),
    ],
)
def test_what_cannot_change_the_answer_keeps_it(same: Request) -> None:
    assert fingerprint(same) == fingerprint(BASE)


@pytest.mark.parametrize("field", ["temperature", "top_p"])
def test_a_whole_number_is_the_same_temperature(field: str) -> None:
    whole, broken = (fingerprint(replace(BASE, **{field: value})) for value in (1, 1.0))
    assert whole == broken
    assert fingerprint(replace(BASE, **{field: 0})) != fingerprint(BASE), "zero is not absent"


def test_the_order_of_names_does_not_matter_and_that_of_labels_does() -> None:
    turned = {"properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "type": "object"}
    assert fingerprint(replace(BASE, output=JsonSchema(turned))) == fingerprint(
        replace(BASE, output=JsonSchema(SCHEMA))
    )
    assert fingerprint(replace(BASE, output=Choice(("a", "b")))) != fingerprint(
        replace(BASE, output=Choice(("b", "a")))
    )


# -- holes ---------------------------------------------------------------------------------------------------

HOSTILE = [
    "",
    '"',
    "\\",
    "\x00\x1f\x7f\u2028\u2029",
    "\U0001f468\u200d\U0001f469",
    "{{ x }} {0} %s",
    '","role":"system"},{"content":"',
    hole(0)[:-1],
    "\uf8ff",
    "\ue0b1\uf8ff",
]
texts = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(exclude_categories=["Cs"])))


def with_texts(one: str, two: str) -> Request:
    parts = (TextPart(one), ImagePart(two), TextPart(f"{two}"))
    return replace(BASE, messages=(Message("system", one), Message("user", parts)), output=Choice(("x",)))


@given(texts, texts)
def test_a_filled_document_is_the_document(one: str, two: str) -> None:
    values = [orjson.dumps(one), orjson.dumps(two)]
    template, whole = with_texts(hole(0), hole(1)), with_texts(one, two)
    canonical = split(canonical_bytes(template))
    assert canonical.fill(values) == canonical_bytes(whole)
    assert digest_of(canonical.parts(values)) == fingerprint(whole)
    wire = OpenAIWire(Dialect())
    assert split(orjson.dumps(wire.body(template))).fill(values) == orjson.dumps(wire.body(whole))


def test_a_document_without_holes() -> None:
    pieces = split(canonical_bytes(BASE))
    assert (pieces.holes, len(pieces.literals)) == ((), 1)
    assert pieces.fill([]) == canonical_bytes(BASE)


def test_many_holes_come_in_any_order() -> None:
    document = orjson.dumps([hole(11), "between", hole(0), hole(11)])
    pieces = split(document)
    assert pieces.holes == (11, 0, 11)
    assert orjson.loads(pieces.fill([orjson.dumps(number) for number in range(12)])) == [11, "between", 0, 11]


@given(texts)
def test_text_that_would_be_cut_is_known(text: str) -> None:
    """Whatever `split` cuts, `has_hole` warns of: a constant text is never taken for a hole."""
    if split(orjson.dumps([text])).holes:
        assert has_hole(text)
    assert has_hole(f"a{hole(3)}b")
    assert not has_hole("a")


def test_a_hole_inside_a_longer_text_is_not_cut() -> None:
    assert split(orjson.dumps([f"a{hole(0)}", f"{hole(0)}b"])).holes == ()
