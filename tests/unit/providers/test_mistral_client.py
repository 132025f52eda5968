"""Our client of Mistral's API against answers to the byte: refusals, lists, filters, files."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

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
from bulkrate.providers.mistral.client import MistralConnection
from bulkrate.providers.mistral.provider import provider
from bulkrate.providers.provider import Answer, ResultFile, Search, Submission, Tag

KEY = "mistral-test-0123456789"
MODEL = "mistral-small-2603"
TAG = Tag("0123456789", 7, "d" * 32)
SINCE = datetime(2026, 11, 24, 1, 2, 3, 456, tzinfo=UTC)
SEARCH = Search(TAG, "f-in", 3, SINCE)
SUBMISSION = Submission(TAG, "f-in", 3, lambda: io.BytesIO(b""))


def job(number: int = 1, tag: Tag | None = None, **fields: Any) -> dict[str, Any]:
    metadata = None if tag is None else tag.metadata()
    return {"id": f"j-{number}", "status": "QUEUED", "metadata": metadata, **fields}


OURS = job(999, TAG)


def refused(status: int, message: Any = "no", **fields: Any) -> bytes:
    return answer(status, {"object": "error", "message": message, **fields})


@asynccontextmanager
async def connected(base_url: str, kind: str, create_timeout_s: float) -> AsyncIterator[MistralConnection]:
    env = {
        "MISTRAL_API_KEY": KEY,
        "MISTRAL_BASE_URL": base_url,
        "BULKRATE_LIMITS__CREATE_TIMEOUT_S": str(create_timeout_s),
    }
    connection = await provider.connect(MODEL, kind=kind, env=env, state_dir=Path())
    try:
        yield connection
    finally:
        await connection.aclose()


def ask(
    script: Callable[[Call], Reply],
    what: Callable[[MistralConnection], Coroutine[Any, Any, Any]],
    *,
    kind: str = "chat",
    create_timeout_s: float = 5,
) -> tuple[Any, Scripted]:
    async def main() -> tuple[Any, Scripted]:
        async with scripted(script) as server, connected(server.base_url, kind, create_timeout_s) as to:
            return await what(to), server

    return asyncio.run(main())


# -- create --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "endpoint"), [("chat", "/v1/chat/completions"), ("embed", "/v1/embeddings")]
)
def test_create_names_file_model_and_tag(kind: str, endpoint: str) -> None:
    status, server = ask(lambda call: answer(200, OURS), lambda to: to.create(SUBMISSION), kind=kind)
    assert (status.id, status.tag) == ("j-999", TAG)
    (call,) = server.calls
    assert (call.method, call.path) == ("POST", "/v1/batch/jobs")
    assert call.json == {
        "input_files": ["f-in"],
        "endpoint": endpoint,
        "model": MODEL,
        "metadata": TAG.metadata(),
        "timeout_hours": 24,
    }


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer(401, {"detail": "Unauthorized"}), AuthError),
        (refused(402, "You need a paid plan"), AuthError),
        (refused(403), AuthError),
        (refused(404, "file f-in not found"), NotFoundError),
        (refused(400, "Invalid model"), RequestRefused),
        (answer(422, {"detail": [{"loc": ["body", "model"], "msg": "Field required"}]}), RequestRefused),
        (refused(429, "Rate limit exceeded"), QuotaError),
        (refused(500), OutcomeUnknown),
        (refused(503), OutcomeUnknown),
        (answer(200, b"<html>"), OutcomeUnknown),
        (answer(200, {}), OutcomeUnknown),
        (answer(200, {"id": ""}), OutcomeUnknown),
        (answer(200, OURS, length=10_000), OutcomeUnknown),
    ],
)
def test_refusals_of_create(reply: bytes, error: type[ProviderError]) -> None:
    with pytest.raises(error) as caught:
        ask(lambda call: reply, lambda to: to.create(SUBMISSION))
    assert type(caught.value) is error
    assert KEY not in str(caught.value)


def test_no_billing_says_what_is_missing() -> None:
    with pytest.raises(AuthError, match="paid plan") as caught:
        ask(lambda call: refused(402, "You need a paid plan"), lambda to: to.create(SUBMISSION))
    assert "plan" in (caught.value.hint or "")


def test_a_create_that_is_not_answered_is_in_doubt() -> None:
    with pytest.raises(OutcomeUnknown):
        ask(lambda call: None, lambda to: to.create(SUBMISSION), create_timeout_s=0.05)


# -- find ----------------------------------------------------------------------------------------------------

Query = dict[str, str]


class Jobs:
    """A workspace's jobs, newest first; `filters` says what the metadata filter does."""

    def __init__(self, jobs: list[dict[str, Any]], *, filters: str = "right", size: int = 100) -> None:
        self.jobs, self.filters, self.size = jobs, filters, size
        self.asked: list[Query] = []

    def __call__(self, call: Call) -> bytes:
        query = dict(parse_qsl(urlsplit(call.path).query))
        self.asked.append(query)
        wanted = {name: value for name, value in query.items() if name.startswith("bulkrate_")}
        shown = self.jobs
        if wanted and self.filters == "refused":
            return answer(422, {"detail": "unknown parameter"})
        if wanted and self.filters == "blind":
            shown = []
        if wanted and self.filters == "right":
            shown = [item for item in shown if wanted.items() <= (item["metadata"] or {}).items()]
        first = int(query["page"]) * self.size
        return answer(200, {"data": shown[first : first + self.size], "total": len(shown)})


def find(jobs: Jobs) -> str | None:
    status, _ = ask(jobs, lambda to: to.find(SEARCH))
    return None if status is None else status.id


def test_the_filter_finds_at_once() -> None:
    jobs = Jobs([*(job(number) for number in range(300)), OURS])
    assert find(jobs) == "j-999"
    (query,) = jobs.asked
    assert TAG.metadata().items() <= query.items(), "a map as the SDK writes it: by its pairs"


@pytest.mark.parametrize("filters", ["blind", "refused", "ignored"])
def test_a_filter_that_knows_nothing_proves_nothing(filters: str) -> None:
    """If an empty filtered list meant absence, a filter misunderstood would pay for rows in doubt twice."""
    jobs = Jobs([*(job(number) for number in range(250)), OURS], filters=filters)
    assert find(jobs) == "j-999"


def test_absence_is_told_by_the_whole_list_since_then() -> None:
    jobs = Jobs([job(number) for number in range(250)])
    assert find(jobs) is None
    assert [query["page"] for query in jobs.asked] == ["0", "0", "1", "2"]
    assert jobs.asked[1]["created_after"] == "2026-11-24T01:02:03+00:00"
    assert find(Jobs([])) is None


def test_pages_smaller_than_asked_for() -> None:
    jobs = Jobs([*(job(number) for number in range(25)), OURS], filters="blind", size=10)
    assert find(jobs) == "j-999"


def test_by_its_file() -> None:
    assert find(Jobs([job(1), job(2, input_files=["f-in"])])) == "j-2"
    assert find(Jobs([job(1), job(2, input_files=["f-in", "f-other"])])) is None
    assert find(Jobs([job(1, Tag("0123456789", 8, "d" * 32))])) is None


def test_a_list_that_changes_while_it_is_read_proves_nothing() -> None:
    """Pages are numbered: what is deleted on the first moves one from the second past the reader."""
    jobs = Jobs([*(job(number) for number in range(100)), OURS, job(1000), job(1001)], filters="blind")

    def script(call: Call) -> bytes:
        reply = jobs(call)
        if "created_after" in call.path and jobs.asked[-1]["page"] == "0":
            del jobs.jobs[0]
        return reply

    with pytest.raises(Unreachable, match="changed"):
        ask(script, lambda to: to.find(SEARCH))


def test_a_list_that_tells_of_more_than_it_shows() -> None:
    def script(call: Call) -> bytes:
        return answer(200, {"data": [job(1)], "total": 2})

    with pytest.raises(Unreachable, match="changed"):
        ask(script, lambda to: to.find(SEARCH))


@pytest.mark.parametrize("page", [{}, {"data": [], "total": None}, {"data": {}, "total": 0}, {"error": "?"}])
def test_an_answer_that_is_no_list_says_nothing(page: Any) -> None:
    with pytest.raises(Unreachable):
        ask(lambda call: answer(200, page), lambda to: to.find(SEARCH))


def found_of_run(jobs: Jobs, known: frozenset[str] = frozenset()) -> list[str]:
    found, _ = ask(jobs, lambda to: to.find_run(TAG.run, SINCE, known))
    return [status.id for status in found]


@pytest.mark.parametrize("filters", ["right", "blind", "refused", "ignored"])
def test_the_jobs_of_a_run(filters: str) -> None:
    other = Tag("9" * 10, 0, "d" * 32)
    jobs = Jobs([job(1), job(2, other), OURS, job(3, Tag(TAG.run, 8, "e" * 32))], filters=filters)
    assert found_of_run(jobs) == ["j-999", "j-3"]
    assert found_of_run(jobs, frozenset({"j-999"})) == ["j-3"]
    assert len(jobs.asked) == (2 if filters == "right" else 4)


# -- files, cancel, single answers ---------------------------------------------------------------------------


def test_an_upload() -> None:
    reply = answer(200, {"id": "f-1", "bytes": 5})
    file_id, server = ask(lambda call: reply, lambda to: to.upload("a.jsonl", io.BytesIO(b"line\n")))
    assert file_id == "f-1"
    assert b'name="purpose"\r\n\r\nbatch' in server.calls[0].body
    assert b'filename="a.jsonl"' in server.calls[0].body


@pytest.mark.parametrize("reply", [answer(200, {}), answer(200, b""), answer(200, {"id": ""})])
def test_an_upload_that_names_no_file(reply: bytes) -> None:
    with pytest.raises(OutcomeUnknown):
        ask(lambda call: reply, lambda to: to.upload("a.jsonl", io.BytesIO(b"a\n")))


@pytest.mark.parametrize("status", [200, 404])
def test_deleting_a_file_that_is_gone_is_no_error(status: int) -> None:
    reply = answer(200, {}) if status == 200 else refused(404)
    _, server = ask(lambda call: reply, lambda to: to.delete_file("f-in"))
    assert server.count("DELETE", "/v1/files/f-in") == 1


def test_a_download_that_was_cut_is_none() -> None:
    async def read(to: MistralConnection) -> bytes:
        return b"".join([chunk async for chunk in to.download(ResultFile("output", "f-out"))])

    def script(call: Call) -> bytes:
        if call.path.endswith("/content"):  # closed at its end, or where it was cut: nobody can tell
            return b"HTTP/1.1 200 X\r\nConnection: close\r\n\r\nline\n"
        return answer(200, {"id": "f-out", "bytes": size})

    size = 5
    assert ask(script, read)[0] == b"line\n"
    size = 6
    with pytest.raises(Unreachable, match="5 of 6 bytes"):
        ask(script, read)


def test_single_answers_name_the_model() -> None:
    body = b'{"messages":[]}'
    given, server = ask(lambda call: answer(200, {"choices": []}), lambda to: to.answer(body, Lane.LIVE))
    assert given == Answer(200, {"choices": []})
    assert server.calls[0].path == "/v1/chat/completions"
    assert server.calls[0].json == {"model": MODEL, "messages": []}
    given, _ = ask(lambda call: answer(422, {"detail": "no"}), lambda to: to.answer(body, Lane.LIVE))
    assert given == Answer(422, {"detail": "no"})
    with pytest.raises(QuotaError):
        ask(lambda call: refused(429), lambda to: to.answer(body, Lane.LIVE))


# -- the environment -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/"])
def test_addresses_with_and_without_the_version(tail: str) -> None:
    async def main() -> list[str]:
        async with scripted(lambda call: answer(200, OURS)) as server:
            env = {
                "MISTRAL_API_KEY": f" {KEY}\n",
                "MISTRAL_BASE_URL": server.base_url.removesuffix("/v1") + tail,
            }
            connection = await provider.connect(MODEL, env=env, state_dir=Path())
            await connection.status("j-999")
            await connection.aclose()
            return [call.path for call in server.calls]

    assert asyncio.run(main()) == ["/v1/batch/jobs/j-999"]


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"MISTRAL_API_KEY": ""},
        {"MISTRAL_API_KEY": "a b"},
        {"MISTRAL_API_KEY": "k", "MISTRAL_BASE_URL": "x"},
    ],
)
def test_an_environment_that_cannot_be(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="MISTRAL"):
        asyncio.run(provider.connect(MODEL, env=env, state_dir=Path()))


def test_a_service_accounts_token_is_read_for_every_call(tmp_path: Path) -> None:
    token = tmp_path / "token"

    async def main() -> list[str | None]:
        async with scripted(lambda call: answer(200, OURS)) as server:
            env = {
                "MISTRAL_API_KEY": KEY,
                "MISTRAL_SA_TOKEN_PATH": str(token),
                "MISTRAL_BASE_URL": server.base_url,
            }
            token.write_text("first\n")
            connection = await provider.connect(MODEL, env=env, state_dir=Path())
            await connection.status("j-999")
            token.write_text("second\n")
            await connection.status("j-999")
            token.unlink()
            with pytest.raises(ConfigError, match="MISTRAL_SA_TOKEN_PATH"):
                await connection.create(SUBMISSION)
            await connection.aclose()
            return [call.headers.get("authorization") for call in server.calls]

    assert asyncio.run(main()) == ["Bearer first", "Bearer second"]


def test_notes_and_facts() -> None:
    assert provider.notes({}) == ()
    assert "own prices" in provider.notes({"MISTRAL_BASE_URL": "http://x"})[0]
    assert provider.context_window("mistral-large-4-latest") == 1_048_576
    assert provider.context_window("a-model-of-next-year") is None
