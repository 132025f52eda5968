"""Names are for ever: the golden values below must never change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.identity import (
    CUSTOM_ID_LENGTH,
    DIGITS,
    MAX_NUMBER,
    RequestId,
    base36,
    parse_custom_id,
    run_tag,
    shard_digest,
    shard_prefix,
)

tags = st.text(DIGITS, min_size=10, max_size=10)
numbers = st.integers(0, MAX_NUMBER)


def test_golden() -> None:
    tag = run_tag(job=b'{"model":"gpt-5-mini"}', snapshot="5eed", model="openai/gpt-5-mini")
    assert tag == "dotw48t6q3"
    assert run_tag(job=b"", snapshot="", model="") == "ai0h3as4u7"
    assert str(RequestId("0123456789", 1, 35)) == "01234567890000" + "10000z"
    assert str(RequestId("zzzzzzzzzz", MAX_NUMBER, MAX_NUMBER)) == "z" * 20
    assert MAX_NUMBER == 60_466_175
    assert shard_digest([b"a", b"b"]) == "a39085377ba5d6543b4dde725e72a7d9"


@given(tags, numbers, numbers)
def test_round_trip_in_a_fixed_width(tag: str, shard: int, request: int) -> None:
    identity = RequestId(tag, shard, request)
    text = str(identity)
    assert len(text) == CUSTOM_ID_LENGTH == 20
    assert set(text) <= set(DIGITS)
    assert text.startswith(shard_prefix(tag, shard))
    assert parse_custom_id(text) == identity


@given(tags, numbers, numbers, numbers, numbers)
def test_no_two_requests_share_a_name(tag: str, a: int, b: int, c: int, d: int) -> None:
    assert (str(RequestId(tag, a, b)) == str(RequestId(tag, c, d))) is ((a, b) == (c, d))


@given(st.text())
def test_strangers_are_no_error(text: str) -> None:
    identity = parse_custom_id(text)
    assert identity is None or str(identity) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 19,
        "a" * 21,
        "A" * 20,
        "a" * 19 + "-",
        "a" * 19 + " ",
        "٣" * 20,
        "a" * 19 + "é",
        "+" + "1" * 19,
    ],
)
def test_what_is_not_ours(text: str) -> None:
    assert parse_custom_id(text) is None


@given(st.integers(0, 36**6))
def test_base_36_is_python_base_36(number: int) -> None:
    text = base36(number, 7)
    assert int(text, 36) == number
    assert len(text) == 7


@pytest.mark.parametrize(("number", "width"), [(-1, 5), (36**5, 5), (36, 1)])
def test_what_does_not_fit_is_an_error(number: int, width: int) -> None:
    with pytest.raises(ValueError, match="base"):
        base36(number, width)


def test_every_part_of_a_run_makes_another_tag() -> None:
    parts = {"job": b"j", "snapshot": "s", "model": "m", "nonce": ""}
    variants = [parts, *({**parts, name: parts[name] * 2 or "n"} for name in parts)]
    variants += [{**parts, "job": b"js", "snapshot": ""}, {**parts, "snapshot": "", "model": "sm"}]
    tags = {run_tag(**variant) for variant in variants}
    assert len(tags) == len(variants), "parts must not run into each other"
    assert run_tag(**parts) == run_tag(**parts)


def test_a_shard_digest_hashes_its_parts_in_order() -> None:
    assert shard_digest([b"a", b"b"]) != shard_digest([b"b", b"a"])
    assert shard_digest([]) != shard_digest([b"a"])
    assert len(shard_digest([])) == 32
