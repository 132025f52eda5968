"""A worker that asks once an hour, and webhooks that tell it when to. True HTTP on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from standardwebhooks import Webhook

from bulkrate.core.run_states import RunState
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.hints import Bell
from bulkrate.pipeline.tick import LOOK_S
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.clock import EPOCH
from bulkrate.testing.webhooks import WEBHOOK_SECRET
from bulkrate.webhooks.app import MAX_BODY_BYTES
from bulkrate.webhooks.hearing import hearing

BULKRATE = str(Path(sys.executable).with_name("bulkrate"))
ROWS = 6
HOUR_S = 3_600.0


class SteppedClock(FakeClock):
    """Time that passes while `steps` last, one at the beginning of each sleep; then it stops, and whoever
    sleeps is woken by somebody or never."""

    def __init__(self, *steps: Callable[[], object]) -> None:
        super().__init__()
        self.steps = list(steps)

    async def sleep(self, seconds: float) -> None:
        if not self.steps:
            await anyio.sleep(30)
            raise AssertionError("nobody came")
        self.steps.pop(0)()
        await super().sleep(seconds)


class Desk:
    """A workspace with approved runs, and their provider."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, SteppedClock()
        self.env = {
            "OPENAI_WEBHOOK_SECRET": WEBHOOK_SECRET,
            "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "5",
            "BULKRATE_LIMITS__LISTING_LAG_S": "0",
        }
        self.workspace = Workspace(Home.find(folder, env={}), clock=self.clock, env=self.env)

    @property
    def ledger(self) -> Ledger:
        return self.workspace.ledger

    def hearing(self, bell: Bell) -> AbstractContextManager[dict[str, str]]:
        return hearing(self.env, self.ledger, bell, host="127.0.0.1", port=0, now=self.clock.now)

    def hint(self, run: RunRecord, message: str = "wh_1") -> None:
        """What the listener of another process does."""
        with self.ledger.transaction("hint") as tx:
            assert tx.add_hint("openai", message, self.ledger.batches(run.id)[0].id, self.clock.now())

    def approve(self, provider: MisbehavingProvider, name: str = "hooked") -> RunRecord:
        self.env |= {"OPENAI_API_KEY": provider.api_key, "OPENAI_BASE_URL": provider.base_url}
        lines = [json.dumps({"id": number, "body": f"{name} {number}"}) for number in range(ROWS)]
        (self.folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        document = {
            "name": name,
            "source": {"path": f"{name}.jsonl", "key": "id"},
            "request": {"model": "openai/gpt-3.5-turbo", "prompt": "{{ body }}", "max_output_tokens": 9},
            "sink": {"path": f"{name}.out.jsonl"},
        }
        run = self.workspace.prepare(load_job_mapping(document, self.folder))
        return self.workspace.approve(run, decide=lambda quote: True)

    async def work(self, bell: Bell | None = None) -> None:
        """Work, asking once an hour, until a run is finished."""
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:

                def failed(run: RunRecord | None, error: Exception) -> None:
                    raise error

                await self.workspace.work(
                    poll_s=HOUR_S,
                    on_error=failed,
                    on_finished=lambda run: group.cancel_scope.cancel(),
                    bell=bell,
                )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.workspace.close()


@pytest.mark.parametrize("fault", ["", "webhook_twice=1"])
def test_a_worker_that_asks_once_an_hour_is_woken(desk: Desk, misbehaving_provider: Any, fault: str) -> None:
    before_at = desk.clock.now()

    async def main() -> tuple[RunRecord, MisbehavingProvider]:
        bell = Bell()
        with desk.hearing(bell) as urls:
            provider = misbehaving_provider(fault, polls=9, now=desk.clock.now, webhook=urls["openai"])
            run = desk.approve(provider)
            async with anyio.create_task_group() as group:
                group.start_soon(desk.work, bell)
                await anyio.to_thread.run_sync(provider.wait, "status_answered")
                await anyio.to_thread.run_sync(provider.advance)
            await anyio.to_thread.run_sync(provider.wait, "webhook_accepted", 2 if fault else 1)
        return run, provider

    run, provider = anyio.run(main)
    assert desk.workspace.run(run.id).state is RunState.FINISHED
    assert desk.ledger.balance(run.id).succeeded == ROWS
    assert desk.clock.now() == before_at
    assert provider.meter.status_calls == 2
    assert len(desk.ledger.hints([run.id])) == 1


@pytest.mark.parametrize("fault", ["webhook_forged=1", "webhook_stale=1"])
def test_what_is_not_genuine_is_refused_and_recorded_nowhere(
    desk: Desk, misbehaving_provider: Any, fault: str
) -> None:
    async def main() -> tuple[RunRecord, bool]:
        bell = Bell()
        with desk.hearing(bell) as urls:
            provider = misbehaving_provider(fault, polls=9, now=desk.clock.now, webhook=urls["openai"])
            run = desk.approve(provider)
            await desk.workspace.advance(run.id, timeout_s=0)
            provider.advance()
            await anyio.to_thread.run_sync(provider.wait, "webhook_refused")
        return run, bell.rung

    run, rung = anyio.run(main)
    assert desk.ledger.hints([run.id]) == []
    assert not rung


def test_a_message_that_comes_when_all_is_done_changes_nothing(desk: Desk, misbehaving_provider: Any) -> None:
    async def main() -> RunRecord:
        bell = Bell()
        with desk.hearing(bell) as urls:
            faults = "webhook_late=1,calls=2 webhook_lost=1,skip=1"
            provider = misbehaving_provider(faults, polls=9, now=desk.clock.now, webhook=urls["openai"])
            run, lost = desk.approve(provider), desk.approve(provider, "lost")
            for item in (run, lost):
                await desk.workspace.advance(item.id, timeout_s=0)
            provider.advance()
            for item in (run, lost):
                await desk.workspace.advance(item.id, timeout_s=0)
            await anyio.to_thread.run_sync(provider.wait, "webhook_accepted")
            assert provider.snapshot()["events"]["webhook_accepted"] == 1
            assert desk.ledger.hints([lost.id]) == []
            return await desk.workspace.advance(run.id, timeout_s=0)

    run = anyio.run(main)
    assert run.state is RunState.FINISHED
    assert len(desk.ledger.hints([run.id])) == 1


def test_a_worker_hears_of_it_at_its_next_look_when_another_process_listens(
    desk: Desk, misbehaving_provider: Any
) -> None:
    provider = misbehaving_provider(polls=9, now=desk.clock.now)
    run = desk.approve(provider)
    desk.clock.steps = [lambda: (provider.advance(), desk.hint(run))]
    anyio.run(desk.work)
    assert desk.ledger.balance(run.id).succeeded == ROWS
    assert desk.clock.sleeps_s == [LOOK_S]


def test_so_does_whoever_waits_for_one_run(desk: Desk, misbehaving_provider: Any) -> None:
    provider = misbehaving_provider(polls=9, now=desk.clock.now)
    run = desk.approve(provider)
    desk.clock.steps = [lambda: (provider.advance(), desk.hint(run))]
    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=HOUR_S))
    assert desk.ledger.balance(run.id).succeeded == ROWS
    assert desk.clock.sleeps_s == [LOOK_S]


@pytest.mark.parametrize("driver", ["worker", "one run"])
def test_a_hint_that_comes_before_the_end_leads_to_one_question(
    desk: Desk, misbehaving_provider: Any, driver: str
) -> None:
    provider = misbehaving_provider(polls=9, now=desk.clock.now)
    run = desk.approve(provider)
    asked: list[int] = []

    def look() -> None:
        asked.append(provider.meter.status_calls)

    desk.clock.steps = [
        lambda: desk.hint(run),
        look,
        look,
        look,
        lambda: (provider.advance(), desk.hint(run, "2")),
    ]
    if driver == "worker":
        anyio.run(desk.work)
    else:
        anyio.run(lambda: desk.workspace.advance(run.id, poll_s=HOUR_S))
    assert asked == [2, 2, 2]
    assert provider.meter.status_calls == 3


def test_whoever_said_later_is_not_asked_sooner(desk: Desk, misbehaving_provider: Any) -> None:
    provider = misbehaving_provider("status_429=1,retry_after=12", polls=9, now=desk.clock.now)
    run = desk.approve(provider)
    at: list[float] = []

    def look() -> None:
        at.append(provider.snapshot()["events"]["status_arrived"])

    desk.clock.steps = [lambda: desk.hint(run), look, look, provider.advance, look]
    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=7.0))
    assert at == [1, 1, 2]
    assert desk.clock.sleeps_s == [5.0, 5.0, 2.0, 5.0, 2.0]


SIGNED = '{"type":"batch.completed","data":{"id":"batch_of_another_system"}}'


def post(url: str, body: bytes, *, path: str = "", message: str = "wh_9", signed: bytes | None = None) -> int:
    at = EPOCH
    signature = Webhook(WEBHOOK_SECRET).sign(message, at, (signed or body).decode())
    headers = {"webhook-id": message, "webhook-timestamp": str(int(at.timestamp()))}
    where = urlsplit(url)
    connection = HTTPConnection(where.netloc)
    try:
        connection.request("POST", path or where.path, body, {**headers, "webhook-signature": signature})
        return connection.getresponse().status
    finally:
        connection.close()


def test_what_is_answered_to_whom(desk: Desk) -> None:
    other = b'{"type":"response.completed","data":{"id":"resp_1"}}'

    async def main() -> tuple[list[int], list[bool]]:
        statuses, rings, bell = [], [], Bell()
        with desk.hearing(bell) as urls:
            for case in (
                partial(post, body=SIGNED.encode(), path="/webhooks/anthropic"),
                partial(post, body=SIGNED.encode(), path="/"),
                partial(post, body=b" " * (MAX_BODY_BYTES + 1)),
                partial(post, body=SIGNED.encode(), signed=b"something else"),
                partial(post, body=b"[]"),
                partial(post, body=other),
                partial(post, body=SIGNED.encode()),
                partial(post, body=SIGNED.encode()),
                partial(post, body=SIGNED.encode(), message="wh_10"),
            ):
                statuses.append(await anyio.to_thread.run_sync(partial(case, urls["openai"])))
                await anyio.lowlevel.checkpoint()
                rings.append(bell.rung)
                await bell.sleep(FakeClock(), 0)
        return statuses, rings

    statuses, rings = anyio.run(main)
    assert statuses == [404, 404, 413, 401, 400, 200, 200, 200, 200]
    assert rings == [False] * 6 + [True, False, True]


def test_the_ledger_that_cannot_be_written_makes_it_come_again(desk: Desk) -> None:
    async def main() -> list[int]:
        statuses = []
        with desk.hearing(Bell()) as urls:
            for version in ("unknown", None):
                with desk.ledger.transaction("break") as tx:
                    name = "hints" if version is None else "aside"
                    new = "aside" if version is None else "hints"
                    tx._connection.exec_driver_sql(f"ALTER TABLE {new} RENAME TO {name}")
                statuses.append(
                    await anyio.to_thread.run_sync(partial(post, urls["openai"], SIGNED.encode()))
                )
        return statuses

    assert anyio.run(main) == [503, 200]


def test_the_command_listens_until_it_is_stopped(tmp_path: Path) -> None:
    env = {**os.environ, "BULKRATE_HOME": str(tmp_path), "OPENAI_WEBHOOK_SECRET": WEBHOOK_SECRET}
    command = [BULKRATE, "worker", "--listen", "127.0.0.1:0"]
    worker = subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert worker.stderr is not None
    try:
        first = worker.stderr.readline()
        url = first.split()[-1]
        assert url.endswith("/webhooks/openai"), first
        # A time of last January is refused; that anybody answers is what is to be seen.
        assert post(url, SIGNED.encode()) == 401
    finally:
        worker.send_signal(signal.SIGTERM)
        rest = worker.communicate(timeout=60)[1]
    assert worker.returncode == 0
    assert "stopped; state is saved" in rest
    assert WEBHOOK_SECRET not in first + rest


def test_the_command_does_not_listen_without_a_secret(tmp_path: Path) -> None:
    env = {**os.environ, "BULKRATE_HOME": str(tmp_path), "OPENAI_WEBHOOK_SECRET": ""}
    command = [BULKRATE, "worker", "--listen", "127.0.0.1:0"]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error[no_webhook_secret]: ")
    assert "OPENAI_WEBHOOK_SECRET is not set" in done.stderr
