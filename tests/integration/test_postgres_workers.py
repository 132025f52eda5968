"""Several processes on one ledger, on either database: a stopped one is replaced, and pays for nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger import Home
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import ProviderProcess

pytest_plugins = ["conformance.postgres"]

BULKRATE = str(Path(sys.executable).with_name("bulkrate"))
ROWS = 20


class Desk:
    """A folder with a job, a ledger somewhere, and the command run over them."""

    def __init__(self, folder: Path, ledger_url: str, provider: ProviderProcess) -> None:
        self.folder = folder
        self.ledger_url = ledger_url
        self.env = {
            "BULKRATE_HOME": str(folder / "state"),
            "BULKRATE_LEDGER": ledger_url,
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
            "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "1.5",
            "BULKRATE_LIMITS__UPLOAD_TIMEOUT_S": "1.5",
            "BULKRATE_LIMITS__LISTING_LAG_S": "0.2",
            "BULKRATE_LIMITS__LEASE_MARGIN_S": "0.2",
        }
        lines = [json.dumps({"id": number, "body": f"ticket {number}"}) for number in range(ROWS)]
        (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        for name in ("shared", "other"):
            path = folder / f"{name}.bulk.yaml"
            path.write_text(json.dumps(self.job(name)), encoding="utf-8")

    def job(self, name: str) -> dict[str, Any]:
        return {
            "name": name,
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": {
                "model": "openai/gpt-3.5-turbo",
                "prompt": f"{name}: {{{{ body }}}}",
                "max_output_tokens": 9,
            },
            "sink": {"path": f"{name}.jsonl"},
        }

    def approve(self, name: str) -> str:
        """A run that is approved, and that nobody drives yet."""
        workspace = Workspace(Home.find(env=self.env), env=self.env)
        try:
            run = workspace.prepare(load_job_mapping(self.job(name), self.folder))
            return workspace.approve(run, decide=lambda quote: True).id
        finally:
            workspace.close()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BULKRATE, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answers(self, name: str) -> bytes:
        return (self.folder / f"{name}.jsonl").read_bytes()


def said(process: subprocess.Popen[str], text: str) -> str:
    """The line on standard error that holds `text`; waits for it."""
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if text in line:
            return line
    raise AssertionError("".join(lines))


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.soak), "after"])
def test_a_process_stopped_inside_create_past_its_lease(
    tmp_path: Path, postgres_url: str, misbehaving_provider_process: Any, when: str
) -> None:
    provider = misbehaving_provider_process(f"hold_create=1,when={when}")
    desk = Desk(tmp_path, postgres_url, provider)
    command = ("run", "shared.bulk.yaml", "--yes", "--poll", "0.02", "--json")

    first = desk.start(*command)
    try:
        provider.wait("create_held", timeout_s=60)
        os.kill(first.pid, signal.SIGSTOP)
        # Refused with exit code 3 while the lease runs; each try takes about as long as a process does.
        for _ in range(60):
            second = desk.start(*command)
            out, errors = second.communicate(timeout=60)
            if second.returncode != 3:
                break
            assert "is being driven by" in errors
        assert second.returncode == 0, errors
        assert json.loads(out)["rows"]["succeeded"] == ROWS
        answers = desk.answers("shared")
        provider.release("create")
    finally:
        os.kill(first.pid, signal.SIGCONT)
        first.communicate(timeout=60)

    assert first.returncode in (0, 3)
    assert (provider.meter.batches_created, provider.meter.rows_accepted) == (1, ROWS)
    assert desk.answers("shared") == answers


def test_a_worker_takes_over_from_one_that_was_stopped(
    tmp_path: Path, ledger_url: str, misbehaving_provider_process: Any
) -> None:
    provider = misbehaving_provider_process("hold_create=1,when=after")
    desk = Desk(tmp_path, ledger_url, provider)
    run = desk.approve("shared")
    workers = [desk.start("worker", "--poll", "0.05")]
    try:
        provider.wait("create_held", timeout_s=60)
        os.kill(workers[0].pid, signal.SIGSTOP)
        workers.append(desk.start("worker", "--poll", "0.05"))
        assert f"{ROWS} of {ROWS} rows succeeded" in said(workers[1], f"run {run} of shared is finished")
        answers = desk.answers("shared")
        provider.release("create")
        os.kill(workers[0].pid, signal.SIGCONT)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        ends = [worker.communicate(timeout=60) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()

    assert [worker.returncode for worker in workers] == [0, 0], ends
    assert all("Traceback" not in errors for _, errors in ends)
    assert desk.answers("shared") == answers
    assert (provider.meter.batches_created, provider.meter.rows_accepted) == (1, ROWS)


def test_two_workers_share_the_runs(
    tmp_path: Path, postgres_url: str, misbehaving_provider_process: Any
) -> None:
    provider = misbehaving_provider_process()
    desk = Desk(tmp_path, postgres_url, provider)
    desk.approve("shared")
    workers = [desk.start("worker", "--poll", "0.05") for _ in range(2)]
    try:
        for worker in workers:
            said(worker, "working on the runs")
        desk.approve("other")
        # `wait` follows a run that another process drives.
        for name in ("shared", "other"):
            waiting = desk.start("wait", name, "--poll", "0.05", "--json")
            out, errors = waiting.communicate(timeout=60)
            assert waiting.returncode == 0, errors
            assert json.loads(out)["rows"]["succeeded"] == ROWS
        workers[0].send_signal(signal.SIGTERM)
        workers[1].send_signal(signal.SIGINT)
        ends = [worker.communicate(timeout=60) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert [worker.returncode for worker in workers] == [0, 0], ends
    assert (provider.meter.batches_created, provider.meter.rows_accepted) == (2, 2 * ROWS)
