"""A run's files that somebody deleted, while the ledger still counts on them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from live_app import LiveProvider, serving
from moments import at
from table_desk import ROWS, Desk

from bulkrate import signals
from bulkrate.core.run_states import RunState
from bulkrate.errors import LedgerError
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.workspace import Workspace


@pytest.fixture
def desk(tmp_path: Path, misbehaving_provider: Any) -> Desk:
    desk = Desk(tmp_path, misbehaving_provider())
    desk.write(ROWS)
    return desk


@contextmanager
def live_desk(folder: Path) -> Iterator[tuple[Workspace, LiveProvider]]:
    lines = [json.dumps({"id": f"T-{n}", "body": f"ticket {n}"}) for n in range(10)]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    with serving(LiveProvider()) as live:
        env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": live.base_url}
        yield Workspace(Home.find(folder, env={}), env=env), live


def live_job(folder: Path) -> Any:
    document = {
        "name": "live",
        "source": {"path": "rows.jsonl", "key": "id"},
        "request": {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 20},
        "lane": "live",
        "sink": {"path": "answers.jsonl"},
    }
    return load_job_mapping(document, folder)


def folder_of(desk: Desk, run: str) -> Path:
    return desk.workspace.home.run_dir(run)


def test_recollect_without_the_raw_files_takes_no_answer_away(desk: Desk) -> None:
    run = desk.run()["run"]
    before = (desk.folder / "answers.jsonl").read_bytes()
    shutil.rmtree(folder_of(desk, run) / "raw")
    with pytest.raises(LedgerError, match=r"is gone: .*00000\.output"):
        desk.workspace.recollect(run)
    desk.workspace.deliver(run)
    assert (desk.folder / "answers.jsonl").read_bytes() == before
    assert desk.workspace.ledger.balance(run).succeeded == 30


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def change_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("harm", [Path.unlink, cut_short, change_a_byte])
def test_results_that_landed_and_are_lost_land_again(desk: Desk, harm: Callable[[Path], object]) -> None:
    run = desk.workspace.prepare(desk.job()).id
    output = folder_of(desk, run) / "raw" / "00000.output.jsonl.zst"
    with at("ledger.results_landed.after", lambda: harm(output)):
        result = desk.run()
    assert result["rows"]["succeeded"] == 30
    assert desk.accepted() == 30
    (event,) = desk.workspace.ledger.events(run, kind="results_lost")
    assert "00000.output" in (event.detail_json or "")


def test_a_disk_that_keeps_losing_results_is_named(desk: Desk) -> None:
    run = desk.workspace.prepare(desk.job()).id
    raw = folder_of(desk, run) / "raw"

    def lose(moment: str) -> None:
        if moment == "ledger.results_landed.after":
            shutil.rmtree(raw)

    signals.listen(lose)
    try:
        with pytest.raises(LedgerError, match=r"is gone: .*00000\.output"):
            desk.run()
    finally:
        signals.listen(None)
    assert desk.workspace.ledger.balance(run).pending == 30
    assert desk.accepted() == 30


class Loss:
    """The results of a shard are lost here, once landed, and deleted at the provider."""

    def __init__(self, desk: Desk, kept: Path) -> None:
        self.desk, self.kept, self.happened = desk, kept, False
        desk.workspace.env["BULKRATE_LIMITS__REQUESTS"] = "15"
        self.run = desk.workspace.prepare(desk.job()).id
        self.path = folder_of(desk, self.run) / "raw" / "00000.output.jsonl.zst"

    def act(self) -> None:
        self.path.rename(self.kept)
        headers = {"Authorization": f"Bearer {self.desk.provider.api_key}"}
        (batch,) = [each for each in self.desk.workspace.ledger.batches(self.run) if each.shard == 0]
        for _, file_id in json.loads(batch.results_json):
            reply = httpx2.delete(f"{self.desk.provider.base_url}/files/{file_id}", headers=headers)
            assert reply.status_code == 200

    def happens(self) -> None:
        with pytest.raises(LedgerError, match=r"answers to 15 requests of shard 0 .* openai has it no more"):
            self.desk.run()


@pytest.fixture
def loss(desk: Desk, tmp_path: Path) -> Iterator[Loss]:
    loss = Loss(desk, tmp_path / "kept")

    def listener(moment: str) -> None:
        if moment == "ledger.results_landed.after" and loss.path.exists() and not loss.happened:
            loss.happened = True
            loss.act()

    signals.listen(listener)
    yield loss
    signals.listen(None)


def test_results_that_nobody_has_any_more_are_an_error_and_the_others_are_kept(loss: Loss) -> None:
    loss.happens()
    balance = loss.desk.workspace.ledger.balance(loss.run)
    assert (balance.succeeded, balance.pending) == (15, 15)
    loss.happens()  # and it stays one: the next command pays for nothing either
    assert loss.desk.accepted() == 30
    loss.kept.rename(loss.path)
    assert loss.desk.run()["rows"]["succeeded"] == 30
    assert loss.desk.accepted() == 30


def test_a_run_whose_results_are_lost_can_be_ended_and_its_rows_paid_for_again(loss: Loss) -> None:
    loss.happens()
    workspace = loss.desk.workspace
    workspace.cancel(loss.run)
    ended = anyio.run(lambda: workspace.advance(loss.run, poll_s=0.01))
    assert ended.state is RunState.FINISHED
    balance = workspace.ledger.balance(loss.run)
    assert (balance.succeeded, balance.failed) == (15, 15)
    assert loss.desk.accepted() == 30
    assert workspace.retry(loss.run) == 15
    assert loss.desk.run()["rows"]["succeeded"] == 30
    assert loss.desk.accepted() == 45


def test_a_file_that_is_gone_is_believed_to_be_by_ticks_too(desk: Desk) -> None:
    """Each tick is a process of its own, and asks once."""
    desk.provider.set_faults("download_error=6,status=404")
    run = desk.workspace.prepare(desk.job())
    desk.workspace.approve(run, decide=lambda quote: True)
    for _ in range(40):
        anyio.run(lambda: desk.workspace.tick(poll_s=0))
        if desk.workspace.run(run.id).state is RunState.FINISHED:
            break
    assert desk.workspace.ledger.balance(run.id).succeeded == 30
    assert desk.accepted() == 60
    assert len(desk.workspace.ledger.events(run.id, kind="not_found")) == 6


def test_answers_to_single_calls_land_again_from_their_log(tmp_path: Path) -> None:
    with live_desk(tmp_path) as (space, live):
        run = space.approve(space.prepare(live_job(tmp_path)), decide=lambda quote: True).id
        raw = space.home.run_dir(run) / "raw"
        with at("ledger.results_landed.after", lambda: shutil.rmtree(raw)):
            anyio.run(lambda: space.advance(run))
        assert space.ledger.balance(run).succeeded == 10
        assert live.answered.total() == 10


def test_answers_to_single_calls_that_are_lost_altogether_are_not_asked_for_again(tmp_path: Path) -> None:
    with live_desk(tmp_path) as (space, live):
        run = space.approve(space.prepare(live_job(tmp_path)), decide=lambda quote: True).id
        log = space.home.run_dir(run) / "answers"
        with (
            at("ledger.all_answered.after", lambda: log.rename(tmp_path / "kept")),
            pytest.raises(LedgerError, match=r"answers to 10 requests of shard 0 .* nobody else has them"),
        ):
            anyio.run(lambda: space.advance(run))
        (tmp_path / "kept").rename(log)
        anyio.run(lambda: space.advance(run))
        assert space.ledger.balance(run).succeeded == 10
        assert live.answered.total() == 10


@pytest.mark.parametrize("part", ["partitions", "outcomes", "."])
def test_a_lost_file_is_named_and_nothing_is_sent(desk: Desk, part: str) -> None:
    run = desk.run()["run"]
    shutil.rmtree(folder_of(desk, run) / part)
    (desk.folder / "answers.jsonl").unlink()
    with pytest.raises(LedgerError, match="is gone"):
        desk.run()
    assert desk.accepted() == 30


@pytest.mark.parametrize("part", ["partitions", "outcomes"])
def test_answers_of_an_earlier_run_that_are_lost_are_not_paid_for_again_unasked(
    desk: Desk, part: str
) -> None:
    run = desk.run()["run"]
    shutil.rmtree(folder_of(desk, run) / part)
    desk.write(ROWS[:20])
    with pytest.raises(LedgerError, match="is gone"):
        desk.run()
    assert desk.accepted() == 30
