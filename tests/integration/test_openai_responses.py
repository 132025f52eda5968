"""OpenAI's Responses API end to end: our client, and the SDK itself, against the counterpart."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from dialect_desk import Desk, upper
from openai.types.responses import Response

from bulkrate.errors import ConfigError, JobError
from bulkrate.jobs.load import openai_batch_job
from bulkrate.testing.clock import EPOCH
from bulkrate.testing.rehearsal import rehearse

ROWS = 30
MODEL = "openai/gpt-4.1-nano"


def desk(folder: Path, provider: Any, clock: Any, **env: str) -> Desk:
    return Desk(folder, provider, clock, model=MODEL, rows=ROWS, env=env)


@pytest.mark.parametrize(
    ("faults", "again"),
    [
        ("", 0),
        ("missing=2", 2),
        ("truncate=2", 2),
        ("bad_utf8=1 cut_lines=1", 2),
        ("create_cut=1", 0),
        ("expire_after=10", 20),
        ("refused_in_output=1,status=500 empty_body=1", 2),
    ],
)
def test_a_job_is_asked_by_responses(
    faults: str, again: int, tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    provider = misbehaving_provider(faults, now=fake_clock.now, answer=upper, seed=5)
    at = desk(tmp_path, provider, fake_clock)
    found = at.run(at.job(api="responses"))
    assert found["rows"]["succeeded"] == ROWS
    assert at.answers() == [f"TICKET {n}" for n in range(ROWS)]
    assert provider.meter.rows_accepted == ROWS + again
    if not faults:
        assert found["usage"]["output_tokens"] == provider.meter.billed_output_tokens
        assert found["usage"]["input_tokens"] == provider.meter.billed_input_tokens


@pytest.mark.parametrize("lane", ["live", "flex"])
def test_single_answers(lane: str, tmp_path: Path, misbehaving_provider: Any, fake_clock: Any) -> None:
    at = desk(tmp_path, misbehaving_provider(answer=upper), fake_clock)
    assert at.run(at.job(lane, api="responses"))["rows"]["succeeded"] == ROWS
    assert at.answers() == [f"TICKET {n}" for n in range(ROWS)]


def test_labels_are_held_to_their_form(tmp_path: Path, misbehaving_provider: Any, fake_clock: Any) -> None:
    provider = misbehaving_provider(now=fake_clock.now)
    at = desk(tmp_path, provider, fake_clock)
    assert at.run(at.job(api="responses", output={"choice": ["good", "bad"]}))["rows"]["succeeded"] == ROWS
    assert set(at.answers()) == {"good", "bad"}


def test_a_ready_made_file_of_responses_runs_as_it_is(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    bodies: list[dict[str, Any]] = [
        {"model": "gpt-4.1-nano", "input": "say it", "max_output_tokens": 30, "store": True},
        {"model": "gpt-4.1-nano", "input": [{"role": "user", "content": "say that"}], "include": []},
        {"model": "gpt-4.1-nano", "input": ""},
    ]
    lines = [
        {"custom_id": f"q{n}", "method": "POST", "url": "/v1/responses", "body": body}
        for n, body in enumerate(bodies)
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    seen: list[Any] = []

    def answer(body: Any) -> str:
        seen.append(body)
        return "said"

    provider = misbehaving_provider(now=fake_clock.now, answer=answer)
    at = desk(tmp_path, provider, fake_clock)
    found = at.run(openai_batch_job(tmp_path / "q.jsonl"))
    assert found["rows"] == {"total": 3, "succeeded": 2, "failed": 0, "rejected": 1, "pending": 0}
    shown = [{name: body[name] for name in body if name != "messages"} for body in seen]
    assert sorted(shown, key=len) == [
        {"model": "gpt-4.1-nano", "include": []},
        {"model": "gpt-4.1-nano", "max_output_tokens": 30, "store": True},
    ]


@pytest.mark.parametrize("provider", ["azure", "anthropic", "google", "mistral", "groq", "local"])
def test_nobody_else_has_it(
    provider: str, tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    at = desk(tmp_path, misbehaving_provider(now=fake_clock.now), fake_clock)
    asked = at.job(api="responses", model=f"{provider}/smollm2-135m-instruct")
    with pytest.raises(JobError, match=f"request.api: {provider} has no Responses API"), at.begun(asked):
        pass


def test_result_files_expire_when_told_to(tmp_path: Path, misbehaving_provider: Any, fake_clock: Any) -> None:
    provider = misbehaving_provider(now=fake_clock.now, answer=upper)
    at = desk(tmp_path, provider, fake_clock, BULKRATE_OPENAI_OUTPUT_EXPIRES_S="7200")
    assert at.run()["rows"]["succeeded"] == ROWS
    (output,) = [file for file in provider.state.files.values() if file.purpose == "batch_output"]
    assert output.expires_at == output.created_at + 7_200
    at.env["BULKRATE_OPENAI_OUTPUT_EXPIRES_S"] = "60"
    with pytest.raises(ConfigError, match="BULKRATE_OPENAI_OUTPUT_EXPIRES_S"):
        at.run(at.job(reasoning="low"))
    assert provider.meter.batches_created == 1


def test_the_sdk_drives_a_batch_of_responses(misbehaving_provider: Any) -> None:
    provider = misbehaving_provider()
    client = openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)
    body = {"model": "gpt-4.1-nano", "input": "say it"}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": body}
    file = client.files.create(file=("a.jsonl", io.BytesIO(json.dumps(line).encode())), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/responses",
        completion_window="24h",
        output_expires_after={"anchor": "created_at", "seconds": 3_600},
    )
    while batch.status != "completed":
        batch = client.batches.retrieve(batch.id)
    assert batch.output_file_id
    assert client.files.retrieve(batch.output_file_id).expires_at
    result = json.loads(client.files.content(batch.output_file_id).text)
    response = Response.model_validate(result["response"]["body"], strict=True)
    assert response.output_text.startswith("answer")
    again = client.responses.create(model="gpt-4.1-nano", input="say it")
    assert again.output_text == response.output_text
    with pytest.raises(openai.BadRequestError, match="must not be empty"):
        client.responses.create(model="gpt-4.1-nano", input="")
    assert batch.usage is not None
    assert batch.usage.total_tokens == response.usage.total_tokens if response.usage else None


def test_a_rehearsal_speaks_it(tmp_path: Path, misbehaving_provider: Any, fake_clock: Any) -> None:
    at = desk(tmp_path, misbehaving_provider(), fake_clock)
    (tmp_path / "rehearsed").mkdir()
    asked = at.job(api="responses", messages=[{"role": "user", "content": [{"text": "{{ body }}"}]}])
    assert rehearse(asked, tmp_path / "rehearsed", env={}, at=EPOCH).report["rows"]["succeeded"] == ROWS
