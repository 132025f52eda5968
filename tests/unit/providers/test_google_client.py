"""Our client of the Gemini API against answers to the byte: refusals, lists, uploads, inline results."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from scripted_http import Call, Reply, Scripted, answer, scripted

from bulkrate.core.lanes import Lane
from bulkrate.errors import (
    AuthError,
    ConfigError,
    NotFoundError,
    OutcomeUnknown,
    ProviderError,
    QuotaError,
    RequestRefused,
    Unreachable,
)
from bulkrate.providers.google.batches import display_name
from bulkrate.providers.google.client import GoogleConnection
from bulkrate.providers.google.failures import read_error
from bulkrate.providers.google.provider import provider
from bulkrate.providers.http import Http
from bulkrate.providers.provider import Answer, ResultFile, Search, Submission, Tag

KEY = "AIza-test-0123456789"
MODEL = "gemini-2.5-flash"
TAG = Tag("0123456789", 7, "d" * 32)
SINCE = datetime(2026, 11, 24, tzinfo=UTC)
SUBMISSION = Submission(TAG, "files/in", 1, lambda: io.BytesIO(b""))
CREATE = f"/v1beta/models/{MODEL}:batchGenerateContent"
NO_FILE = "You do not have permission to access the File in or it may not exist."


def batch(number: int = 1, **metadata: Any) -> dict[str, Any]:
    return {"name": f"batches/{number}", "metadata": {"state": "BATCH_STATE_PENDING", **metadata}}


OURS = batch(999, displayName=display_name(TAG))


def refused(status: int, name: str, message: str = "no", **fields: Any) -> bytes:
    return answer(status, {"error": {"code": status, "status": name, "message": message, **fields}})


@asynccontextmanager
async def connected(
    base_url: str, kind: str = "chat", *, create_timeout_s: float = 5
) -> AsyncIterator[GoogleConnection]:
    http = Http(
        base_url.removesuffix("/v1"),
        headers={"x-goog-api-key": KEY},
        secret=KEY,
        address_variable="GOOGLE_GEMINI_BASE_URL",
        read_error=read_error,
    )
    limits = replace(provider.limits(MODEL, {}), create_timeout_s=create_timeout_s)
    connection = GoogleConnection(http, version="v1beta", model=MODEL, kind=kind, limits=limits)
    try:
        yield connection
    finally:
        await connection.aclose()


def ask(
    script: Callable[[Call], Reply],
    what: Callable[[GoogleConnection], Coroutine[Any, Any, Any]],
    **options: Any,
) -> tuple[Any, Scripted]:
    async def main() -> tuple[Any, Scripted]:
        async with scripted(script) as server, connected(server.base_url, **options) as to:
            return await what(to), server

    return asyncio.run(main())


def create(reply: Reply, **options: Any) -> Any:
    return ask(lambda call: reply, lambda to: to.create(SUBMISSION), **options)[0]


# -- create --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "method"), [("chat", "batchGenerateContent"), ("embed", "asyncBatchEmbedContent")]
)
def test_create_names_the_file_and_bears_the_tag(kind: str, method: str) -> None:
    status, server = ask(lambda call: answer(200, OURS), lambda to: to.create(SUBMISSION), kind=kind)
    assert (status.id, status.tag) == ("batches/999", TAG)
    (call,) = server.calls
    assert call.path == f"/v1beta/models/{MODEL}:{method}"
    assert call.json == {"batch": {"displayName": display_name(TAG), "inputConfig": {"fileName": "files/in"}}}


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (refused(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota"), QuotaError),
        (refused(429, "RESOURCE_EXHAUSTED", "quota free_tier, limit: 0, model: x"), AuthError),
        (refused(400, "INVALID_ARGUMENT", "bad"), RequestRefused),
        (refused(400, "INVALID_ARGUMENT", "x", details=[{"reason": "API_KEY_INVALID"}]), AuthError),
        (refused(403, "PERMISSION_DENIED", "API disabled"), AuthError),
        (refused(403, "PERMISSION_DENIED", NO_FILE), NotFoundError),
        (refused(404, "NOT_FOUND", "models/x is not found for API version v1beta"), RequestRefused),
        (refused(404, "NOT_FOUND", "file not found"), NotFoundError),
        (refused(500, "INTERNAL"), OutcomeUnknown),
        (refused(503, "UNAVAILABLE"), OutcomeUnknown),
        (answer(200, b"<html>"), OutcomeUnknown),
        (answer(200, {}), OutcomeUnknown),
        (answer(200, OURS, length=10_000), OutcomeUnknown),
    ],
)
def test_refusals_of_create(reply: bytes, error: type[ProviderError]) -> None:
    with pytest.raises(error) as caught:
        create(reply)
    assert type(caught.value) is error
    assert KEY not in str(caught.value)


def test_a_create_that_is_not_answered_is_in_doubt() -> None:
    with pytest.raises(OutcomeUnknown):
        create(None, create_timeout_s=0.05)


def test_back_pressure_says_how_long() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}]
    with pytest.raises(QuotaError) as caught:
        create(refused(429, "RESOURCE_EXHAUSTED", details=details))
    assert (caught.value.retry_after_s, caught.value.queue_full) == (34.5, False)


@pytest.mark.parametrize(
    "body", [None, [], {}, {"error": []}, {"error": {"details": [None, {"violations": 7}]}}, 7]
)
def test_errors_that_are_none(body: Any) -> None:
    assert read_error(500, body).message


# -- find ----------------------------------------------------------------------------------------------------


def find(batches: list[Any], *, size: int = 100, more: bool = True) -> tuple[str | None, Scripted]:
    def script(call: Call) -> bytes:
        token = parse_qs(urlsplit(call.path).query).get("pageToken", ["0"])[0]
        first = int(token)
        page: dict[str, Any] = {"operations": batches[first : first + size]} if batches else {}
        if more and first + size < len(batches):
            page["nextPageToken"] = str(first + size)
        return answer(200, page)

    status, server = ask(script, lambda to: to.find(Search(TAG, "files/in", 3, SINCE)))
    return None if status is None else status.id, server


def test_by_name_and_by_file() -> None:
    assert find([batch(1), OURS])[0] == "batches/999"
    assert find([batch(1), batch(2, inputConfig={"fileName": "files/in"})])[0] == "batches/2"
    assert find([batch(1, displayName="bulkrate-0123456789-8-" + "d" * 32)])[0] is None
    assert find([])[0] is None, "an empty list is an empty object"


def test_absence_is_told_at_the_end_of_the_list_only() -> None:
    """Stopping at old ones took running batches for lost, and sent them again (a public report, 2026-09)."""
    old = [batch(number, createTime="2026-01-01T00:00:00Z") for number in range(250)]
    found, server = find([*old, OURS])
    assert found == "batches/999"
    assert len(server.calls) == 3


def test_one_that_quota_failed_is_not_the_one_in_doubt() -> None:
    failed = batch(1, displayName=display_name(TAG), state="BATCH_STATE_FAILED")
    failed |= {"done": True, "error": {"code": 8, "message": "quota"}}
    assert find([failed])[0] is None
    assert find([failed, OURS])[0] == "batches/999"


@pytest.mark.parametrize("entry", [None, 7, "batch", {}, {"name": None}, {"name": "", "metadata": {}}])
def test_entries_that_are_no_batches(entry: Any) -> None:
    assert find([entry, OURS])[0] == "batches/999"


@pytest.mark.parametrize("page", [{"operations": None}, {"operations": {}}, {"error": "?"}, {"batches": []}])
def test_an_answer_that_is_no_list_says_nothing(page: Any) -> None:
    with pytest.raises(Unreachable):
        ask(lambda call: answer(200, page), lambda to: to.find(Search(TAG, None, 3, SINCE)))


def test_a_list_that_repeats_itself() -> None:
    page = {"operations": [batch(1)], "nextPageToken": "again"}
    with pytest.raises(Unreachable, match="same page"):
        ask(lambda call: answer(200, page), lambda to: to.find(Search(TAG, None, 3, SINCE)))


def test_the_batches_of_a_run() -> None:
    others = [batch(1), batch(2, displayName=display_name(Tag("9" * 10, 0, "d" * 32)))]
    page = {"operations": [*others, OURS]}
    found, _ = ask(lambda call: answer(200, page), lambda to: to.find_run(TAG.run, SINCE, frozenset()))
    assert [status.id for status in found] == ["batches/999"]
    known = frozenset({"batches/999"})
    found, _ = ask(lambda call: answer(200, page), lambda to: to.find_run(TAG.run, SINCE, known))
    assert found == []


# -- files ---------------------------------------------------------------------------------------------------


def test_an_upload_stays_at_our_address() -> None:
    """The address to upload to comes from outside, and the key goes along."""
    where = {"X-Goog-Upload-URL": "https://elsewhere.example/upload/v1beta/files?upload_id=7&x=a%2Fb"}

    def script(call: Call) -> bytes:
        if "upload_id" in call.path:
            return answer(200, {"file": {"name": "files/in"}})
        return answer(200, b"", headers=where)

    content = b"line\n" * 100_000
    file_id, server = ask(script, lambda to: to.upload("a.jsonl", io.BytesIO(content)))
    begun, sent = server.calls
    assert file_id == "files/in"
    assert begun.path == "/upload/v1beta/files"
    assert sent.path == "/upload/v1beta/files?upload_id=7&x=a%2Fb"
    assert sent.body == content


@pytest.mark.parametrize("reply", [answer(200, {}), answer(200, b""), answer(200, {"file": {"name": ""}})])
def test_an_upload_that_names_no_file(reply: bytes) -> None:
    with pytest.raises(OutcomeUnknown):
        ask(lambda call: reply, lambda to: to.upload("a.jsonl", io.BytesIO(b"a\n")))


@pytest.mark.parametrize("status", [200, 403, 404])
def test_deleting_a_file_that_is_gone_is_no_error(status: int) -> None:
    reply = answer(200, {}) if status == 200 else refused(status, "X", NO_FILE)
    _, server = ask(lambda call: reply, lambda to: to.delete_file("files/in"))
    assert server.count("DELETE", "/v1beta/files/in") == 1


def test_deleting_without_the_right_to_is_one() -> None:
    with pytest.raises(AuthError):
        ask(lambda call: refused(403, "PERMISSION_DENIED", "no"), lambda to: to.delete_file("files/in"))


def downloaded(reply: bytes, file_id: str) -> tuple[bytes, Scripted]:
    async def read(to: GoogleConnection) -> bytes:
        return b"".join([chunk async for chunk in to.download(ResultFile("output", file_id))])

    return ask(lambda call: reply, read)


def test_results_come_from_the_download_endpoint() -> None:
    content, server = downloaded(answer(200, b'{"key":"k"}\n'), "files/batch-abc")
    assert content == b'{"key":"k"}\n'
    assert [call.path for call in server.calls] == ["/download/v1beta/files/batch-abc:download?alt=media"]


def test_results_that_come_inline_are_read_as_lines() -> None:
    results = [{"response": {}, "metadata": {"key": "a"}}, {"error": {"code": 13}, "metadata": {"key": "b"}}]
    told = {**batch(), "done": True, "response": {"inlinedResponses": {"inlinedResponses": results}}}
    content, _ = downloaded(answer(200, told), "batches/1")
    assert [orjson.loads(line) for line in content.splitlines()] == results


def test_results_that_are_gone() -> None:
    with pytest.raises(NotFoundError):
        downloaded(refused(403, "PERMISSION_DENIED", NO_FILE), "files/batch-abc")


# -- status, cancel, single answers --------------------------------------------------------------------------


def test_a_cancel_is_asked_how_it_went() -> None:
    def script(call: Call) -> bytes:
        return answer(200, {} if call.method == "POST" else batch(state="BATCH_STATE_CANCELLED"))

    status, server = ask(script, lambda to: to.cancel("batches/1"))
    assert status.word == "BATCH_STATE_CANCELLED"
    assert [call.path for call in server.calls] == ["/v1beta/batches/1:cancel", "/v1beta/batches/1"]


def single(reply: Reply, lane: Lane = Lane.LIVE, kind: str = "chat") -> tuple[Answer, Scripted]:
    return ask(lambda call: reply, lambda to: to.answer(b'{"contents":[]}', lane), kind=kind)


def test_single_answers() -> None:
    given, server = single(answer(200, {"candidates": []}), Lane.FLEX)
    assert given == Answer(200, {"candidates": []})
    assert server.calls[0].path == f"/v1beta/models/{MODEL}:generateContent"
    assert server.calls[0].json == {"contents": [], "serviceTier": "flex"}
    _, server = single(answer(200, {}), kind="embed")
    assert server.calls[0].path == f"/v1beta/models/{MODEL}:embedContent"
    assert server.calls[0].json == {"contents": []}


def test_a_no_to_one_request_is_its_answer_and_a_no_to_all_is_not() -> None:
    given, _ = single(refused(400, "INVALID_ARGUMENT", "The input token count exceeds the maximum"))
    assert given.status_code == 400
    with pytest.raises(RequestRefused):
        single(refused(400, "FAILED_PRECONDITION", "User location is not supported"))
    with pytest.raises(RequestRefused, match="models/x"):
        single(refused(404, "NOT_FOUND", "models/x is not found"))
    with pytest.raises(AuthError):
        single(refused(400, "INVALID_ARGUMENT", "x", details=[{"reason": "API_KEY_INVALID"}]))


# -- the environment -----------------------------------------------------------------------------------------


def connect(env: dict[str, str]) -> Any:
    def script(call: Call) -> bytes:
        return answer(200, batch())

    async def main() -> list[str]:
        async with scripted(script) as server:
            address = {"GOOGLE_GEMINI_BASE_URL": server.base_url.removesuffix("/v1") + "/"}
            connection = await provider.connect(MODEL, env={**address, **env}, state_dir=Path())
            await connection.status("batches/1")
            await connection.aclose()
            return [call.path for call in server.calls]

    return asyncio.run(main())


def test_the_environment_is_read_as_the_sdk_reads_it() -> None:
    assert connect({"GEMINI_API_KEY": KEY}) == ["/v1beta/batches/1"]
    assert connect({"GOOGLE_API_KEY": KEY}) == ["/v1beta/batches/1"]
    for version, path in (("v1", "v1"), ("beta", "v1beta"), ("v1alpha", "v1alpha")):
        env = {"GEMINI_API_KEY": KEY, "GOOGLE_GENAI_API_VERSION": version}
        assert connect(env) == [f"/{path}/batches/1"]
    # With both set, GOOGLE_API_KEY counts: one that cannot be is an error, and the other is not tried.
    with pytest.raises(ConfigError, match="GOOGLE_API_KEY"):
        connect({"GEMINI_API_KEY": KEY, "GOOGLE_API_KEY": "with a space"})
    with pytest.raises(ConfigError) as caught:
        connect({})
    assert caught.value.code == "no_key"
    with pytest.raises(ConfigError, match="not an HTTP address"):
        connect({"GEMINI_API_KEY": KEY, "GOOGLE_GEMINI_BASE_URL": "example.com"})


def test_limits_by_model_and_by_the_user() -> None:
    assert provider.limits("gemini-2.5-flash-lite", {}).queued_tokens == 10_000_000
    assert provider.limits("models/gemini-2.5-flash", {}).queued_tokens == 3_000_000
    assert provider.limits("gemini-9", {}).queued_tokens is None
    assert provider.limits(MODEL, {"BULKRATE_LIMITS__QUEUED_TOKENS": "7"}).queued_tokens == 7
    limits = provider.limits(MODEL, {})
    assert limits.overdue_s < limits.window_s, "cancelled while something may be saved"
    assert provider.context_window("models/gemini-2.5-pro") == 1_048_576
    assert len(provider.notes({})) == 2
    assert "Google's own prices" in provider.notes({"GOOGLE_GEMINI_BASE_URL": "http://x"})[-1]
