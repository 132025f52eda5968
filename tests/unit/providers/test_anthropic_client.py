"""The calls to Anthropic against a server that answers to the byte: what is sent, and what answers mean."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from scripted_http import Call, Scripted, answer, scripted

from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.errors import (
    AuthError,
    ConfigError,
    NotFoundError,
    OutcomeUnknown,
    QuotaError,
    RequestRefused,
    Undecided,
    Unreachable,
)
from bulkrate.providers.anthropic.client import AnthropicConnection, open_http
from bulkrate.providers.anthropic.wire import AnthropicWire
from bulkrate.providers.provider import ResultFile, Search, Slice, Submission, Tag

KEY = "sk-ant-0123456789abcdef"
TAG = Tag("0123456789", 7, "d" * 32)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
SINCE = NOW - timedelta(minutes=10)
BATCHES = "/v1/messages/batches"


def batch(number: int, word: str = "in_progress", *, rows: int = 3, age_s: float = 0.0, **more: Any) -> Any:
    counts = {"processing": 0, "succeeded": rows} if word == "ended" else {"processing": rows, "succeeded": 0}
    return {
        "id": f"msgbatch_{number}",
        "processing_status": word,
        "request_counts": counts,
        "created_at": (NOW - timedelta(seconds=age_s)).isoformat(),
        "archived_at": None,
        **more,
    }


def result_line(tag: Tag, request: str = "00000", **result: Any) -> bytes:
    before, between, _ = AnthropicWire().envelope(tag)
    custom_id = before + f"{tag.run}{'00007'}{request}".encode() + between.split(b'"')[0] + b'"'
    return custom_id + b',"result":' + json.dumps({"type": "expired", **result}).encode() + b"}\n"


def run(script: Callable[[Call], Any], work: Callable[[AnthropicConnection], Awaitable[Any]]) -> Scripted:
    """Do `work` against a server that answers by `script`; its calls."""

    async def main() -> Scripted:
        async with scripted(script) as server:
            env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": server.base_url.removesuffix("/v1")}
            connection = AnthropicConnection(open_http(env), limits=Limits(create_timeout_s=5))
            try:
                await work(connection)
            finally:
                await connection.aclose()
            return server

    return asyncio.run(main())


def submission(lines: bytes, requests: int = 3) -> Submission:
    return Submission(TAG, None, requests, lambda: io.BytesIO(lines))


LINES = b"".join(b'{"custom_id":"%d","params":{"text":"a, b"}}\n' % number for number in range(3))


# -- create --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, 5_000])  # the last is more than a piece
def test_create_sends_the_lines_as_an_array(count: int) -> None:
    lines = b"".join(
        b'{"custom_id":"%05d","params":{"text":"a, b\\n"}}\n' % number for number in range(count)
    )
    seen = []

    def script(call: Call) -> bytes:
        seen.append(call)
        return answer(200, batch(1, rows=count))

    async def work(connection: AnthropicConnection) -> None:
        assert await connection.upload("x", io.BytesIO(lines)) is None
        status = await connection.create(submission(lines, count))
        assert (status.id, status.end, status.total, status.tag) == ("msgbatch_1", None, count, None)

    run(script, work)
    (call,) = seen
    assert (call.method, call.path) == ("POST", BATCHES)
    assert call.json == {"requests": [json.loads(line) for line in lines.splitlines()]}


def refused(status: int, kind: str, message: str = "no", **headers: str) -> Callable[[Call], bytes]:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    return lambda call: answer(status, body, headers=headers)


@pytest.mark.parametrize(
    ("script", "error", "code"),
    [
        (refused(400, "invalid_request_error"), RequestRefused, "invalid_request_error"),
        (refused(401, "authentication_error"), AuthError, "authentication_error"),
        (refused(402, "billing_error"), AuthError, "billing_error"),
        (refused(403, "permission_error"), AuthError, "permission_error"),
        (refused(404, "not_found_error"), NotFoundError, "not_found_error"),
        (refused(413, "request_too_large"), RequestRefused, "request_too_large"),
        (lambda call: answer(413, b"<html>too large</html>"), RequestRefused, "request_too_large"),
        (refused(429, "rate_limit_error", **{"retry-after": "17"}), QuotaError, "rate_limit_error"),
        (refused(429, "rate_limit_error"), QuotaError, "perhaps_spend_limit"),
        (refused(500, "api_error"), OutcomeUnknown, "api_error"),
        (refused(529, "overloaded_error"), OutcomeUnknown, "overloaded_error"),
        (lambda call: answer(200, b"<html>welcome</html>"), OutcomeUnknown, "outcome_unknown"),
        (lambda call: answer(200, {"type": "message"}), OutcomeUnknown, "outcome_unknown"),
        (lambda call: answer(200, batch(1), length=10_000), OutcomeUnknown, "outcome_unknown"),
    ],
    ids=range(14),
)
def test_a_create_that_fails_is_made_once(script: Any, error: type[Exception], code: str) -> None:
    caught: Any = None

    async def work(connection: AnthropicConnection) -> None:
        nonlocal caught
        with pytest.raises(error) as found:
            await connection.create(submission(LINES))
        caught = found.value

    server = run(script, work)
    assert len(server.calls) == 1
    assert type(caught) is error
    assert caught.code == code
    assert KEY not in str(caught)


def test_the_wait_that_a_rate_limit_names_is_kept() -> None:
    async def work(connection: AnthropicConnection) -> None:
        with pytest.raises(QuotaError) as caught:
            await connection.create(submission(LINES))
        assert (caught.value.retry_after_s, caught.value.queue_full) == (17.0, False)

    run(refused(429, "rate_limit_error", **{"retry-after": "17"}), work)


def test_too_large_says_how_large_and_what_to_do() -> None:
    async def work(connection: AnthropicConnection) -> None:
        with pytest.raises(RequestRefused) as caught:
            await connection.create(submission(LINES))
        sent = len(
            json.dumps({"requests": [json.loads(line) for line in LINES.splitlines()]}, separators=(",", ":"))
        )
        assert f"{sent:,}".replace(",", "") in caught.value.message.replace(",", "")
        assert "BULKRATE_LIMITS__FILE_BYTES" in (caught.value.hint or "")

    run(refused(413, "request_too_large"), work)


# -- keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "sent"),
    [
        ({"ANTHROPIC_API_KEY": KEY}, KEY),
        ({"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_AUTH_TOKEN": "token"}, KEY),
        ({"ANTHROPIC_API_KEY": "", "ANTHROPIC_AUTH_TOKEN": "token"}, "token"),
    ],
)
def test_our_headers_are_those_of_the_sdk(
    env: dict[str, str], sent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anthropic

    env = {**env, "ANTHROPIC_CUSTOM_HEADERS": "anthropic-workspace-id: w1\nx-y:z\nnothing"}
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    theirs = {**anthropic.Anthropic().auth_headers, **anthropic.Anthropic().default_headers}
    ours = open_http(env)._client.headers
    for name in ("Authorization", "anthropic-version", "anthropic-workspace-id", "x-y"):
        assert ours[name] == theirs[name]
    assert ours["Authorization"] == f"Bearer {sent}"


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"ANTHROPIC_API_KEY": ""},
        {"ANTHROPIC_API_KEY": "not a key"},
        {"ANTHROPIC_AUTH_TOKEN": "tökén"},
        {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "api.anthropic.com"},
        {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_CUSTOM_HEADERS": "x: ü"},
    ],
)
def test_what_cannot_be_a_key_or_an_address(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        open_http(env)
    assert KEY not in str(caught.value)


# -- finding -------------------------------------------------------------------------------------------


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
    assert find(Workspace([batch(1, age_s=3_600)]))[0] is None


def test_results_that_cannot_be_read_prove_nothing() -> None:
    with pytest.raises(Unreachable) as caught:
        find(Workspace([batch(9, "ended")]))
    assert type(caught.value) is Unreachable
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
    old = [batch(number, rows=4, age_s=3_600) for number in range(9)]
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
    }
    batches = [
        batch(2, rows=9),
        batch(3, "ended"),
        batch(4, "ended"),
        batch(5, "ended", rows=4),
        batch(6, "ended"),
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
    ]


# -- the rest ------------------------------------------------------------------------------------------


def test_reads_that_fail_are_no_answer() -> None:
    async def work(connection: AnthropicConnection) -> None:
        with pytest.raises(Unreachable):
            await connection.status("msgbatch_1")

    run(refused(529, "overloaded_error"), work)

    async def lagging(connection: AnthropicConnection) -> None:
        with pytest.raises(NotFoundError):
            await connection.status("msgbatch_1")

    run(refused(404, "not_found_error"), lagging)


def test_paths() -> None:
    async def work(connection: AnthropicConnection) -> None:
        await connection.status("../a b")
        await connection.cancel("m1")
        await connection.delete_file("m1")
        assert [chunk async for chunk in connection.download(ResultFile("output", "m1"))] != []

    server = run(lambda call: answer(200, batch(1)), work)
    assert [(call.method, call.path) for call in server.calls] == [
        ("GET", f"{BATCHES}/..%2Fa%20b"),
        ("POST", f"{BATCHES}/m1/cancel"),
        ("DELETE", f"{BATCHES}/m1"),
        ("GET", f"{BATCHES}/m1/results"),
    ]


def test_a_batch_that_is_gone_need_not_be_deleted() -> None:
    async def work(connection: AnthropicConnection) -> None:
        await connection.delete_file("m1")

    run(refused(404, "not_found_error"), work)


def test_single_answers() -> None:
    async def work(connection: AnthropicConnection) -> None:
        found = await connection.answer(b'{"model":"m"}', Lane.LIVE)
        assert (found.status_code, found.body) == (200, {"type": "message"})

    server = run(lambda call: answer(200, {"type": "message"}), work)
    assert [(call.method, call.path, call.json) for call in server.calls] == [
        ("POST", "/v1/messages", {"model": "m"})
    ]

    async def no(connection: AnthropicConnection) -> None:
        assert (await connection.answer(b"{}", Lane.LIVE)).status_code == 400

    run(refused(400, "invalid_request_error"), no)

    async def overloaded(connection: AnthropicConnection) -> None:
        with pytest.raises(Unreachable) as caught:
            await connection.answer(b"{}", Lane.LIVE)
        assert type(caught.value) is Unreachable  # turned away, not answered: it may be asked again

    run(refused(529, "overloaded_error"), overloaded)
