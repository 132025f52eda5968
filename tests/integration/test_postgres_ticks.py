"""Ticks and the daemon loop over them, in virtual time, with a misbehaving provider, on either database."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from bulkrate.core.pacing import Pacing
from bulkrate.core.run_states import RunState
from bulkrate.errors import LedgerError
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger import Home, RunRecord
from bulkrate.ledger.opening import make_engine, url_of
from bulkrate.pipeline.tick import LOOK_S, Cadence
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import FakeClock, MisbehavingProvider

pytest_plugins = ["conformance.postgres"]

ROWS = 6


class Desk:
    """A workspace in virtual time, and jobs that are approved in it."""

    def __init__(self, folder: Path, ledger_url: str, provider: MisbehavingProvider) -> None:
        self.folder = folder
        self.clock = FakeClock()
        env = {
            "BULKRATE_LEDGER": ledger_url,
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
        }
        self.workspace = Workspace(Home.find(folder, env={}), env=env, clock=self.clock)
        lines = [json.dumps({"id": number, "body": f"ticket {number}"}) for number in range(ROWS)]
        (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def approve(self, name: str) -> str:
        document = {
            "name": name,
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": {
                "model": "openai/gpt-4o-mini",
                "prompt": f"{name} {{{{ body }}}}",
                "max_output_tokens": 9,
            },
            "sink": {"path": f"{name}.jsonl"},
        }
        run = self.workspace.prepare(load_job_mapping(document, self.folder))
        self.clock.advance(1)
        return self.workspace.approve(run, decide=lambda quote: True).id

    def states(self) -> dict[str, str]:
        return {run.job_name: str(run.state) for run in self.workspace.ledger.runs()}

    def tick(self, **options: Any) -> list[RunRecord]:
        """What cron does, and a minute passes."""
        self.clock.advance(60)
        return anyio.run(lambda: self.workspace.tick(**options))

    def lose_files(self, run: str) -> None:
        """Make the run fail: what it needs to go on is gone."""
        for path in (self.workspace.home.run_dir(run)).rglob("*"):
            if path.is_file() and path.name != "lock":
                path.unlink()


@pytest.fixture
def provider(misbehaving_provider: Any) -> MisbehavingProvider:
    made: MisbehavingProvider = misbehaving_provider(polls=3)
    return made


@pytest.fixture
def desk(tmp_path: Path, ledger_url: str, provider: MisbehavingProvider) -> Iterator[Desk]:
    desk = Desk(tmp_path, ledger_url, provider)
    yield desk
    desk.workspace.close()


def test_ticks_from_cron_finish_what_can_be_finished(desk: Desk, provider: MisbehavingProvider) -> None:
    provider.set_faults("stuck=1,phase=in_progress")
    stuck = desk.approve("stuck")
    desk.tick()
    for name in ("one", "two"):
        desk.approve(name)
    ticks = 1
    while desk.states() != {"stuck": "active", "one": "finished", "two": "finished"}:
        ticked = desk.tick()
        ticks += 1
        assert ticked[0].job_name == "stuck", "the oldest first"
        assert ticks < 20
    assert len((desk.folder / "one.jsonl").read_text().splitlines()) == ROWS
    assert [run.id for run in desk.tick()] == [stuck]

    provider.advance()
    desk.tick()
    assert set(desk.states().values()) == {"finished"}
    assert desk.tick() == []
    assert (provider.meter.batches_created, provider.meter.rows_accepted) == (3, 3 * ROWS)


def test_a_run_that_is_not_approved_is_left_alone(desk: Desk, provider: MisbehavingProvider) -> None:
    document = {
        "name": "asked",
        "source": {"path": "rows.jsonl", "key": "id"},
        "request": {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 9},
        "sink": {"path": "asked.jsonl"},
    }
    desk.workspace.prepare(load_job_mapping(document, desk.folder))
    assert desk.tick() == []
    assert desk.states() == {"asked": "ready"}
    assert provider.meter.uploads == 0


def test_a_run_that_fails_stops_no_other(desk: Desk) -> None:
    broken = desk.approve("broken")
    desk.lose_files(broken)
    desk.approve("whole")
    heard: list[tuple[str, Exception]] = []

    def hear(run: RunRecord | None, error: Exception) -> None:
        assert run is not None
        heard.append((run.job_name, error))

    while desk.states()["whole"] != "finished":
        desk.tick(on_error=hear)
        assert len(heard) < 20
    assert {name for name, _ in heard} == {"broken"}
    with pytest.raises(ExceptionGroup, match="1 of 1 runs") as caught:
        desk.tick()
    assert caught.value.exceptions[0].__notes__ == [f"run {broken} of broken"]


def test_a_busy_run_is_skipped(desk: Desk, provider: MisbehavingProvider) -> None:
    busy, free = desk.approve("busy"), desk.approve("free")
    with desk.workspace.ledger.transaction("take") as tx:
        tx.take_run(busy, desk.clock.now(), holder="another machine", lease_s=3_600)
    assert [run.id for run in desk.tick()] == [busy, free]
    assert desk.workspace.ledger.batches(busy) == []
    assert len(desk.workspace.ledger.batches(free)) == 1
    desk.clock.advance(3_600 + 300)  # its lease, and what clocks may differ
    desk.tick()
    assert len(desk.workspace.ledger.batches(busy)) == 1


def test_work_goes_on_until_it_is_cancelled(desk: Desk, provider: MisbehavingProvider) -> None:
    provider.set_faults("stuck=1,phase=in_progress")
    desk.approve("stuck")
    anyio.run(desk.workspace.tick)
    desk.approve("one")
    finished: list[str] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:

            def done(run: RunRecord) -> None:
                finished.append(run.job_name)
                if finished == ["one"]:
                    desk.approve("late")  # by somebody else, meanwhile
                elif finished == ["one", "late"]:
                    provider.advance()
                else:
                    scope.cancel()

            def failed(run: RunRecord | None, error: Exception) -> None:
                raise AssertionError from error

            await desk.workspace.work(on_error=failed, on_finished=done)

    anyio.run(main)
    assert finished == ["one", "late", "stuck"]
    assert (provider.meter.batches_created, provider.meter.rows_accepted) == (3, 3 * ROWS)
    assert all(seconds <= LOOK_S for seconds in desk.clock.sleeps_s)


def test_work_outlasts_a_ledger_that_cannot_be_read(desk: Desk, ledger_url: str) -> None:
    desk.approve("one")
    engine = make_engine(url_of(ledger_url))

    def rename(old: str, new: str) -> None:
        with engine.begin() as connection:
            connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}"))

    heard: list[Exception] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:

            def failed(run: RunRecord | None, error: Exception) -> None:
                assert run is None
                heard.append(error)
                if len(heard) == 3:
                    rename("away", "runs")

            rename("runs", "away")
            await desk.workspace.work(on_error=failed, on_finished=lambda run: scope.cancel())

    anyio.run(main)
    engine.dispose()
    assert [type(error) for error in heard] == [LedgerError] * 3
    assert desk.states() == {"one": "finished"}


class TestCadence:
    def run_record(self, name: str, desk: Desk) -> RunRecord:
        return desk.workspace.run(desk.approve(name))

    def test_a_run_to_which_nothing_happens_is_looked_at_ever_less_often(self, desk: Desk) -> None:
        run, now = self.run_record("one", desk), desk.clock.now()
        cadence = Cadence(Pacing(), jitter=lambda: 0.0)
        assert cadence.due([run], now) == [run]
        gaps = []
        for _ in range(200):
            cadence.advanced(run.id, desk.clock.now(), changed=False)
            before = desk.clock.now()
            while not cadence.due([run], desk.clock.now()):
                desk.clock.advance(cadence.sleep_s(desk.clock.now()))
            gaps.append((desk.clock.now() - before).total_seconds())
        assert gaps == sorted(gaps)
        assert (gaps[0], gaps[-1]) == (2.0, 60.0)
        cadence.advanced(run.id, desk.clock.now(), changed=True)
        assert cadence.sleep_s(desk.clock.now()) == 2.0

    def test_jitter_spreads_and_forgotten_runs_do_not_count(self, desk: Desk) -> None:
        run, now = self.run_record("one", desk), desk.clock.now()
        cadence = Cadence(Pacing(), jitter=random.Random(7).random)
        delays = set()
        for _ in range(5):
            cadence.advanced(run.id, now, changed=True)
            delays.add(cadence.sleep_s(now))
        assert len(delays) == 5
        assert all(2.0 <= delay <= 2.2 for delay in delays)
        assert cadence.due([], now) == []
        assert cadence.sleep_s(now) == LOOK_S
        assert run.state is RunState.ACTIVE
