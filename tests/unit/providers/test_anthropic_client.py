"""The calls to Anthropic against a server that answers to the byte: what is sent, and what answers mean."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from anthropic_server import BATCHES, KEY, TAG, batch, run
from scripted_http import Call, answer

from bulkrate.core.lanes import Lane
from bulkrate.errors import (
    AuthError,
    ConfigError,
    NotFoundError,
    OutcomeUnknown,
    QuotaError,
    RequestRefused,
    Unreachable,
)
from bulkrate.providers.anthropic.client import AnthropicConnection, open_http
from bulkrate.providers.provider import ResultFile, Submission


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
