"""Gemini's counterpart driven by Google's own SDK, and whole runs of ours against it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from dialect_desk import Desk, shouted, upper
from google import genai
from google.genai import errors, types

from bulkrate.jobs.load import openai_batch_job
from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.answers import Answer
from bulkrate.testing.pytest_plugin import ProviderFactory

MODEL = "gemini-2.5-flash"
ROWS = 30
LABELS = ("billing", "delivery", "other")


# -- the SDK -------------------------------------------------------------------------------------------------


def sdk(provider: MisbehavingProvider, **options: Any) -> genai.Client:
    http = types.HttpOptions(base_url=provider.base_url)
    return genai.Client(api_key=options.get("api_key", provider.api_key), http_options=http)


def submit(client: genai.Client, lines: list[dict[str, Any]], name: str = "mine") -> types.BatchJob:
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    file = client.files.upload(
        file=io.BytesIO(content),
        config=types.UploadFileConfig(mime_type="application/jsonl", display_name=name),
    )
    assert client.files.get(name=file.name or "").display_name == name
    return client.batches.create(
        model=MODEL, src=file.name or "", config=types.CreateBatchJobConfig(display_name=name)
    )


def line(number: int, text: str = "hello", **config: Any) -> dict[str, Any]:
    request: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
    if config:
        request["generationConfig"] = config
    return {"key": f"row-{number}", "request": request}


def poll(client: genai.Client, job: types.BatchJob) -> types.BatchJob:
    for _ in range(20):
        job = client.batches.get(name=job.name or "")
        if job.state in (*types.JOB_STATES_ENDED, types.JobState.JOB_STATE_PARTIALLY_SUCCEEDED):
            return job
    raise AssertionError(f"still {job.state}")


def results(client: genai.Client, job: types.BatchJob) -> dict[str, dict[str, Any]]:
    assert job.dest is not None
    content = client.files.download(file=job.dest.file_name or "")
    return {found["key"]: found for found in map(json.loads, content.splitlines())}


def test_the_sdk_goes_all_the_way(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("bad_rows=1", dialect="google", polls=3)
    client = sdk(provider)
    job = submit(client, [line(number, maxOutputTokens=50) for number in range(10)])
    assert (job.state, job.display_name, job.model) == (
        types.JobState.JOB_STATE_PENDING,
        "mine",
        f"models/{MODEL}",
    )
    job = poll(client, job)
    assert job.state is types.JobState.JOB_STATE_PARTIALLY_SUCCEEDED
    assert not job.done, "the trap: to the SDK this is no end"
    found = results(client, job)
    assert set(found) == {f"row-{number}" for number in range(10)}
    good = [item for item in found.values() if "response" in item]
    assert len(good) == 9
    response = types.GenerateContentResponse.model_validate(good[0]["response"])
    assert response.usage_metadata is not None
    assert response.text
    assert provider.meter.rows_accepted == 10
    assert provider.meter.rows_billed == 9


def test_the_sdk_lists_cancels_and_deletes(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider(dialect="google")
    client = sdk(provider)
    names = [submit(client, [line(0)], f"n{number}").name for number in range(3)]
    listed = list(client.batches.list(config=types.ListBatchJobsConfig(page_size=2)))
    assert [job.name for job in listed] == names[::-1], "newest first, over two pages"
    client.batches.cancel(name=names[0] or "")
    cancelled = poll(client, types.BatchJob(name=names[0]))
    assert (cancelled.state, cancelled.dest) == (types.JobState.JOB_STATE_CANCELLED, None)
    client.batches.delete(name=names[1] or "")
    with pytest.raises(errors.ClientError, match="404"):
        client.batches.get(name=names[1] or "")
    assert len(list(client.batches.list())) == 2


def test_the_sdk_meets_the_traps(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("create_429=1", dialect="google", models=[MODEL])
    client = sdk(provider)
    with pytest.raises(errors.ClientError, match="RESOURCE_EXHAUSTED"):
        submit(client, [line(0)])
    job = poll(client, submit(client, [line(0)]))
    assert job.dest is not None
    with pytest.raises(errors.ClientError, match="40 characters"):
        client.files.get(name=job.dest.file_name or "")
    with pytest.raises(errors.ClientError, match="403"):
        client.batches.create(model=MODEL, src="files/none", config={"display_name": "x"})
    with pytest.raises(errors.ClientError, match="404"):
        client.batches.create(model="gemini-0", src="files/none", config={"display_name": "x"})
    stranger = sdk(provider, api_key="wrong")
    with pytest.raises(errors.ClientError, match="API key not valid"):
        list(stranger.batches.list())
    wrong = {"contents": [{"parts": [{"text": "a"}]}], "generationConfig": {"safetySettings": []}}
    job = poll(client, submit(client, [{"key": "a", "request": wrong}]))
    assert "safetySettings" in str(results(client, job)["a"])


def test_the_sdk_embeds(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider(dialect="google")
    client = sdk(provider)
    request = {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 3}
    content = json.dumps({"key": "a", "request": request}).encode() + b"\n"
    file = client.files.upload(file=io.BytesIO(content), config={"mime_type": "application/jsonl"})
    with pytest.warns(Warning, match="experimental"):
        job = client.batches.create_embeddings(
            model="gemini-embedding-001",
            src=types.EmbeddingsBatchJobSource(file_name=file.name),
            config={"display_name": "mine"},
        )
    found = results(client, poll(client, job))["a"]["response"]
    response = types.SingleEmbedContentResponse.model_validate(found)
    assert response.embedding is not None
    assert len(response.embedding.values or []) == 3


# -- whole runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def desk_for(tmp_path: Path, misbehaving_provider: ProviderFactory, fake_clock: FakeClock) -> Any:
    def make(faults: str = "", *, ours: dict[str, str] | None = None, **options: Any) -> Desk:
        options = {"window_s": 172_800, "answer": upper, **options}
        provider = misbehaving_provider(faults, dialect="google", now=fake_clock.now, **options)
        return Desk(tmp_path, provider, fake_clock, model=f"google/{MODEL}", rows=ROWS, limits=ours)

    return make


UPPER = shouted(ROWS)


def test_labels(desk_for: Any) -> None:
    desk: Desk = desk_for(answer=lambda body: json.dumps(LABELS[len(upper(body)) % 3]))
    desk.run(desk.job(output={"choice": list(LABELS)}))
    assert desk.answers() == [LABELS[len(text) % 3] for text in UPPER]


def test_json_by_a_schema_that_gemini_has_fewer_words_for(desk_for: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"why": {"type": "string"}, "n": {"type": "integer", "exclusiveMinimum": 0}},
        "required": ["why", "n"],
        "additionalProperties": False,
    }
    desk: Desk = desk_for(answer=lambda body: json.dumps({"why": upper(body), "n": 1}))
    desk.run(desk.job(output={"json_schema": schema}))
    assert desk.answers() == [{"why": text, "n": 1} for text in UPPER]


@pytest.mark.parametrize("finish", ["SAFETY", "PROHIBITED_CONTENT"])
def test_a_filtered_answer_is_refused_once_and_for_all(desk_for: Any, finish: str) -> None:
    desk: Desk = desk_for(answer=lambda body: Answer("", finish_reason=finish))
    found = desk.run()
    assert (found["rows"]["failed"], desk.provider.meter.rows_accepted) == (ROWS, ROWS)


def test_an_expired_batch_gave_nothing_and_its_rows_come_again(desk_for: Any) -> None:
    desk: Desk = desk_for("expire_after=20")
    found = desk.run()
    assert (found["rows"]["succeeded"], desk.answers()) == (ROWS, UPPER)
    assert desk.provider.meter.rows_accepted == 2 * ROWS


def test_a_batch_that_hangs_is_cancelled_before_google_expires_it(desk_for: Any) -> None:
    desk: Desk = desk_for("stuck=1", ours={"overdue_s": "1800"})
    assert desk.run()["rows"]["succeeded"] == ROWS
    first = desk.provider.snapshot()["batches"][0]
    assert first["phase"] == "cancelled"
    assert desk.answers() == UPPER


def test_thoughts_that_use_up_the_cap(desk_for: Any) -> None:
    desk: Desk = desk_for("truncate=3")
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert desk.provider.meter.rows_accepted == ROWS + 3


def test_a_late_create_is_fenced_off(desk_for: Any) -> None:
    """The create call lands when its input is deleted already: it is refused, and nothing runs twice."""
    desk: Desk = desk_for("late_create=1,calls=4")
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert desk.provider.meter.rows_accepted == ROWS


def test_the_state_directory_is_lost_when_the_batch_has_ended(desk_for: Any) -> None:
    desk: Desk = desk_for(ours={"requests": "10"})
    with desk.begun(desk.job()) as (space, run):
        anyio.run(lambda: space.advance(run, poll_s=60, until_submitted=True))
    assert desk.provider.meter.batches_created == 3
    desk.provider.advance()
    shutil.rmtree(desk.folder / ".bulkrate")
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert (desk.provider.meter.rows_accepted, desk.answers()) == (ROWS, UPPER)


def test_shards_fit_the_queue_of_waiting_tokens_and_wait_for_it(desk_for: Any) -> None:
    desk: Desk = desk_for("token_queue=120,at=create", ours={"queued_tokens": "110"})
    assert desk.run()["rows"]["succeeded"] == ROWS
    meter = desk.provider.meter
    assert (meter.rows_accepted, meter.batches_refused) == (ROWS, 0)
    assert meter.batches_created > 1


@pytest.mark.parametrize(
    ("faults", "batches"),
    [
        ("token_queue=60", 4),  # it failed twice for want of quota before it ran, and its halves did not
        ("file_lag=6", 1),  # "forbidden" is what a file is that is not there: waited for, uploaded again
        ("create_429=3", 1),
    ],
)
def test_what_the_provider_turns_away_is_sent_again_and_accepted_once(
    desk_for: Any, faults: str, batches: int
) -> None:
    desk: Desk = desk_for(faults)
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert (desk.provider.meter.rows_accepted, desk.provider.meter.batches_created) == (ROWS, batches)
    assert desk.answers() == UPPER


def test_a_partial_success_is_an_end(desk_for: Any) -> None:
    desk: Desk = desk_for("bad_rows=2 refused_in_output=1")
    rows = desk.run()["rows"]
    assert (rows["succeeded"], rows["failed"]) == (ROWS - 3, 3)
    assert desk.provider.meter.rows_accepted == ROWS


def test_media_that_differ_from_row_to_row(desk_for: Any) -> None:
    parts = [{"text": "{{ body }}"}, {"document": "{{ url }}"}]
    desk: Desk = desk_for()
    with desk.begun(desk.job(messages=[{"role": "user", "content": parts}])) as (space, run):
        anyio.run(lambda: space.advance(run, poll_s=60, until_submitted=True))
        (file,) = desk.provider.state.files.values()
        sent = [json.loads(line)["request"]["contents"][0]["parts"][1] for line in file.blob.lines()]
        anyio.run(lambda: space.advance(run, poll_s=60))
    assert sent[3] == {"inlineData": {"mimeType": "text/plain", "data": "Mw=="}}
    assert desk.answers() == UPPER


def test_a_ready_made_openai_file_with_a_row_that_gemini_has_no_place_for(desk_for: Any) -> None:
    desk: Desk = desk_for()
    bodies: list[dict[str, Any]] = [
        {"model": MODEL, "messages": [{"role": "user", "content": "good"}], "temperature": 0},
        {"model": "gpt-5", "messages": [{"role": "user", "content": "another model"}]},
        {"model": MODEL, "messages": [{"role": "user", "content": "odd"}], "logit_bias": {"1": 2}},
    ]
    lines = [
        {"custom_id": str(number), "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(bodies)
    ]
    path = desk.folder / "batch.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = desk.run(openai_batch_job(path, f"google/{MODEL}"))
    assert found["rows"] == {"total": 3, "succeeded": 2, "failed": 0, "rejected": 1, "pending": 0}


def test_embeddings_of_a_ready_made_file(desk_for: Any) -> None:
    """Jobs that ask for embeddings are to come; the wire carries them."""
    desk: Desk = desk_for()
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/embeddings",
            "body": {"model": "m", "input": text, "dimensions": 3},
        }
        for number, text in enumerate(UPPER)
    ]
    path = desk.folder / "batch.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    found = desk.run(openai_batch_job(path, "google/gemini-embedding-001"))
    assert found["rows"]["succeeded"] == ROWS
    batch = next(iter(desk.provider.state.batches.values()))
    assert batch.endpoint == "models/gemini-embedding-001:asyncBatchEmbedContent"
    (answers,) = desk.folder.glob("batch*answers*")
    vectors = [json.loads(json.loads(line)["output"]) for line in answers.read_text("utf-8").splitlines()]
    assert [len(vector[0]["embedding"]) for vector in vectors] == [3] * ROWS
    assert found["usage"]["input_tokens"] == desk.provider.meter.billed_input_tokens


def test_the_live_lane(desk_for: Any) -> None:
    desk: Desk = desk_for()
    found = desk.run(desk.job(lane="live"))
    assert found["rows"]["succeeded"] == ROWS
    assert desk.answers() == UPPER
    assert found["usage"]["output_tokens"] > 0
