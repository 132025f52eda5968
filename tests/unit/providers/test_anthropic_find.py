"""Finding Anthropic batches: what tells one of ours, and when its absence may be told."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from anthropic_server import BATCHES, NOW, TAG, batch, run
from scripted_http import Call, answer

from bulkrate.errors import Undecided, Unreachable
from bulkrate.providers.anthropic.client import AnthropicConnection
from bulkrate.providers.anthropic.wire import AnthropicWire
from bulkrate.providers.provider import Search, Slice, Tag

SINCE = NOW - timedelta(minutes=10)


def result_line(tag: Tag, request: str = "00000", **result: Any) -> bytes:
    before, between, _ = AnthropicWire().envelope(tag)
    custom_id = before + f"{tag.run}{'00007'}{request}".encode() + between.split(b'"')[0] + b'"'
    return custom_id + b',"result":' + json.dumps({"type": "expired", **result}).encode() + b"}\n"


class Workspace:
    """A listing, newest first, in pages of `size`; and the results of those that have ended."""

    def __init__(
        self, batches: list[Any], results: dict[str, bytes] | None = None, size: int = 1_000
    ) -> None:
        self.batches, self.results, self.size = batches, results or {}, size

    def __call__(self, call: Call) -> bytes:
        where = urlsplit(call.path)
        if where.path.endswith("/results"):
            lines = self.results.get(where.path.split("/")[-2])
            return answer(404, {}) if lines is None else answer(200, lines)
        after = parse_qs(where.query).get("after_id")
        ids = [item["id"] for item in self.batches]
        first = ids.index(after[0]) + 1 if after else 0
        page = self.batches[first : first + self.size]
        return answer(200, {"data": page, "has_more": first + self.size < len(self.batches)})


def find(script: Any, known: frozenset[str] = frozenset(), tag: Tag = TAG, looks: int = 1) -> Any:
    found: Any = None

    async def work(connection: AnthropicConnection) -> None:
        nonlocal found
        for _ in range(looks):
            status = await connection.find(Search(tag, None, 3, SINCE, known))
            found = None if status is None else (status.id, status.tag)

    server = run(script, work)
    return found, server


OURS = {"msgbatch_9": result_line(TAG)}
THEIRS = result_line(Tag("z123456789", 7, "d" * 32))


def test_an_ended_batch_is_told_by_its_results() -> None:
    batches = [batch(1, rows=4), batch(2, "ended", rows=5), batch(9, "ended"), batch(3)]
    assert find(Workspace(batches, OURS))[0] == ("msgbatch_9", TAG)
    assert find(Workspace([batch(9, "ended")], {"msgbatch_9": THEIRS}))[0] is None
    assert find(Workspace([batch(9, "ended")], {"msgbatch_9": b'{"custom_id":"2"}\n'}))[0] is None
    assert find(Workspace([]))[0] is None


@pytest.mark.parametrize(
    "other",
    [
        Tag("0123456788", 7, "d" * 32),
        Tag("0123456789", 7, "e" * 32),
        Tag("0123456789", 7, "d" * 32, Slice(2, 0, 3)),
    ],
)
def test_nearly_ours_is_not_ours(other: Tag) -> None:
    assert find(Workspace([batch(9, "ended")], {"msgbatch_9": result_line(other)}))[0] is None


def test_a_piece_is_told_from_another_piece() -> None:
    piece = Tag("0123456789", 7, "d" * 32, Slice(2, 600, 603))
    results = {"msgbatch_9": result_line(piece)}
    assert find(Workspace([batch(9, "ended")], results), tag=piece)[0] == ("msgbatch_9", piece)


def test_damaged_and_strange_lines_do_not_decide() -> None:
    head = b'\xff\n{"custom_id":"unknown-1"}\n' + THEIRS + result_line(TAG)[:-20] + b"\n"
    assert find(Workspace([batch(9, "ended")], {"msgbatch_9": head}))[0] == ("msgbatch_9", TAG)


def test_a_running_batch_of_this_size_is_waited_for() -> None:
    for running in (batch(1), batch(1, "canceling"), batch(1, "paused"), batch(1, rows=0)):
        with pytest.raises(Undecided):
            find(Workspace([running, batch(9, "ended")], {"msgbatch_9": THEIRS}))
    # Not one that is known, of another size, or too old to be it.
    assert find(Workspace([batch(1)]), frozenset({"msgbatch_1"}))[0] is None
    assert find(Workspace([batch(1, rows=4)]))[0] is None
    assert find(Workspace([batch(1, age_s=86_400)]))[0] is None


def test_a_clock_that_takes_its_zone_for_utc_hides_no_batch() -> None:
    with pytest.raises(Undecided):
        find(Workspace([batch(1, age_s=14 * 3_600)]))
    assert find(Workspace([batch(9, "ended", age_s=14 * 3_600)], OURS))[0] == ("msgbatch_9", TAG)


def test_results_that_cannot_be_read_prove_nothing() -> None:
    for results in ({}, {"msgbatch_9": b""}, {"msgbatch_9": b"<html>welcome</html>"}):
        with pytest.raises(Undecided):
            find(Workspace([batch(9, "ended")], results))
    # Those of an archived batch never will be: there is nothing to adopt in it.
    assert find(Workspace([batch(9, "ended", archived_at=NOW.isoformat())]))[0] is None


def test_results_are_looked_at_once_and_not_to_their_end() -> None:
    lines = THEIRS * 100_000
    found, server = find(Workspace([batch(9, "ended")], {"msgbatch_9": lines}), looks=3)
    assert found is None
    assert server.count("GET", f"{BATCHES}/msgbatch_9/results") == 1


def test_absence_is_told_after_the_last_page() -> None:
    batches = [batch(number, rows=4) for number in range(5)]
    found, server = find(Workspace([*batches, batch(9, "ended")], OURS, size=2))
    assert found == ("msgbatch_9", TAG)
    assert server.count("GET", BATCHES) == 3
    # Nothing older than the search is paged through.
    old = [batch(number, rows=4, age_s=86_400) for number in range(9)]
    assert find(Workspace(old, size=2))[1].count("GET", BATCHES) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"data": []},
        {"data": None, "has_more": False},
        {"data": {}, "has_more": False},
        {"data": [batch(1, rows=4)], "has_more": True},  # the same page for ever
        {"data": [batch(1, rows=4)]},
        [],
    ],
    ids=range(6),
)
def test_what_is_no_listing_proves_nothing(body: Any) -> None:
    with pytest.raises(Unreachable):
        find(lambda call: answer(200, body))


def test_the_batches_of_a_run() -> None:
    other = Tag(TAG.run, 7, "e" * 32, Slice(1, 0, 4))
    results = {
        "msgbatch_3": THEIRS,
        "msgbatch_4": result_line(TAG),
        "msgbatch_5": result_line(other),
        "msgbatch_6": result_line(TAG),
        "msgbatch_7": b"",
    }
    batches = [
        batch(2, rows=9),
        batch(3, "ended"),
        batch(4, "ended"),
        batch(5, "ended", rows=4),
        batch(6, "ended"),
        batch(7, "ended"),
    ]
    found: Any = None

    async def work(connection: AnthropicConnection) -> None:
        nonlocal found
        found = await connection.find_run(TAG.run, SINCE, frozenset({"msgbatch_6"}))

    run(Workspace(batches, results), work)
    assert [(status.id, status.tag, status.total) for status in found] == [
        ("msgbatch_2", None, 9),
        ("msgbatch_4", TAG, 3),
        ("msgbatch_5", other, 4),
        ("msgbatch_7", None, 3),
    ]
