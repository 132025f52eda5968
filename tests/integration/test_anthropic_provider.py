"""Anthropic's counterpart, driven by the official SDK; and what only this provider makes difficult."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import anthropic
import anyio
import pytest

from bulkrate.core.shard_states import ShardState
from bulkrate.errors import JobError, RequestRefused
from bulkrate.jobs.load import load_job_mapping, openai_batch_job
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import Answer, Limits, MisbehavingProvider

ROWS = 60


def sdk(provider: MisbehavingProvider) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)


def requests(count: int) -> list[Any]:
    messages = [[{"role": "user", "content": f"question {number}"}] for number in range(count)]
    return [
        {"custom_id": f"row-{number}", "params": {"model": "claude", "max_tokens": 9, "messages": asked}}
        for number, asked in enumerate(messages)
    ]


def test_the_official_sdk_drives_the_counterpart(misbehaving_provider: Any) -> None:
    provider = misbehaving_provider("missing=1 bad_rows=2", dialect="anthropic", polls=2)
    client = sdk(provider)
    batch = client.messages.batches.create(requests=requests(20))
    assert batch.request_counts.processing == 20
    assert client.messages.batches.retrieve(batch.id).request_counts.succeeded == 0
    assert client.messages.batches.retrieve(batch.id).processing_status == "ended"
    results = {item.custom_id: item.result for item in client.messages.batches.results(batch.id)}
    assert len(results) == 19
    assert sorted(result.type for result in results.values()) == ["errored"] * 2 + ["succeeded"] * 17
    second = client.messages.batches.create(requests=requests(5))
    assert client.messages.batches.cancel(second.id).processing_status == "canceling"
    assert [item.id for item in client.messages.batches.list(limit=1)] == [second.id, batch.id]
    with pytest.raises(anthropic.BadRequestError, match="custom_id"):
        client.messages.batches.create(requests=[{**requests(1)[0], "custom_id": "not allowed!"}])
    one = client.messages.create(model="claude", max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    assert one.stop_reason == "end_turn"


def workspace(folder: Path, provider: MisbehavingProvider, clock: Any, **env: str) -> Workspace:
    found = {
        "ANTHROPIC_BASE_URL": provider.base_url,
        "ANTHROPIC_API_KEY": provider.api_key,
        "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "5",
        "BULKRATE_LIMITS__LISTING_LAG_S": "0",
        **env,
    }
    return Workspace(Home.find(folder, env={}), clock=clock, env=found)


def job(folder: Path, **fields: Any) -> Any:
    lines = [json.dumps({"id": number, "text": f"ticket {number}"}) for number in range(ROWS)]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    document = {
        "name": "claude",
        "source": {"path": "rows.jsonl", "key": "id"},
        "request": {"model": "anthropic/claude-haiku-4-5", "prompt": "{{ text }}", "max_output_tokens": 20},
        "sink": {"path": "answers.jsonl"},
        **fields,
    }
    return load_job_mapping(document, folder)


def finished(space: Workspace, folder: Path, **fields: Any) -> dict[str, Any]:
    run = space.approve(space.prepare(job(folder, **fields)), decide=lambda quote: True)
    run = anyio.run(lambda: space.advance(run.id, poll_s=60, timeout_s=4 * 86_400))
    return report(space.ledger, run)


@pytest.mark.parametrize("when", ["before", "after"])
def test_two_creates_in_doubt_in_the_same_minute(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any, when: str
) -> None:
    """Equal counts, no names, no answers: the results tell them apart, and nothing is paid for twice."""
    provider = misbehaving_provider(
        f"create_cut=2,when={when} lookalikes=2", dialect="anthropic", now=fake_clock.now
    )
    space = workspace(tmp_path, provider, fake_clock, BULKRATE_LIMITS__REQUESTS="30")
    result = finished(space, tmp_path)
    assert result["rows"]["succeeded"] == ROWS
    assert provider.meter.rows_accepted == ROWS
    doubts = [e for e in space.ledger.events(result["run"]) if e.kind == "create_unknown"]
    assert len(doubts) == 2


def test_a_batch_that_may_be_ours_is_waited_for(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    provider = misbehaving_provider(
        "create_cut=1,when=after", dialect="anthropic", now=fake_clock.now, polls=20
    )
    space = workspace(tmp_path, provider, fake_clock)
    run = space.approve(space.prepare(job(tmp_path)), decide=lambda quote: True)
    anyio.run(lambda: space.advance(run.id, poll_s=60, timeout_s=120))
    assert [shard.state for shard in space.ledger.shards(run.id)] == [ShardState.IN_DOUBT]
    anyio.run(lambda: space.advance(run.id, poll_s=60, timeout_s=86_400))
    assert space.ledger.balance(run.id).succeeded == ROWS
    assert provider.meter.rows_accepted == ROWS


def test_who_does_not_want_to_wait_may_pay_twice(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    provider = misbehaving_provider("create_cut=1,when=after", dialect="anthropic", now=fake_clock.now)
    space = workspace(tmp_path, provider, fake_clock)
    result = finished(space, tmp_path, lane={"on_in_doubt": "resend"})
    assert result["rows"]["succeeded"] == ROWS
    assert provider.meter.rows_accepted in (ROWS, 2 * ROWS)


def test_a_strangers_batch_of_the_same_size_is_waited_for_on_an_empty_disk(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    provider = misbehaving_provider(dialect="anthropic", now=fake_clock.now, polls=4)
    sdk(provider).messages.batches.create(requests=requests(ROWS))
    result = finished(workspace(tmp_path, provider, fake_clock), tmp_path)
    assert result["rows"]["succeeded"] == ROWS
    assert provider.meter.rows_accepted == 2 * ROWS, "theirs and ours, each once"


def test_labels_and_the_live_lane(tmp_path: Path, misbehaving_provider: Any, fake_clock: Any) -> None:
    provider = misbehaving_provider(dialect="anthropic", now=fake_clock.now)
    request = {
        "model": "anthropic/claude-haiku-4-5",
        "prompt": "{{ text }}",
        "output": {"choice": ["good", "bad"]},
    }
    answers = []
    for lane in ("batch", "live"):
        folder = tmp_path / lane
        folder.mkdir()
        result = finished(workspace(folder, provider, fake_clock), folder, request=request, lane=lane)
        assert result["rows"]["succeeded"] == ROWS
        lines = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        answers.append([json.loads(line)["output"] for line in lines])
    assert set(answers[0]) == {"good", "bad"}
    assert answers[0] == answers[1]


# --- what goes wrong with this provider -----------------------------------------------------------


@pytest.mark.parametrize(
    "faults",
    [
        "download_error=1,status=404 create_cut=1",  # the results of what may be ours are not there yet
        "download_cut=1,at=10 create_cut=1",
        "duplicate_rows=5 unknown_ids=5 create_cut=1",
        "cut_lines=3 bad_utf8=3 create_cut=1",
        "status_404=2,from_poll=2",
        "create_error=1,status=529",
        "create_429=2,retry_after=17",
        "create_429=2",
        "token_queue=700",
    ],
)
def test_every_row_once(faults: str, tmp_path: Path, misbehaving_provider: Any, fake_clock: Any) -> None:
    provider = misbehaving_provider(faults, dialect="anthropic", now=fake_clock.now)
    space = workspace(tmp_path, provider, fake_clock, BULKRATE_LIMITS__REQUESTS="30")
    assert finished(space, tmp_path)["rows"]["succeeded"] == ROWS
    damaged = 6 if "cut_lines" in faults else 0
    assert provider.meter.rows_accepted == ROWS + damaged
    assert max(provider.meter.accepted_by_custom_id.values()) == 1


def test_an_empty_disk_tells_two_running_batches_apart(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    """Two creates of one minute, of the same size, neither answered, and then the ledger is lost."""
    provider = misbehaving_provider("create_cut=2", dialect="anthropic", now=fake_clock.now, polls=9)
    small = {"BULKRATE_LIMITS__REQUESTS": "30"}
    space = workspace(tmp_path, provider, fake_clock, **small)
    run = space.approve(space.prepare(job(tmp_path)), decide=lambda quote: True)
    anyio.run(lambda: space.advance(run.id, poll_s=60, timeout_s=30))
    assert {shard.state for shard in space.ledger.shards(run.id)} == {ShardState.IN_DOUBT}
    space.close()
    shutil.rmtree(tmp_path / ".bulkrate")
    again = workspace(tmp_path, provider, fake_clock, **small)
    result = finished(again, tmp_path)
    assert result["rows"]["succeeded"] == ROWS
    assert provider.meter.rows_accepted == ROWS
    assert provider.meter.batches_created == 2
    assert (
        len(adopted := [batch.id for batch in again.ledger.batches(result["run"])]) == len(set(adopted)) == 2
    )


def test_an_unfinished_turn_is_asked_once_more_and_never_delivered(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    def answer(body: Any) -> Answer:
        text = body["messages"][-1]["content"]
        reasons = {"ticket 7": "pause_turn", "ticket 8": "refusal"}
        return Answer(f"about {text}", reasons.get(text, "stop"))

    provider = misbehaving_provider(dialect="anthropic", now=fake_clock.now, answer=answer)
    result = finished(workspace(tmp_path, provider, fake_clock), tmp_path)
    assert result["rows"] == {"total": ROWS, "succeeded": ROWS - 2, "failed": 2, "rejected": 0, "pending": 0}
    assert provider.meter.rows_accepted == ROWS + 1  # a refusal is not asked again
    lines = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text("utf-8").splitlines()]
    ended = {line["id"]: (line["status"], (line["error"] or {}).get("class")) for line in lines}
    assert ended[6] == ("succeeded", None)
    assert ended[7] == ("failed", "invalid_output")
    assert ended[8] == ("failed", "refused")


def test_a_call_that_is_too_large_stops_the_run_and_says_what_to_do(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    small = Limits(max_requests=100_000, max_file_bytes=1_000)
    provider = misbehaving_provider(dialect="anthropic", now=fake_clock.now, limits=small)
    with pytest.raises(RequestRefused, match="bytes") as caught:
        finished(workspace(tmp_path, provider, fake_clock), tmp_path)
    assert "BULKRATE_LIMITS__FILE_BYTES" in (caught.value.hint or "")
    assert provider.meter.rows_accepted == 0


def test_a_model_that_thinks_wants_a_cap_before_anything_is_sent(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    """A cap derived from the labels would cut every one of its answers, and pay for them."""
    provider = misbehaving_provider(dialect="anthropic", now=fake_clock.now)
    request = {
        "model": "anthropic/claude-haiku-5-5",
        "prompt": "{{ text }}",
        "output": {"choice": ["a", "b"]},
    }
    space = workspace(tmp_path, provider, fake_clock)
    with pytest.raises(JobError, match="thinks before it answers"):
        space.prepare(job(tmp_path, request=request))
    capped = {**request, "max_output_tokens": 4_096, "temperature": 0}
    assert finished(space, tmp_path, request=capped)["rows"]["succeeded"] == ROWS


def test_batches_are_deleted_when_nothing_is_to_stay(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    provider = misbehaving_provider(dialect="anthropic", now=fake_clock.now)
    finished(workspace(tmp_path, provider, fake_clock), tmp_path, keep_remote="none")
    assert list(sdk(provider).messages.batches.list()) == []


def test_an_openai_batch_file_asks_a_claude(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    bodies = [
        {"model": "gpt-4o-mini", "max_tokens": 20, "messages": [{"role": "user", "content": f"question {n}"}]}
        for n in range(5)
    ]
    lines = [
        json.dumps({"custom_id": f"q{n}", "method": "POST", "url": "/v1/chat/completions", "body": body})
        for n, body in enumerate(bodies)
    ]
    (tmp_path / "q.jsonl").write_text("\n".join(lines), encoding="utf-8")
    provider = misbehaving_provider(dialect="anthropic", now=fake_clock.now)
    space = workspace(tmp_path, provider, fake_clock)
    asked = openai_batch_job(tmp_path / "q.jsonl", model="anthropic/claude-haiku-4-5")
    run = space.approve(space.prepare(asked), decide=lambda quote: True)
    anyio.run(lambda: space.advance(run.id, poll_s=60, timeout_s=86_400))
    assert space.ledger.balance(run.id).succeeded == 5
