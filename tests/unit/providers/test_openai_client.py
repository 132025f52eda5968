"""Every way in which a call to OpenAI can fail, over real HTTP, and what the driver is told."""

from __future__ import annotations

import asyncio
import io
import socket
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from scripted_http import KEY, Call, Endless, Reply, answer, connected, scripted

from bulkrate.core.limits import Limits
from bulkrate.errors import (
    AuthError,
    BulkrateError,
    ConfigError,
    NotFoundError,
    OutcomeUnknown,
    QuotaError,
    RequestRefused,
    Unreachable,
)
from bulkrate.providers.http import checked_key
from bulkrate.providers.openai.client import OpenAIConnection, open_http
from bulkrate.providers.openai.provider import provider
from bulkrate.providers.provider import ResultFile, Search, Submission, Tag

TAG = Tag("0123456789", 7, "d" * 32)
SINCE = datetime(2026, 11, 1, tzinfo=UTC)
BATCH = {"id": "batch_1", "status": "validating", "input_file_id": "file-1", "metadata": TAG.metadata()}
Work = Callable[[OpenAIConnection], Awaitable[Any]]


async def fetched(connection: OpenAIConnection) -> bytes:
    return b"".join([chunk async for chunk in connection.download(ResultFile("output", "file-out"))])


CALLS: dict[str, Work] = {
    "upload": lambda to: to.upload("x.jsonl", io.BytesIO(b"{}\n")),
    "create": lambda to: to.create(Submission(TAG, "file-1", 3, io.BytesIO)),
    "find": lambda to: to.find(Search(TAG, "file-1", 3, SINCE)),
    "status": lambda to: to.status("batch_1"),
    "cancel": lambda to: to.cancel("batch_1"),
    "delete": lambda to: to.delete_file("file-1"),
    "download": fetched,
}
WITH_EFFECT = ("upload", "create")


def failure_of(work: Work, reply: Reply, *, limits: Limits | None = None) -> tuple[BulkrateError, list[Call]]:
    """The error that `work` ends in when every call is answered with `reply`, and the calls."""

    async def main() -> tuple[BulkrateError, list[Call]]:
        async with scripted(lambda _: reply) as server, connected(server.base_url, limits=limits) as to:
            with pytest.raises(BulkrateError) as caught:
                await work(to)
            return caught.value, server.calls

    return asyncio.run(main())


def error_body(code: str | None, message: str = "no") -> dict[str, Any]:
    return {"error": {"code": code, "message": message, "type": "invalid_request_error", "param": None}}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529, 408, 409])
@pytest.mark.parametrize("call", CALLS)
def test_a_server_that_fails_leaves_a_create_in_doubt(call: str, status: int) -> None:
    error, calls = failure_of(CALLS[call], answer(status, error_body(None)))
    assert type(error) is (OutcomeUnknown if call in WITH_EFFECT else Unreachable)
    assert len(calls) == 1, "the SDK must not ask again by itself"


def test_the_sdk_does_not_retry_even_when_the_server_says_so() -> None:
    reply = answer(503, error_body(None), headers={"x-should-retry": "true", "Retry-After": "0"})
    error, calls = failure_of(CALLS["create"], reply)
    assert type(error) is OutcomeUnknown
    assert len(calls) == 1


@pytest.mark.parametrize("call", CALLS)
def test_a_connection_cut_after_the_request_was_sent(call: str) -> None:
    error, calls = failure_of(CALLS[call], b"")
    assert type(error) is (OutcomeUnknown if call in WITH_EFFECT else Unreachable)
    assert len(calls) == 1


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_cut_in_its_middle(call: str) -> None:
    error, _ = failure_of(CALLS[call], answer(200, b'{"id": "batch_1"', length=500))
    assert type(error) is (OutcomeUnknown if call in WITH_EFFECT else Unreachable)


@pytest.mark.parametrize("call", CALLS)
def test_a_connection_that_is_refused_carried_nothing(call: str) -> None:
    async def main() -> BulkrateError:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            async with connected(f"http://127.0.0.1:{free.getsockname()[1]}/v1") as to:
                with pytest.raises(BulkrateError) as caught:
                    await CALLS[call](to)
                return caught.value

    assert type(asyncio.run(main())) is Unreachable


def test_a_create_that_is_never_answered_is_in_doubt() -> None:
    error, calls = failure_of(CALLS["create"], None, limits=Limits(create_timeout_s=0.5))
    assert type(error) is OutcomeUnknown
    assert len(calls) <= 1


def test_the_create_timeout_bounds_the_whole_call() -> None:
    """The quiet period counts from it: an answer that trickles for ever must not outlive it."""
    reply = Endless(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
    error, _ = failure_of(CALLS["create"], reply, limits=Limits(create_timeout_s=0.5))
    assert type(error) is OutcomeUnknown


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"", b"[]", b"null", b'{"object": "list"}', b"{}"])
@pytest.mark.parametrize("call", ["upload", "create", "status", "cancel"])
def test_a_200_that_is_not_the_answer_proves_nothing(call: str, body: bytes) -> None:
    error, _ = failure_of(CALLS[call], answer(200, body))
    assert type(error) is OutcomeUnknown


@pytest.mark.parametrize("body", [b"<html>welcome</html>", b"{}", b'{"data": null}', b'{"error": {}}'])
def test_a_200_that_is_not_a_list_is_not_an_empty_list(body: bytes) -> None:
    error, _ = failure_of(CALLS["find"], answer(200, body))
    assert isinstance(error, Unreachable)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [401, 402, 403])
def test_keys_and_plans(call: str, status: int) -> None:
    error, _ = failure_of(CALLS[call], answer(status, error_body("invalid_api_key", "Incorrect API key")))
    assert type(error) is AuthError
    assert error.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("status", "code"),
    [(429, "insufficient_quota"), (429, "billing_not_active"), (400, "billing_hard_limit_reached")],
)
def test_an_account_without_money_is_not_back_pressure(status: int, code: str) -> None:
    error, _ = failure_of(CALLS["create"], answer(status, error_body(code)))
    assert type(error) is AuthError


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("17", 17.0),
        ("0.5", 0.5),
        (None, None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("1e300", 86_400.0),
    ],
)
def test_rate_limits_say_how_long_to_wait(header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"Retry-After": header}
    error, calls = failure_of(
        CALLS["create"], answer(429, error_body("rate_limit_exceeded"), headers=headers)
    )
    assert type(error) is QuotaError
    assert error.retry_after_s == seconds
    assert len(calls) == 1


SAID = "token_limit_exceeded: Enqueued token limit reached. Limit: 90,000 enqueued tokens."


@pytest.mark.parametrize("body", [{"error": SAID}, error_body("token_limit_exceeded", SAID), SAID.encode()])
def test_a_full_token_queue_refused_at_create(body: Any) -> None:
    error, _ = failure_of(CALLS["create"], answer(400, body))
    assert type(error) is QuotaError
    assert error.hint == "queue limit 90000 tokens"


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_definite_no(status: int) -> None:
    error, _ = failure_of(CALLS["create"], answer(status, error_body("invalid_request", "Cannot find file")))
    assert type(error) is RequestRefused
    assert "Cannot find file" in str(error)


@pytest.mark.parametrize("call", ["create", "status", "cancel", "download", "find"])
def test_what_is_not_there(call: str) -> None:
    error, _ = failure_of(CALLS[call], answer(404, error_body(None)))
    assert type(error) is NotFoundError


def test_deleting_an_absent_file_is_fine() -> None:
    async def main() -> None:
        async with scripted(lambda _: answer(404, error_body(None))) as server:
            async with connected(server.base_url) as to:
                await to.delete_file("file-1")
            assert server.count("DELETE", "/v1/files/file-1") == 1

    asyncio.run(main())


def test_what_create_sends_and_understands() -> None:
    async def main() -> None:
        async with scripted(lambda _: answer(200, BATCH)) as server, connected(server.base_url) as to:
            status = await to.create(Submission(TAG, "file-1", 3, io.BytesIO))
            assert (status.id, status.word, status.end, status.tag) == ("batch_1", "validating", None, TAG)
            (call,) = server.calls
            assert (call.method, call.path) == ("POST", "/v1/batches")
            assert call.json == {
                "input_file_id": "file-1",
                "endpoint": "/v1/chat/completions",
                "completion_window": "24h",
                "metadata": {
                    "bulkrate_run": "0123456789",
                    "bulkrate_shard": "7",
                    "bulkrate_digest": "d" * 32,
                },
            }

    asyncio.run(main())


def test_a_create_that_is_redirected_elsewhere_is_in_doubt_unless_it_was_not_carried_on() -> None:
    """A "see other" is answered when the work is done: that nobody listens there does not undo it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        location = f"http://127.0.0.1:{free.getsockname()[1]}/v1/batches"
        error, _ = failure_of(CALLS["create"], answer(303, b"", headers={"Location": location}))
        assert type(error) is OutcomeUnknown
        error, _ = failure_of(CALLS["create"], answer(307, b"", headers={"Location": location}))
        assert type(error) is Unreachable


class BrokenDisk(io.BytesIO):
    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(5, "Input/output error")


def test_a_disk_that_fails_during_an_upload_is_not_the_network() -> None:
    async def main() -> None:
        async with (
            scripted(lambda _: answer(200, {"id": "file-1"})) as server,
            connected(server.base_url) as to,
        ):
            with pytest.raises(OSError, match="Input/output"):
                await to.upload("x.jsonl", BrokenDisk(b"{}"))

    asyncio.run(main())


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_the_key_is_never_repeated(call: str, status: int) -> None:
    """Some servers quote the key that they refuse."""
    error, _ = failure_of(CALLS[call], answer(status, error_body(None, f"bad key {KEY}, Bearer {KEY}")))
    shown = [str(error), repr(error), str(error.hint), *traceback.format_exception(error)]
    assert not any(KEY in text for text in shown)


def test_a_long_error_page_is_cut() -> None:
    error, _ = failure_of(CALLS["status"], answer(502, b"<html>" + b"very long\n" * 10_000))
    assert len(str(error)) <= 500
    assert "\n" not in str(error)


@pytest.mark.parametrize("key", ["", "  ", "sk-a b", "sk-\nabc", "sk-\u043a\u043b\u044e\u0447", "sk-\x00"])
def test_a_key_that_cannot_be_sent_is_refused_without_quoting_it(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_http(api_key=key, base_url=None)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize("url", ["localhost:8000/v1", "ftp://host/v1", "/v1"])
def test_a_base_url_that_is_none_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigError):
        open_http(api_key=KEY, base_url=url)


def test_a_key_from_a_file_may_end_in_a_newline() -> None:
    assert checked_key(KEY + "\n", "OPENAI_API_KEY") == KEY


def test_no_key_no_connection(tmp_path: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        asyncio.run(provider.connect("gpt-5-mini", env={}, state_dir=tmp_path))
    assert caught.value.code == "no_key"
