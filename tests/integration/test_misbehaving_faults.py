"""The further faults through the official OpenAI client: what a caller sees, and what the provider did."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import httpx2
import openai
import pytest
from openai.types import Batch

from bulkrate.testing import MisbehavingProvider
from bulkrate.testing.pytest_plugin import ProcessFactory, ProviderFactory

CHAT = "/v1/chat/completions"
ROWS = 200


def client_of(provider: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)


LINES = b"".join(
    json.dumps(
        {
            "custom_id": f"row{number}",
            "method": "POST",
            "url": CHAT,
            "body": {"model": "gpt-5-mini", "messages": [{"role": "user", "content": f"hello {number}"}]},
        }
    ).encode()
    + b"\n"
    for number in range(ROWS)
)


def upload(client: openai.OpenAI) -> str:
    return client.files.create(file=("rows.jsonl", LINES), purpose="batch").id


def create(client: openai.OpenAI, file_id: str | None = None, **metadata: str) -> Batch:
    return client.batches.create(
        input_file_id=file_id or upload(client),
        endpoint=CHAT,
        completion_window="24h",
        metadata=metadata or None,
    )


def ended(client: openai.OpenAI, batch: Batch) -> Batch:
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        batch = client.batches.retrieve(batch.id)
    return batch


def output(client: openai.OpenAI, batch: Batch) -> list[bytes]:
    assert batch.output_file_id
    return client.files.content(batch.output_file_id).content.splitlines()


def readable(lines: list[bytes]) -> list[dict[str, Any]]:
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


@pytest.mark.parametrize(
    ("fault", "lines", "good"),
    [
        ("cut_lines=3", ROWS, ROWS - 3),
        ("bad_utf8=3", ROWS, ROWS - 3),
        ("empty_body=3", ROWS, ROWS - 3),
        ("refused_in_output=3", ROWS, ROWS - 3),
        ("refused_in_output=3,status=0", ROWS, ROWS - 3),
        ("duplicate_rows=3", ROWS + 3, ROWS + 3),
        ("unknown_ids=3", ROWS + 3, ROWS + 3),
    ],
)
def test_odd_lines_among_the_answers(
    misbehaving_provider: ProviderFactory, fault: str, lines: int, good: int
) -> None:
    client = client_of(misbehaving_provider(fault))
    batch = ended(client, create(client))
    found = output(client, batch)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert (batch.request_counts.completed, batch.request_counts.failed) == (ROWS, 0)
    assert len(found) == lines
    answers = [row["response"] for row in readable(found)]
    assert sum(row["status_code"] == 200 and bool(row["body"]) for row in answers) == good


def test_a_batch_completes_with_an_error_file_only(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("no_output=1"))
    batch = ended(client, create(client))
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert batch.request_counts is not None and batch.request_counts.failed == ROWS


def test_absent_files_have_empty_ids(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("empty_ids=1"))
    batch = create(client)
    assert (batch.output_file_id, batch.error_file_id) == ("", "")
    assert (ended(client, batch).error_file_id, create(client).output_file_id) == ("", None)


def test_statuses_that_are_not_published(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("unknown_status=3"))
    batch = create(client)
    seen = [client.batches.retrieve(batch.id).status for _ in range(5)]
    assert not set(seen[:3]) & {"validating", "in_progress", "finalizing"}
    assert seen[3:] == ["in_progress", "completed"]


def test_a_batch_is_unknown_just_after_its_create(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("status_404=2"))
    batch = create(client)
    for _ in range(2):
        with pytest.raises(openai.NotFoundError, match="No batch found"):
            client.batches.retrieve(batch.id)
    assert ended(client, batch).status == "completed"


def test_a_batch_is_not_listed_at_first(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("list_lag=2"))
    batch = create(client)
    assert [len(client.batches.list().data) for _ in range(3)] == [0, 0, 1]
    assert client.batches.retrieve(batch.id).status == "in_progress"


def test_somebody_else_cancels_and_it_takes_its_time(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("cancel_after=120 slow_cancel=3", polls=1))
    batch = create(client)
    seen = [client.batches.retrieve(batch.id).status for _ in range(5)]
    assert seen == ["cancelling"] * 4 + ["cancelled"]
    assert len(output(client, ended(client, batch))) == 120


def test_usage_is_more_than_the_rows_or_not_told(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("extra_usage=500 no_usage=1,skip=1"))
    batch = ended(client, create(client))
    rows = [row["response"]["body"]["usage"] for row in readable(output(client, batch))]
    assert batch.usage is not None
    assert batch.usage.output_tokens == 500 + sum(row["completion_tokens"] for row in rows)
    untold = ended(client, create(client))
    assert untold.usage is None
    assert all("usage" not in row["response"]["body"] for row in readable(output(client, untold)))


def test_one_create_makes_two_batches(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("duplicate_create=1")
    client = client_of(provider)
    batch = create(client, run="r1")
    listed = client.batches.list().data
    assert len(listed) == 2 and batch.id in [item.id for item in listed]
    assert [item.metadata for item in listed] == [{"run": "r1"}] * 2
    assert (provider.meter.batches_created, provider.meter.rows_accepted) == (2, 2 * ROWS)


def test_batches_of_others_look_like_ours(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("lookalikes=1")
    client = client_of(provider)
    batch = create(client, run="r1", shard="0")
    listed = client.batches.list().data
    assert [item.metadata for item in listed] == [
        {"run": "r1", "shard": "z"},
        {"run": "r1", "shard": "0"},
        {"run": "z1", "shard": "0"},
    ]
    assert [item.id == batch.id for item in listed] == [False, True, False]
    assert len({item.created_at for item in listed}) <= 2
    assert provider.meter.rows_accepted == ROWS


def test_calls_that_are_too_many(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("create_429=1,retry_after=9 status_429=1 creation_rate=2,refused=1")
    client = client_of(provider)
    file_id = upload(client)
    with pytest.raises(openai.RateLimitError) as caught:
        create(client, file_id)
    assert caught.value.response.headers["retry-after"] == "9"
    batch = create(client, file_id)
    with pytest.raises(openai.RateLimitError) as caught:
        create(client, file_id)
    assert "retry-after" not in caught.value.response.headers
    with pytest.raises(openai.RateLimitError):
        client.batches.retrieve(batch.id)
    assert client.batches.retrieve(batch.id).status == "in_progress"
    assert provider.meter.batches_created == 1


def test_a_full_queue_refuses_at_create(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("token_queue=100,at=create"))
    with pytest.raises(openai.BadRequestError, match="Enqueued token limit") as caught:
        create(client)
    assert caught.value.code == "token_limit_exceeded"
    assert client.batches.list().data == []


def test_a_file_is_not_known_just_after_its_upload(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("file_lag=1"))
    file_id = upload(client)
    with pytest.raises(openai.BadRequestError, match="Cannot find file"):
        create(client, file_id)
    assert create(client, file_id).status == "validating"


@pytest.mark.parametrize(
    ("fault", "error", "batches"),
    [
        ("create_error=1", openai.InternalServerError, 0),
        ("create_error=1,status=502,when=after", openai.InternalServerError, 1),
        ("create_cut=1", openai.APIConnectionError, 1),
        ("create_cut=1,when=before", openai.APIConnectionError, 0),
    ],
)
def test_creates_that_fail_with_and_without_effect(
    misbehaving_provider: ProviderFactory, fault: str, error: type[Exception], batches: int
) -> None:
    provider = misbehaving_provider(fault)
    client = client_of(provider)
    file_id = upload(client)
    with pytest.raises(error):
        create(client, file_id)
    assert len(client.batches.list().data) == provider.meter.batches_created == batches


def test_a_create_lands_some_calls_after_its_caller_gave_up(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("late_create=1,calls=3")
    client = client_of(provider)
    file_id = upload(client)
    with pytest.raises(openai.APIConnectionError):
        create(client, file_id)
    assert [len(client.batches.list().data) for _ in range(3)] == [0, 0, 0]
    provider.wait("create_done")
    assert len(client.batches.list().data) == 1


def test_a_late_create_finds_its_input_deleted(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("late_create=1,calls=2")
    client = client_of(provider)
    file_id = upload(client)
    with pytest.raises(openai.APIConnectionError):
        create(client, file_id)
    client.files.delete(file_id)
    client.batches.list()
    provider.wait("create_answered")
    assert (client.batches.list().data, provider.meter.rows_accepted) == ([], 0)


def test_an_upload_breaks_in_the_middle(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("upload_cut=1")
    client = client_of(provider)
    with pytest.raises(openai.APIConnectionError):
        upload(client)
    assert (client.files.list().data, provider.meter.uploads) == ([], 0)
    assert provider.snapshot()["events"]["upload_cut"] == 1
    assert upload(client)


@pytest.mark.parametrize("at", [0, 50, 100])
@pytest.mark.parametrize("more", ["", " gzip=1", " trickle=1"])
def test_a_download_breaks_off(misbehaving_provider: ProviderFactory, at: int, more: str) -> None:
    provider = misbehaving_provider(f"download_cut=1,at={at}{more}")
    client = client_of(provider)
    batch = ended(client, create(client))
    if at == 100 and not more.endswith("trickle=1"):
        # Every byte of the announced length has come: nothing is missing to the caller.
        assert len(output(client, batch)) == ROWS
    else:
        with pytest.raises((openai.APIConnectionError, httpx2.HTTPError)):
            output(client, batch)
    # Anew: the first client may not have noticed yet that its connection is closed.
    assert len(output(client_of(provider), batch)) == ROWS


@pytest.mark.parametrize("fault", ["gzip=1", "trickle=1,bytes=100", "gzip=1 trickle=1,bytes=100"])
def test_a_download_comes_in_another_way(misbehaving_provider: ProviderFactory, fault: str) -> None:
    client = client_of(misbehaving_provider(fault))
    batch = ended(client, create(client))
    assert batch.output_file_id
    odd, plain = (client.files.with_raw_response.content(batch.output_file_id) for _ in range(2))
    assert odd.content == plain.content
    assert odd.headers.get("content-encoding") == ("gzip" if "gzip" in fault else None)
    assert ("content-length" in odd.headers) == ("trickle" not in fault)
    assert int(plain.headers["content-length"]) == len(plain.content)


def test_nobody_gets_compressed_what_they_cannot_read(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider("gzip=1"))
    batch = ended(client, create(client))
    assert batch.output_file_id
    plain = client.files.with_raw_response.content(
        batch.output_file_id, extra_headers={"accept-encoding": "identity"}
    )
    assert "content-encoding" not in plain.headers


def test_the_provider_stops_while_a_late_create_waits(
    misbehaving_provider_process: ProcessFactory, capfd: pytest.CaptureFixture[str]
) -> None:
    provider = misbehaving_provider_process("late_create=1,calls=99")
    client = client_of(provider)
    with pytest.raises(openai.APIConnectionError):
        create(client)
    provider.stop()
    assert capfd.readouterr().err == ""


def test_without_a_connection_to_cut_the_application_raises() -> None:
    provider = MisbehavingProvider("create_cut=1 download_cut=1")

    async def main() -> Counter[str]:
        raised: Counter[str] = Counter()
        transport = httpx2.ASGITransport(app=provider.app)
        async with openai.AsyncOpenAI(
            base_url="http://provider/v1",
            api_key=provider.api_key,
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=transport),
        ) as client:
            file = await client.files.create(file=("rows.jsonl", LINES), purpose="batch")
            try:
                await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            except (ConnectionResetError, openai.APIConnectionError):
                raised["create"] += 1
            provider.advance()
            (batch,) = (await client.batches.list()).data
            try:
                await client.files.content(str(batch.output_file_id))
            except (ConnectionResetError, openai.APIConnectionError):
                raised["download"] += 1
        return raised

    assert asyncio.run(main()) == {"create": 1, "download": 1}
