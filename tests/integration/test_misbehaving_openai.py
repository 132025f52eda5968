"""The misbehaving provider through the official OpenAI client: every fault, to the exact line and count."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx2
import openai
import pytest
from openai.types import Batch

from bulkrate.testing import Limits, MisbehavingProvider
from bulkrate.testing.pytest_plugin import ProviderFactory

pytest_plugins = ["bulkrate.testing.pytest_plugin"]

ROWS = 1_000
CHAT = "/v1/chat/completions"


def client_of(provider: MisbehavingProvider) -> openai.OpenAI:
    return openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)


def request_lines(numbers: range, **body: Any) -> bytes:
    return b"".join(
        json.dumps(
            {
                "custom_id": f"row{number}",
                "method": "POST",
                "url": CHAT,
                "body": {
                    "model": "gpt-5-mini",
                    "messages": [{"role": "user", "content": f"Ticket {number:05d}: it broke again."}],
                    **body,
                },
            }
        ).encode()
        + b"\n"
        for number in numbers
    )


def submit(client: openai.OpenAI, lines: bytes, **metadata: str) -> Batch:
    file = client.files.create(file=("rows.jsonl", lines), purpose="batch")
    return client.batches.create(
        input_file_id=file.id, endpoint=CHAT, completion_window="24h", metadata=metadata or None
    )


def poll_to_end(client: openai.OpenAI, batch: Batch) -> Batch:
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        batch = client.batches.retrieve(batch.id)
    return batch


def rows_of(client: openai.OpenAI, file_id: str | None) -> dict[str, dict[str, Any]]:
    """The lines of a result file by custom id; an absent file has none. Fails on a repeated id."""
    if not file_id:
        return {}
    rows = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    assert len({row["custom_id"] for row in rows}) == len(rows)
    return {row["custom_id"]: row for row in rows}


def counts(batch: Batch) -> tuple[int, int, int]:
    assert batch.request_counts is not None
    return batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed


def ids(numbers: range) -> set[str]:
    return {f"row{number}" for number in numbers}


def test_a_provider_without_faults_answers_every_row(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider(polls=4)
    client = client_of(provider)
    batch = submit(client, request_lines(range(ROWS)), run="r1")
    assert (batch.status, counts(batch), batch.output_file_id) == ("validating", (0, 0, 0), None)
    seen = []
    while batch.status != "completed":
        batch = client.batches.retrieve(batch.id)
        seen.append(batch.status)
    assert seen == ["in_progress", "in_progress", "finalizing", "completed"]
    assert counts(batch) == (ROWS, ROWS, 0)
    assert batch.error_file_id == ""
    assert batch.metadata == {"run": "r1"}
    assert batch.model == "gpt-5-mini"
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at
    rows = rows_of(client, batch.output_file_id)
    assert rows.keys() == ids(range(ROWS))
    assert list(rows) != sorted(rows, key=lambda name: int(name[3:]))
    assert all(row["error"] is None and row["response"]["status_code"] == 200 for row in rows.values())
    usage = [row["response"]["body"]["usage"] for row in rows.values()]
    assert batch.usage is not None
    assert batch.usage.input_tokens == sum(item["prompt_tokens"] for item in usage)
    assert batch.usage.output_tokens == sum(item["completion_tokens"] for item in usage)
    meter = provider.meter
    assert (meter.uploads, meter.uploaded_lines, meter.batches_created) == (1, ROWS, 1)
    assert (meter.rows_accepted, meter.rows_billed, meter.rows_accepted_again) == (ROWS, ROWS, 0)
    assert meter.billed_input_tokens == meter.accepted_input_tokens == batch.usage.input_tokens
    assert set(meter.accepted_by_custom_id.values()) == {1}


def test_missing_rows_are_in_neither_file_and_counted_as_completed(
    misbehaving_provider: ProviderFactory,
) -> None:
    provider = misbehaving_provider("missing=2", seed=11)
    client = client_of(provider)
    batch = poll_to_end(client, submit(client, request_lines(range(ROWS))))
    assert (batch.status, counts(batch), batch.error_file_id) == ("completed", (ROWS, ROWS, 0), "")
    rows = rows_of(client, batch.output_file_id)
    missing = ids(range(ROWS)) - rows.keys()
    assert len(missing) == 2
    again = [int(name[3:]) for name in sorted(missing)]
    resent = submit(client, b"".join(request_lines(range(number, number + 1)) for number in again))
    assert rows_of(client, poll_to_end(client, resent).output_file_id).keys() == missing
    meter = provider.meter
    assert (meter.rows_accepted, meter.rows_billed, meter.rows_accepted_again) == (ROWS + 2, ROWS + 2, 2)
    assert {name for name, times in meter.accepted_by_custom_id.items() if times == 2} == missing
    assert batch.usage is not None
    explained = sum(row["response"]["body"]["usage"]["completion_tokens"] for row in rows.values())
    assert batch.usage.output_tokens > explained, "what was run and lost is in the batch's usage"


def test_refused_rows_have_their_reason_inside_the_response(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("bad_rows=2")
    client = client_of(provider)
    batch = poll_to_end(client, submit(client, request_lines(range(ROWS))))
    assert (batch.status, counts(batch)) == ("completed", (ROWS, ROWS - 2, 2))
    refused = rows_of(client, batch.error_file_id)
    assert len(refused) == 2
    for row in refused.values():
        assert row["error"] is None
        assert row["response"]["status_code"] == 400
        assert row["response"]["body"]["error"]["type"] == "invalid_request_error"
    assert rows_of(client, batch.output_file_id).keys() == ids(range(ROWS)) - refused.keys()
    assert (provider.meter.rows_accepted, provider.meter.rows_billed) == (ROWS, ROWS - 2)


def test_a_completed_batch_may_have_an_error_file_only(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("bad_rows=10")
    client = client_of(provider)
    batch = poll_to_end(client, submit(client, request_lines(range(10))))
    assert (batch.status, counts(batch), batch.output_file_id) == ("completed", (10, 0, 10), None)
    assert rows_of(client, batch.error_file_id).keys() == ids(range(10))


def test_an_expired_batch_keeps_what_was_answered(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("expire_after=600")
    client = client_of(provider)
    batch = poll_to_end(client, submit(client, request_lines(range(ROWS))))
    assert (batch.status, counts(batch)) == ("expired", (ROWS, 600, 0))
    answered, expired = rows_of(client, batch.output_file_id), rows_of(client, batch.error_file_id)
    assert (len(answered), len(expired)) == (600, 400)
    assert answered.keys() | expired.keys() == ids(range(ROWS))
    assert {(row["response"], row["error"]["code"]) for row in expired.values()} == {(None, "batch_expired")}
    assert (provider.meter.rows_accepted, provider.meter.rows_billed) == (ROWS, 600)
    later = poll_to_end(client, submit(client, request_lines(range(10))))
    assert later.status == "completed"


def test_the_token_queue_refuses_on_poll_and_accepts_nothing(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("token_queue=6000")
    client = client_of(provider)
    batch = submit(client, request_lines(range(ROWS)))
    assert batch.status == "validating"
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "failed"
    assert batch.failed_at is not None
    assert batch.errors is not None and batch.errors.data is not None
    error = batch.errors.data[0]
    assert (error.code, error.line, error.param) == ("token_limit_exceeded", None, None)
    assert "Limit: 6,000 enqueued tokens" in str(error.message)
    assert (provider.meter.rows_accepted, provider.meter.batches_refused) == (0, 1)
    # The uploaded file is still there, but only half of the rows fit at a time.
    assert client.files.retrieve(batch.input_file_id).bytes > 0
    first = submit(client, request_lines(range(500)))
    assert client.batches.retrieve(submit(client, request_lines(range(500, ROWS))).id).status == "failed"
    assert poll_to_end(client, first).status == "completed"
    assert poll_to_end(client, submit(client, request_lines(range(500, ROWS)))).status == "completed"
    assert (provider.meter.rows_accepted, provider.meter.rows_billed) == (ROWS, ROWS)


def test_a_burst_of_503_on_status_says_nothing_about_the_batch(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("status_503=4,from_poll=2")
    client = client_of(provider)
    batch = submit(client, request_lines(range(ROWS)))
    assert client.batches.retrieve(batch.id).status == "in_progress"
    for _ in range(4):
        with pytest.raises(openai.InternalServerError) as caught:
            client.batches.retrieve(batch.id)
        assert caught.value.status_code == 503
        assert caught.value.request_id
    assert client.batches.retrieve(batch.id).status == "completed"
    assert (provider.meter.status_calls, provider.meter.rows_accepted) == (6, ROWS)


def test_a_stuck_batch_can_be_cancelled_and_harvested(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("stuck=1,done=300")
    client = client_of(provider)
    batch = submit(client, request_lines(range(ROWS)))
    for _ in range(10):
        batch = client.batches.retrieve(batch.id)
    assert (batch.status, counts(batch)) == ("in_progress", (ROWS, 300, 0))
    assert client.batches.cancel(batch.id).status == "cancelling"
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, counts(batch)) == ("cancelled", (ROWS, 300, 0))
    assert len(rows_of(client, batch.output_file_id)) == 300
    cancelled = rows_of(client, batch.error_file_id)
    assert {row["error"]["code"] for row in cancelled.values()} == {"batch_cancelled"}
    assert len(cancelled) == 700
    assert (provider.meter.rows_accepted, provider.meter.rows_billed) == (ROWS, 300)
    with pytest.raises(openai.ConflictError, match="Cannot cancel a batch with status 'cancelled'"):
        client.batches.cancel(batch.id)


def test_a_stuck_batch_goes_on_when_it_is_advanced(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("stuck=1")
    client = client_of(provider)
    batch = submit(client, request_lines(range(ROWS)))
    for _ in range(5):
        assert client.batches.retrieve(batch.id).status == "in_progress"
    provider.advance(batch.id)
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "completed"
    assert len(rows_of(client, batch.output_file_id)) == ROWS


def test_cut_and_broken_answers(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("truncate=2,below=64 bad_json=3")
    client = client_of(provider)
    schema = {"type": "object", "properties": {"label": {"enum": ["a", "b"]}}, "required": ["label"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    lines = request_lines(range(ROWS), response_format=wanted, max_completion_tokens=32)
    batch = poll_to_end(client, submit(client, lines))
    assert counts(batch) == (ROWS, ROWS, 0)
    cut = broken = 0
    for row in rows_of(client, batch.output_file_id).values():
        body = row["response"]["body"]
        choice = body["choices"][0]
        if choice["finish_reason"] == "length":
            cut += 1
            assert body["usage"]["completion_tokens"] == 32
        elif choice["message"]["content"] not in ('{"label":"a"}', '{"label":"b"}'):
            broken += 1
    assert (cut, broken) == (2, 3)


def test_batches_and_files_are_listed_newest_first_by_cursor(misbehaving_provider: ProviderFactory) -> None:
    client = client_of(misbehaving_provider())
    made = [submit(client, request_lines(range(1)), number=str(number)).id for number in range(25)]
    page = client.batches.list(limit=10)
    assert [item.id for item in page.data] == made[:14:-1]
    assert page.has_more
    assert [item.id for item in client.batches.list(limit=10)] == made[::-1]
    assert len(client.batches.list().data) == 20
    assert [item.metadata for item in client.batches.list(limit=1).data] == [{"number": "24"}]
    raw = client.batches.with_raw_response.list(limit=1, after=made[1])
    body = json.loads(raw.text)
    assert (body["first_id"], body["last_id"], body["has_more"]) == (made[0], made[0], False)
    assert raw.headers["x-request-id"].startswith("req_")
    assert len(client.files.list(purpose="batch").data) == 25
    assert client.files.list(purpose="batch_output").data == []
    with pytest.raises(openai.BadRequestError):
        client.batches.list(limit=101)


def test_what_is_not_there_is_refused(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider()
    client = client_of(provider)
    file = client.files.create(file=("rows.jsonl", request_lines(range(1))), purpose="batch")
    assert client.files.delete(file.id).deleted
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(file.id)
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")
    with pytest.raises(openai.BadRequestError, match="Cannot find file"):
        client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    stranger = openai.OpenAI(base_url=provider.base_url, api_key="sk-other", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    assert next(model.id for model in client.models.list()) == "gpt-4o-mini"
    assert provider.meter.batches_created == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"metadata": {f"k{number}": "v" for number in range(17)}}, "at most 16"),
        ({"metadata": {"k" * 65: "v"}}, "at most 64"),
        ({"metadata": {"k": "v" * 513}}, "at most 512"),
        ({"metadata": {"k": 1}}, "expected a string"),
        ({"completion_window": "1h"}, "'24h'"),
        ({"endpoint": "/v1/nothing"}, "Invalid value"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 60}}, "Invalid expiry"),
    ],
)
def test_create_checks_its_parameters(
    misbehaving_provider: ProviderFactory, change: dict[str, Any], reason: str
) -> None:
    client = client_of(misbehaving_provider())
    file = client.files.create(file=("rows.jsonl", request_lines(range(1))), purpose="batch")
    body = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"} | change
    with pytest.raises(openai.BadRequestError, match=reason):
        client.batches.create(**body)


def test_uploads_are_checked(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider(limits=Limits(max_requests=5, max_file_bytes=2_000))
    client = client_of(provider)
    with pytest.raises(openai.BadRequestError, match=r"Must be \.jsonl"):
        client.files.create(file=("rows.txt", request_lines(range(1))), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="too large"):
        client.files.create(file=("rows.jsonl", request_lines(range(40))), purpose="batch")
    assert provider.meter.uploads == 0
    kept = client.files.create(
        file=("rows.jsonl", request_lines(range(6))),
        purpose="batch",
        expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    assert kept.expires_at == kept.created_at + 3_600
    batch = client.batches.create(input_file_id=kept.id, endpoint=CHAT, completion_window="24h")
    batch = client.batches.retrieve(batch.id)
    assert batch.errors is not None and batch.errors.data is not None
    assert [error.code for error in batch.errors.data] == ["too_many_tasks"]


def test_an_answer_may_be_given_by_a_function(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider(answer=lambda body: body["messages"][0]["content"].upper())
    client = client_of(provider)
    batch = poll_to_end(client, submit(client, request_lines(range(1))))
    body = rows_of(client, batch.output_file_id)["row0"]["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "TICKET 00000: IT BROKE AGAIN."


def test_a_provider_comes_back_after_an_outage_with_everything(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider()
    client = client_of(provider)
    batch = submit(client, request_lines(range(5)))
    provider.stop()
    with pytest.raises(openai.APIConnectionError):
        client.batches.retrieve(batch.id)
    provider.start()
    batch = poll_to_end(client, batch)
    assert len(rows_of(client, batch.output_file_id)) == 5


def test_the_application_needs_no_sockets() -> None:
    provider = MisbehavingProvider("missing=1")

    async def main() -> Batch:
        transport = httpx2.ASGITransport(app=provider.app)
        async with openai.AsyncOpenAI(
            base_url="http://provider/v1",
            api_key=provider.api_key,
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=transport),
        ) as client:
            file = await client.files.create(file=("rows.jsonl", request_lines(range(5))), purpose="batch")
            batch = await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
            provider.advance()
            return await client.batches.retrieve(batch.id)

    assert asyncio.run(main()).status == "completed"
    assert provider.meter.rows_accepted == 5


def test_objects_have_the_members_of_recorded_ones(misbehaving_provider: ProviderFactory) -> None:
    # The members seen in traffic recorded from the service in 2025.
    recorded = {
        "batch": "id object endpoint errors input_file_id completion_window status output_file_id "
        "error_file_id created_at in_progress_at expires_at finalizing_at completed_at failed_at "
        "expired_at cancelling_at cancelled_at request_counts metadata",
        "file": "object id purpose filename bytes created_at expires_at status status_details",
        "line": "id custom_id response error",
        "body": "id object created model choices usage service_tier system_fingerprint",
        "choice": "index message logprobs finish_reason",
    }
    client = client_of(misbehaving_provider())
    batch = poll_to_end(client, submit(client, request_lines(range(1))))
    (line,) = rows_of(client, batch.output_file_id).values()
    body = line["response"]["body"]
    ours = {
        "batch": json.loads(client.batches.with_raw_response.retrieve(batch.id).text),
        "file": json.loads(client.files.with_raw_response.retrieve(batch.input_file_id).text),
        "line": line,
        "body": body,
        "choice": body["choices"][0],
    }
    assert [name for name in ours if not ours[name].keys() >= set(recorded[name].split())] == []
