"""Mistral's counterpart driven by Mistral's own SDK, and whole runs of ours against it."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from dialect_desk import Desk, shouted, upper
from mistralai.client import Mistral
from mistralai.client.errors import SDKError
from mistralai.client.models import BatchJob, ChatCompletionResponse, EmbeddingResponse
from mistralai.extra.batch.client import BatchOutput, is_terminal

from bulkrate.errors import AuthError
from bulkrate.jobs.load import openai_batch_job
from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.dialects.mistral import LIMITS
from bulkrate.testing.pytest_plugin import ProviderFactory
from bulkrate.testing.records import Limits, Phase

MODEL = "mistral-small-2603"
ROWS = 30
LABELS = ("billing", "delivery", "other")


# -- the SDK -------------------------------------------------------------------------------------------------


def sdk(provider: MisbehavingProvider, api_key: str | None = None) -> Mistral:
    return Mistral(api_key=api_key or provider.api_key, server_url=provider.base_url)


def submit(client: Mistral, lines: list[dict[str, Any]], **options: Any) -> BatchJob:
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    file = client.files.upload(file={"file_name": "mine.jsonl", "content": content}, purpose="batch")
    assert client.files.retrieve(file_id=file.id).size_bytes == len(content)
    asked = {"endpoint": "/v1/chat/completions", "model": MODEL, **options}
    return client.batch.jobs.create(input_files=[file.id], **asked)


def line(number: int, **body: Any) -> dict[str, Any]:
    return {
        "custom_id": f"row-{number}",
        "body": {"messages": [{"role": "user", "content": "hello"}], **body},
    }


def poll(client: Mistral, job: BatchJob) -> BatchJob:
    for _ in range(20):
        job = client.batch.jobs.get(job_id=job.id)
        if is_terminal(job.status):
            return job
    raise AssertionError(f"still {job.status}")


def read(client: Mistral, file_id: Any, kind: type[Any] = ChatCompletionResponse) -> BatchOutput[Any]:
    raw = client.files.download(file_id=file_id).read()
    return BatchOutput.from_jsonl_bytes(raw, kind)


def test_the_sdk_goes_all_the_way(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("bad_rows=1", dialect="mistral", polls=3)
    client = sdk(provider)
    job = submit(client, [line(number, max_tokens=50) for number in range(10)], metadata={"mine": "1"})
    assert (job.status, job.metadata, job.model) == ("QUEUED", {"mine": "1"}, MODEL)
    job = poll(client, job)
    counts = (job.total_requests, job.completed_requests, job.succeeded_requests, job.failed_requests)
    assert (job.status, counts) == ("SUCCESS", (10, 10, 9, 1))
    answers = read(client, job.output_file)
    assert len(answers.responses) == 9
    assert not answers.response_errors, "every body is one of the SDK's own"
    failed = read(client, job.error_file).request_errors
    assert [error.status_code for error in failed] == [400]
    assert {*answers.responses, failed[0].custom_id} == {f"row-{number}" for number in range(10)}
    assert (provider.meter.rows_accepted, provider.meter.rows_billed) == (10, 9)


def test_the_sdk_lists_filters_cancels_and_deletes(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider(dialect="mistral")
    client = sdk(provider)
    jobs = [submit(client, [line(0)], metadata={"name": f"n{number}"}) for number in range(3)]
    pages = [client.batch.jobs.list(page=page, page_size=2) for page in range(2)]
    assert [job.id for page in pages for job in page.data or []] == [job.id for job in jobs[::-1]]
    assert [page.total for page in pages] == [3, 3]
    by_metadata = client.batch.jobs.list(metadata={"name": "n1"})
    assert [job.id for job in by_metadata.data or []] == [jobs[1].id]
    assert client.batch.jobs.list(created_after=datetime(2999, 1, 1, tzinfo=UTC)).total == 0
    assert client.batch.jobs.cancel(job_id=jobs[0].id).status == "CANCELLATION_REQUESTED"
    assert poll(client, jobs[0]).status == "CANCELLED"
    with pytest.raises(SDKError, match="400"):
        client.batch.jobs.cancel(job_id=jobs[0].id)
    assert client.batch.jobs.delete(job_id=jobs[1].id).deleted
    assert client.batch.jobs.list().total == 2
    assert client.files.delete(file_id=jobs[0].input_files[0]).deleted


def test_the_sdk_meets_the_traps(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("create_error=1,status=402", dialect="mistral", models=[MODEL])
    client = sdk(provider)
    with pytest.raises(SDKError, match="402"):
        submit(client, [line(0)])
    with pytest.raises(SDKError, match="Invalid model"):
        submit(client, [line(0)], model="mistral-0")
    with pytest.raises(SDKError, match="401"):
        sdk(provider, "wrong").batch.jobs.list()
    with pytest.raises(SDKError, match="404"):
        client.batch.jobs.create(input_files=["none"], model=MODEL, endpoint="/v1/chat/completions")
    odd = poll(client, submit(client, [line(0, seed=7)]))
    (error,) = read(client, odd.error_file).request_errors
    assert "body.seed: Extra inputs" in str(error.error)
    empty = poll(client, submit(client, []))
    assert (empty.status, [item.message for item in empty.errors]) == ("FAILED", ["The input file is empty."])


def test_the_sdk_embeds_and_chats(misbehaving_provider: ProviderFactory) -> None:
    client = sdk(misbehaving_provider(dialect="mistral"))
    body = {"input": ["a", "b"], "output_dimension": 3}
    asked = {"endpoint": "/v1/embeddings", "model": "mistral-embed"}
    job = poll(client, submit(client, [{"custom_id": "a", "body": body}], **asked))
    (response,) = read(client, job.output_file, EmbeddingResponse).responses.values()
    assert [len(item.embedding) for item in response.data] == [3, 3]
    given = client.chat.complete(model=MODEL, messages=[{"role": "user", "content": "hello"}])
    assert given.choices[0].message is not None


# -- whole runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def desk_for(tmp_path: Path, misbehaving_provider: ProviderFactory, fake_clock: FakeClock) -> Any:
    def make(faults: str = "", *, ours: dict[str, str] | None = None, **options: Any) -> Desk:
        options = {"answer": upper, **options}
        provider = misbehaving_provider(faults, dialect="mistral", now=fake_clock.now, **options)
        return Desk(tmp_path, provider, fake_clock, model=f"mistral/{MODEL}", rows=ROWS, limits=ours)

    return make


UPPER = shouted(ROWS)


def test_labels(desk_for: Any) -> None:
    desk: Desk = desk_for(answer=lambda body: json.dumps({"label": LABELS[len(upper(body)) % 3]}))
    desk.run(desk.job(output={"choice": list(LABELS)}))
    assert desk.answers() == [LABELS[len(text) % 3] for text in UPPER]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("fault", ["expire_after=20", "cancel_after=20"])
def test_what_an_early_end_has_answered_is_kept_where_it_is_there(
    desk_for: Any, fault: str, *, kept: bool
) -> None:
    """Nobody has documented whether a job that ran out of time names files: both ways lose nothing."""
    lost = frozenset() if kept else frozenset({Phase.EXPIRED, Phase.CANCELLED})
    limits = Limits(LIMITS.max_requests, LIMITS.max_file_bytes, lost_at=lost)
    desk: Desk = desk_for(fault, limits=limits)
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert desk.answers() == UPPER
    assert desk.provider.meter.rows_accepted == ROWS + (10 if kept else ROWS)


def test_a_job_that_hangs_is_cancelled(desk_for: Any) -> None:
    desk: Desk = desk_for("stuck=1", ours={"overdue_s": "1800"})
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert desk.provider.snapshot()["batches"][0]["phase"] == "cancelled"
    assert desk.answers() == UPPER


@pytest.mark.parametrize(
    "faults",
    [
        "late_create=1,calls=6",  # lands when its input is deleted already, and is refused
        "create_unanswered=1",
        "create_unanswered=1,when=before",
        "create_cut=1 list_lag=1",
        "create_cut=1 lookalikes=1",
        "file_lag=6",
        "create_429=3",
    ],
)
def test_no_row_is_accepted_twice(desk_for: Any, faults: str) -> None:
    limits = {"create_timeout_s": "0.2"} if "unanswered" in faults else {}
    desk: Desk = desk_for(faults, ours={"listing_lag_s": "60", **limits})
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert (desk.provider.meter.rows_accepted, desk.answers()) == (ROWS, UPPER)


@pytest.mark.parametrize("ended", [False, True])
def test_the_state_directory_is_lost(desk_for: Any, *, ended: bool) -> None:
    desk: Desk = desk_for("lookalikes=3", ours={"requests": "10"})
    with desk.begun() as (space, run):
        anyio.run(lambda: space.advance(run, poll_s=60, until_submitted=True))
    assert desk.provider.meter.batches_created == 3
    if ended:
        desk.provider.advance()
    shutil.rmtree(desk.folder / ".bulkrate")
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert (desk.provider.meter.rows_accepted, desk.answers()) == (ROWS, UPPER)


def test_no_plan_for_batches_stops_the_run_and_loses_nothing(desk_for: Any) -> None:
    desk: Desk = desk_for("create_error=1,status=402")
    with pytest.raises(AuthError, match="402"):
        desk.run()
    assert desk.provider.meter.rows_accepted == 0
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert desk.provider.meter.rows_accepted == ROWS


def test_rows_that_are_refused_are_not_sent_again(desk_for: Any) -> None:
    desk: Desk = desk_for("bad_rows=2,status=422 refused_in_output=1")
    rows = desk.run()["rows"]
    assert (rows["succeeded"], rows["failed"], desk.provider.meter.rows_accepted) == (ROWS - 3, 3, ROWS)


def test_a_longer_window_is_asked_for(desk_for: Any) -> None:
    desk: Desk = desk_for(ours={"window_s": "360000"})
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert [batch.window for batch in desk.provider.state.batches.values()] == ["100h"]


def test_a_ready_made_openai_file(desk_for: Any) -> None:
    desk: Desk = desk_for()
    bodies: list[dict[str, Any]] = [
        {"model": "m", "messages": [{"role": "user", "content": "good"}], "seed": 7, "user": "u"},
        {"model": "m", "messages": [{"role": "user", "content": "odd"}], "logit_bias": {"1": 2}},
    ]
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(bodies)
    ]
    path = desk.folder / "batch.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = desk.run(openai_batch_job(path, f"mistral/{MODEL}"))
    assert found["rows"] == {"total": 2, "succeeded": 1, "failed": 0, "rejected": 1, "pending": 0}


def test_the_live_lane(desk_for: Any) -> None:
    desk: Desk = desk_for()
    found = desk.run(desk.job(lane="live"))
    assert (found["rows"]["succeeded"], desk.answers()) == (ROWS, UPPER)
    assert found["usage"]["output_tokens"] > 0
