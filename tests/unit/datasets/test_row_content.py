from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.datasets.content import key_of, looks_like_openai_batch, row_hash
from bulkrate.datasets.source import Problem


def test_row_hash_ignores_the_order_of_names_at_every_level():
    assert row_hash({"a": 1, "b": {"c": 2, "d": 3}}) == row_hash({"b": {"d": 3, "c": 2}, "a": 1})
    assert len(row_hash({})) == 16


def test_row_hash_sees_every_difference():
    rows = [
        {},
        {"a": 1},
        {"a": "1"},
        {"a": 1.0},
        {"a": True},
        {"a": None},
        {"a": [1]},
        {"b": 1},
        {"a": 1, "b": None},
        {"a": "é"},
        {"a": "e\u0301"},
    ]
    assert len({row_hash(row) for row in rows}) == len(rows)


def test_row_hash_is_pinned():
    # The hash is stored in manifests: a new value here breaks every run in flight.
    assert row_hash({"id": "007", "text": "hé"}).hex() == "9ac9789cfda26659cecf7af4b1a824e3"


def test_key_is_pinned():
    assert key_of({"id": "007"}, ["id"]) == ("007", bytes.fromhex("b797c0db213d0981f111d755b86ab03b"))
    assert key_of({"a": "x", "b": 2}, ["a", "b"]) == (
        "x / 2",
        bytes.fromhex("3a4f89c353eb93f2d199475779157b49"),
    )


def test_columns_of_a_key_do_not_run_into_each_other():
    rows = [("a", "bc"), ("ab", "c"), ("abc", ""), ("a / b", "c"), ("a", "b / c"), ("c", "ab")]
    keys = [key_of({"x": x, "y": y}, ["x", "y"]) for x, y in rows]
    assert keys[2] == Problem("empty_key", "the key column 'y' is empty")
    digests = [key[1] for key in keys if not isinstance(key, Problem)]
    assert len(set(digests)) == 5


def test_a_key_is_its_text():
    assert key_of({"id": 1}, ["id"]) == key_of({"id": "1"}, ["id"])
    assert key_of({"id": True}, ["id"]) == key_of({"id": "true"}, ["id"])
    assert key_of({"id": 1}, ["id"]) != key_of({"id": "01"}, ["id"])


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({}, "missing_key"),
        ({"id": None}, "null_key"),
        ({"id": ""}, "empty_key"),
        ({"id": ["secret"]}, "bad_key"),
        ({"id": {"secret": 1}}, "bad_key"),
    ],
)
def test_rows_without_a_key(row, code):
    problem = key_of(row, ["id"])
    assert isinstance(problem, Problem)
    assert problem.code == code
    assert "'id'" in problem.message
    assert "secret" not in problem.message


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), unique=True, max_size=6))
def test_different_keys_have_different_digests(pairs):
    for one, other in combinations(pairs, 2):
        left = key_of({"x": one[0], "y": one[1]}, ["x", "y"])
        right = key_of({"x": other[0], "y": other[1]}, ["x", "y"])
        assert not isinstance(left, Problem)
        assert not isinstance(right, Problem)
        assert left[1] != right[1]


def test_ready_made_batch_lines():
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m"}}
    assert looks_like_openai_batch(line)
    for name in line:
        assert not looks_like_openai_batch({k: v for k, v in line.items() if k != name})
    assert not looks_like_openai_batch({**line, "body": "text"})
