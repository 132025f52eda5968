"""Anthropic's counterpart, driven by the official SDK; and what only this provider makes difficult."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import anyio
import pytest

from bulkrate.core.shard_states import ShardState
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import MisbehavingProvider

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
        "create_cut=1,when=after", dialect="anthropic", now=fake_clock.now, polls=100
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
