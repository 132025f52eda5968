"""Servers by a file of facts: whole runs of a made-up one, live lanes, and what the odd ones need."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from live_app import LiveProvider, serving
from scripted_app import answering

from bulkrate.cli.bill import pairs
from bulkrate.core.lanes import Lane
from bulkrate.errors import ConfigError, JobError, QuotaError
from bulkrate.jobs.load import load_job, load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.spending import spending_of
from bulkrate.pipeline.workspace import Workspace
from bulkrate.providers.provider import Submission, Tag
from bulkrate.providers.registry import get_provider
from bulkrate.testing import FakeClock

ROWS = 30
MADE_UP = """\
# A vendor nobody has heard of.
dated = 2026-11-24
source = "made up"
run_live = "never"

[server]
base_url = "https://api.rocket.test"
keys = ["ROCKET_KEY"]

[endpoints]
chat = "/v1/chat/completions"

[limits]
requests = 12
listing_lag_s = 0
create_timeout_s = 5
"""


class Site:
    """A folder with rows, facts and a workspace."""

    def __init__(self, folder: Path, env: dict[str, str], text: str = MADE_UP, name: str = "rocket") -> None:
        self.folder, self.name, self.clock = folder, name, FakeClock()
        facts = folder / "facts"
        facts.mkdir()
        (facts / f"{name}.toml").write_text(text, encoding="utf-8")
        self.env = {"BULKRATE_PROVIDERS": str(facts), **env}
        lines = [json.dumps({"id": f"T-{n}", "text": f"ticket {n}"}) for n in range(ROWS)]
        (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def space(self) -> Workspace:
        return Workspace(Home.find(self.folder, env={}), clock=self.clock, env=self.env)

    def job(self, **fields: Any) -> Any:
        document = {
            "name": "rocket",
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": {"model": f"{self.name}/r-1", "prompt": "{{ text }}", "max_output_tokens": 20},
            "sink": {"path": "answers.jsonl"},
            **fields,
        }
        return load_job_mapping(document, self.folder)

    def run(self, *, until_submitted: bool = False, **fields: Any) -> dict[str, Any]:
        with closing(self.space()) as space:
            run = space.approve(space.prepare(self.job(**fields)), decide=lambda quote: True)
            done = anyio.run(lambda: space.advance(run.id, poll_s=60, until_submitted=until_submitted))
            return report(space.ledger, done)

    def answers(self) -> list[dict[str, Any]]:
        lines = (self.folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


def test_a_made_up_provider_in_under_thirty_lines(tmp_path: Path, misbehaving_provider: Any) -> None:
    assert len(MADE_UP.splitlines()) < 30
    server = misbehaving_provider(
        "missing=2 create_cut=1 duplicate_rows=3 status_503=2",
        answer=lambda body: body["messages"][0]["content"].upper(),
    )
    site = Site(tmp_path, {"ROCKET_BASE_URL": server.base_url, "ROCKET_KEY": server.api_key})
    rows = site.run()["rows"]
    assert rows == {"total": ROWS, "succeeded": ROWS, "failed": 0, "rejected": 0, "pending": 0}
    assert [line["output"] for line in site.answers()] == [f"TICKET {n}" for n in range(ROWS)]
    assert server.meter.rows_accepted == ROWS + 2
    assert server.meter.batches_created == 4, "twelve rows a batch, and one for the two that were missing"


def test_an_empty_disk_finds_batches_by_the_names_of_their_files(
    tmp_path: Path, misbehaving_provider: Any
) -> None:
    server = misbehaving_provider(polls=3)
    text = MADE_UP + "[batches]\nmetadata = false\n"
    site = Site(tmp_path, {"ROCKET_BASE_URL": server.base_url, "ROCKET_KEY": server.api_key}, text)
    site.run(until_submitted=True)
    assert all(batch["metadata"] is None for batch in server.snapshot()["batches"])
    shutil.rmtree(tmp_path / ".bulkrate")
    assert site.run()["rows"]["succeeded"] == ROWS
    assert server.meter.rows_accepted == ROWS
    shutil.rmtree(tmp_path / ".bulkrate")
    assert site.run()["rows"]["succeeded"] == ROWS, "finished, its inputs kept as long as its results"
    assert server.meter.rows_accepted == ROWS


def test_the_key_is_asked_for_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ROCKET_KEY is not set"):
        Site(tmp_path, {}).run()


def test_facts_that_are_gone_stop_a_run_with_a_word(tmp_path: Path, misbehaving_provider: Any) -> None:
    server = misbehaving_provider()
    site = Site(tmp_path, {"ROCKET_BASE_URL": server.base_url, "ROCKET_KEY": server.api_key})
    (tmp_path / "facts" / "rocket.toml").rename(tmp_path / "facts" / "rockets.toml")
    with pytest.raises(ConfigError, match="no provider called rocket") as caught:
        site.run()
    assert caught.value.hint == "did you mean rockets?"


# -- servers without batches ----------------------------------------

ENGINE = """\
dated = 2026-11-24
source = "made up"
run_live = "never"
[server]
base_url = "http://localhost:1"
key_required = false
[requests]
choice = "structured_outputs"
[traits]
lanes = ["live"]
"""


@pytest.fixture
def live() -> Iterator[LiveProvider]:
    with serving(LiveProvider()) as provider:
        yield provider


def test_a_server_without_batches_answers_live_and_needs_no_key(tmp_path: Path, live: LiveProvider) -> None:
    site = Site(tmp_path, {"ENGINE_BASE_URL": live.base_url}, ENGINE, "engine")
    assert site.run(lane="live")["rows"]["succeeded"] == ROWS
    assert site.answers()[7]["output"] == "TICKET 7"
    assert set(live.answered.values()) == {1}


def test_the_bill_has_what_the_server_says_that_its_answers_cost(tmp_path: Path, live: LiveProvider) -> None:
    live.more_usage = {"cost": 0.00025}
    telling = ENGINE.replace("[requests]", '[requests]\ncost_field = "cost"')
    site = Site(tmp_path, {"ENGINE_BASE_URL": live.base_url}, telling, "engine")
    site.run(lane="live")
    with closing(site.space()) as space:
        found = spending_of(space.ledger, space.home, space.ledger.runs(), space.prices, by=("model",))
    assert found.whole.cost is None, "no price list has it"
    assert found.to_json()["reported_cost"] == f"{ROWS * Decimal('0.00025'):f}"
    assert found.reported_requests == ROWS
    assert f"for {ROWS} requests" in dict(pairs(found))["provider says"]


def test_a_batch_where_there_are_none_is_an_error_of_the_job(tmp_path: Path) -> None:
    site = Site(tmp_path, {}, ENGINE, "engine")
    path = tmp_path / "job.bulk.yaml"
    path.write_text(
        "name: rocket\nsource: {path: rows.jsonl, key: id}\n"
        "request:\n  model: engine/r-1\n  prompt: '{{ text }}'\nlane:\n  use: batch\n",
        encoding="utf-8",
    )
    with closing(site.space()) as space, pytest.raises(JobError) as caught:
        space.prepare(load_job(path))
    assert caught.value.message == f"{path}:7: lane.use: engine has no batch lane"
    assert caught.value.hint == "`lane.use: live` is what it has"
    with closing(site.space()) as space:
        assert space.ledger.runs() == []
    with pytest.raises(JobError, match=r"lane.use: engine has no batch lane"):
        site.run()


def test_a_rescue_needs_its_lane_too(tmp_path: Path) -> None:
    lane = {"rescue": "flex", "deadline": "2h"}
    with pytest.raises(JobError, match=r"lane.rescue: rocket has no flex lane"):
        Site(tmp_path, {"ROCKET_KEY": "k"}).run(lane=lane)


# -- what the odd ones need ----------------------------------------


def test_a_flex_tier_that_is_full_is_asked_again_later(tmp_path: Path) -> None:
    async def main(base_url: str) -> None:
        env = {"GROQ_BASE_URL": base_url.removesuffix("/v1"), "GROQ_API_KEY": "k"}
        connection = await get_provider("groq", env).connect("m", env=env, state_dir=tmp_path)
        try:
            with pytest.raises(QuotaError, match="498"):
                await connection.answer(b'{"model":"m"}', Lane.FLEX)
        finally:
            await connection.aclose()

    body = {"error": {"message": "over capacity", "code": "capacity_exceeded"}}
    with answering(498, body) as server:
        anyio.run(main, server.base_url)
    assert server.seen[0].path == "/openai/v1/chat/completions"
    assert json.loads(server.seen[0].body)["service_tier"] == "flex"


def test_a_create_call_says_that_it_is_the_same_until_its_batch_was_refused(tmp_path: Path) -> None:
    text = MADE_UP + '[batches]\nrepeat_header = "Idempotency-Key"\n'
    full = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}
    batch = {"id": "b-1", "status": "failed", "input_file_id": "f-1", "errors": {"data": [full]}}

    async def main(site: Site) -> None:
        connection = await get_provider("rocket", site.env).connect("m", env=site.env, state_dir=tmp_path)
        submission = Submission(Tag("a" * 10, 3, "0" * 32), "f-1", 1, io.BytesIO)
        try:
            await connection.create(submission)
            await connection.create(submission)
            await connection.status("b-1")
            await connection.create(submission)
        finally:
            await connection.aclose()

    with answering(200, batch) as server:
        anyio.run(main, Site(tmp_path, {"ROCKET_BASE_URL": server.base_url, "ROCKET_KEY": "k"}, text))
    words = [call.headers.get("idempotency-key") for call in server.seen if call.method == "POST"]
    assert words == ["aaaaaaaaaa-3-f-1-0", "aaaaaaaaaa-3-f-1-0", "aaaaaaaaaa-3-f-1-1"]


def test_togethers_own_sdk_and_its_types(misbehaving_provider: Any, tmp_path: Path) -> None:
    together = pytest.importorskip("together")
    server = misbehaving_provider(dialect="together")
    origin = server.base_url.removesuffix("/v1")
    env = {"TOGETHER_BASE_URL": origin, "TOGETHER_API_KEY": server.api_key}

    async def main() -> str:
        connection = await get_provider("together", {}).connect("m", env=env, state_dir=tmp_path)
        path = tmp_path / "lines.jsonl"
        path.write_text('{"custom_id":"a","body":{"model":"m","messages":[{"role":"user","content":"x"}]}}\n')
        try:
            with path.open("rb") as content:
                return str(await connection.upload("lines.jsonl", content))
        finally:
            await connection.aclose()

    file_id = anyio.run(main)
    client = together.Together(base_url=origin, api_key=server.api_key, max_retries=0)
    created = client.batches.create(endpoint="/v1/chat/completions", input_file_id=file_id)
    assert created.job.status == "VALIDATING"
    again = client.batches.create(endpoint="/v1/chat/completions", input_file_id=file_id)
    assert client.batches.cancel(again.job.id).id == again.job.id
    assert {job.id for job in client.batches.list()} == {created.job.id, again.job.id}
    while (job := client.batches.retrieve(created.job.id)).status != "COMPLETED":
        pass
    line = json.loads(client.files.content(job.output_file_id).read())
    assert line["response"]["body"]["choices"][0]["message"]["content"]
    assert client.files.list().data[0].filename == "lines.jsonl"
