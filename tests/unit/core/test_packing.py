"""Packing is a pure fold: within the bounds, every row once and in order, the same however it is fed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.limits import Limits
from bulkrate.core.packing import pack

sizes = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=40)
bounds = st.tuples(st.integers(1, 6), st.integers(1, 100), st.none() | st.integers(1, 100))


def numbered(rows: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    return [(10 * number, *row) for number, row in enumerate(rows)]


@given(sizes, bounds, st.integers(0, 20))
def test_bounds(rows: list[tuple[int, int]], bound: tuple[int, int, int | None], envelope: int) -> None:
    requests, file_bytes, tokens = bound
    limits = Limits(requests=requests, file_bytes=file_bytes, queued_tokens=tokens)
    given_rows = numbered(rows)
    shards = list(pack(given_rows, limits, envelope_bytes=envelope))
    assert [row for shard in shards for row in shard.rows] == [row for row, _, _ in given_rows]
    by_number = {row: (size, count) for row, size, count in given_rows}
    for shard in shards:
        assert shard.size_bytes == sum(by_number[row][0] + envelope for row in shard.rows)
        assert shard.tokens == sum(by_number[row][1] for row in shard.rows)
        assert 1 <= len(shard.rows) <= requests
        if len(shard.rows) > 1:
            assert shard.size_bytes <= file_bytes
            assert tokens is None or shard.tokens <= tokens
    for shard, following in pairwise(shards):
        size, count = by_number[following.rows[0]]
        full = len(shard.rows) == requests or shard.size_bytes + size + envelope > file_bytes
        assert full or (tokens is not None and shard.tokens + count > tokens), "closed too early"


@given(sizes, bounds)
def test_a_generator_packs_like_a_list(
    rows: list[tuple[int, int]], bound: tuple[int, int, int | None]
) -> None:
    requests, file_bytes, tokens = bound
    limits = Limits(requests=requests, file_bytes=file_bytes)
    listed = list(pack(numbered(rows), limits, envelope_bytes=3, max_tokens=tokens))
    fed = list(pack((row for row in numbered(rows)), limits, envelope_bytes=3, max_tokens=tokens))
    assert listed == fed


def test_a_row_over_a_bound_travels_alone() -> None:
    limits = Limits(requests=10, file_bytes=100, queued_tokens=10)
    shards = list(pack([(0, 5, 1), (1, 500, 1), (2, 5, 1), (3, 5, 99), (4, 5, 1)], limits, envelope_bytes=0))
    assert [list(shard.rows) for shard in shards] == [[0], [1], [2], [3], [4]]


def test_the_envelope_counts() -> None:
    rows = [(0, 10, 0), (1, 10, 0)]
    limits = Limits(file_bytes=24)
    assert [list(shard.rows) for shard in pack(rows, limits, envelope_bytes=2)] == [[0, 1]]
    assert [list(shard.rows) for shard in pack(rows, limits, envelope_bytes=3)] == [[0], [1]]


@pytest.mark.parametrize(("max_tokens", "shards"), [(None, 3), (10, 3), (20, 2), (100, 1), (1, 3)])
def test_the_known_queue_wins_over_the_published_one(max_tokens: int | None, shards: int) -> None:
    limits = Limits(queued_tokens=10)
    rows = [(row, 1, 10) for row in range(3)]
    assert len(list(pack(rows, limits, envelope_bytes=0, max_tokens=max_tokens))) == shards


def test_nothing_makes_no_shard() -> None:
    assert list(pack([], Limits(), envelope_bytes=9)) == []


def test_the_quiet_period() -> None:
    assert Limits(create_timeout_s=120, listing_lag_s=60).quiet_s == 180


@given(sizes, bounds, st.integers(1, 6))
def test_a_last_shard_too_small_for_a_batch_is_filled_up(
    rows: list[tuple[int, int]], bound: tuple[int, int, int | None], fewest: int
) -> None:
    requests, file_bytes, tokens = bound
    plain = Limits(requests=requests, file_bytes=file_bytes, queued_tokens=tokens)
    without = list(pack(numbered(rows), plain, envelope_bytes=3))
    shards = list(pack(numbered(rows), replace(plain, min_requests=fewest), envelope_bytes=3))
    weights = {row: (size + 3, count) for row, size, count in numbered(rows)}
    assert [row for shard in shards for row in shard.rows] == list(weights)
    assert len(shards) == len(without)
    assert shards[:-2] == without[:-2]
    for shard in shards:
        assert shard.size_bytes == sum(weights[row][0] for row in shard.rows)
        assert shard.tokens == sum(weights[row][1] for row in shard.rows)
        if len(shard.rows) > 1:
            assert shard.size_bytes <= file_bytes
            assert tokens is None or shard.tokens <= tokens
    # Whoever gives rows away stays a batch; nobody is made smaller than need be.
    if shards != without:
        assert len(shards[-1].rows) == fewest > len(without[-1].rows)
        assert len(shards[-2].rows) >= fewest


def test_a_tail_takes_what_it_lacks_and_no_more() -> None:
    limits = Limits(requests=50, min_requests=10)
    sizes = [len(shard.rows) for shard in pack(((n, 1, 1) for n in range(103)), limits, envelope_bytes=0)]
    assert sizes == [50, 43, 10]
    alone = list(pack(((n, 1, 1) for n in range(7)), limits, envelope_bytes=0))
    assert [len(shard.rows) for shard in alone] == [7]
