"""The local provider through the whole pipeline, on the echo engine: true HTTP, a server of its own."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pytest

from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.providers.local.launch import find_server


@pytest.fixture
def folder(tmp_path: Path) -> Any:
    lines = [json.dumps({"id": f"T-{n}", "body": f"ticket {n}"}) for n in range(50)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    yield tmp_path
    server = find_server(tmp_path / ".bulkrate" / "server" / "echo")
    if server is not None:
        os.kill(server.pid, signal.SIGTERM)


def run(folder: Path, workspace: Workspace, between: Any = None) -> dict[str, Any]:
    job = load_job_mapping(
        {
            "name": "echoed",
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": {
                "model": "local/echo",
                "prompt": "{{ body }}",
                "output": {"choice": ["a", "b"]},
            },
            "sink": {"path": "answers.jsonl"},
            "reuse": "never",
        },
        folder,
    )
    prepared = workspace.prepare(job)
    prepared = workspace.approve(prepared, decide=lambda quote: False)
    if between is not None:
        between(prepared.id)
    done = anyio.run(lambda: workspace.advance(prepared.id, poll_s=0.02))
    return report(workspace.ledger, done)


def test_it_starts_a_server_and_needs_no_yes(folder: Path) -> None:
    workspace = Workspace(Home.find(folder, env={}), env={})
    result = run(folder, workspace)
    assert result["rows"]["succeeded"] == 50
    answers = [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]
    assert {line["output"] for line in answers} == {"a", "b"}


def test_a_proxy_in_the_environment_is_left_aside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert run(folder, Workspace(Home.find(folder, env={}), env={}))["rows"]["succeeded"] == 50


def test_a_server_killed_during_the_run_is_started_again(folder: Path) -> None:
    workspace = Workspace(Home.find(folder, env={}), env={})

    def kill(run_id: str) -> None:
        anyio.run(lambda: workspace.advance(run_id, poll_s=0.02, until_submitted=True))
        server = find_server(folder / ".bulkrate" / "server" / "echo")
        assert server is not None
        os.kill(server.pid, signal.SIGKILL)

    result = run(folder, workspace, between=kill)
    assert result["rows"]["succeeded"] == 50
    assert result["requests"] == {"sent": 50}
