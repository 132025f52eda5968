"""The verbs for several processes on a PostgreSQL ledger, and what a broken one makes them say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bulkrate.errors import LedgerError
from bulkrate.ledger import Ledger

pytest_plugins = ["conformance.postgres"]

BULKRATE = str(Path(sys.executable).with_name("bulkrate"))


class Desk:
    """A folder with a job, and the command run in it."""

    def __init__(self, folder: Path, ledger_url: str, provider: Any) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "BULKRATE_HOME": str(folder / "state"),
            "BULKRATE_LEDGER": ledger_url,
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
        }
        (folder / "rows.jsonl").write_text('{"id": 1, "body": "ticket"}\n', encoding="utf-8")
        job = {
            "name": "tickets",
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": {"model": "openai/gpt-3.5-turbo", "prompt": "{{ body }}", "max_output_tokens": 9},
            "sink": {"path": "answers.jsonl"},
        }
        (folder / "tickets.bulk.yaml").write_text(json.dumps(job), encoding="utf-8")

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [BULKRATE, *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def desk(tmp_path: Path, postgres_url: str, misbehaving_provider: Any) -> Desk:
    return Desk(tmp_path, postgres_url, misbehaving_provider(polls=2))


def test_submit_then_ticks_until_nothing_is_left(desk: Desk) -> None:
    submitted = desk("submit", "tickets.bulk.yaml", "--yes", "--json")
    assert submitted.returncode == 0, submitted.stderr
    run = json.loads(submitted.stdout)["run"]
    state = ""
    for _ in range(10):
        ticked = desk("tick", "--json")
        assert ticked.returncode == 0, ticked.stderr
        document = json.loads(ticked.stdout)
        assert document["errors"] == []
        ((state, rows),) = [(run["state"], run["rows"]) for run in document["runs"]]
        if state == "finished":
            break
    assert (state, rows["succeeded"], document["runs"][0]["run"]) == ("finished", 1, run)
    assert (desk.folder / "answers.jsonl").exists()
    assert not (desk.folder / "state" / "ledger.sqlite").exists()
    quiet = desk("tick")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", ""), "cron mails whatever is said"


def test_a_run_that_cannot_be_advanced_is_exit_code_1(desk: Desk) -> None:
    run = json.loads(desk("submit", "tickets.bulk.yaml", "--yes", "--json").stdout)["run"]
    del desk.env["OPENAI_API_KEY"]
    ticked = desk("tick", "--json")
    assert ticked.returncode == 1
    (error,) = json.loads(ticked.stdout)["errors"]
    assert (error["run"], error["code"]) == (run, "no_key")
    assert f"error[no_key]: run {run} of tickets: " in ticked.stderr
    assert "Traceback" not in ticked.stderr
    shown = desk("tick")
    assert (shown.returncode, shown.stdout.splitlines()[0].split()[:3]) == (1, ["RUN", "JOB", "STATE"])


def test_a_ledger_that_cannot_be_reached_is_one_sentence_without_the_password(desk: Desk) -> None:
    for url in (
        "postgresql://user:secret@127.0.0.1:1/database",
        "postgres://user@127.0.0.1:1/database?password=secret",
    ):
        desk.env["BULKRATE_LEDGER"] = url
        done = desk("list")
        assert done.returncode == 2
        assert done.stderr.startswith("error[ledger]: the ledger postgresql+psycopg://user")
        assert "hint: check that the server runs" in done.stderr
        assert "secret" not in done.stdout + done.stderr


def test_an_empty_variable_means_the_usual_ledger(desk: Desk) -> None:
    desk.env["BULKRATE_LEDGER"] = ""
    assert desk("list").returncode == 0
    assert (desk.folder / "state" / "ledger.sqlite").exists()


def test_what_the_server_is_set_to_does_not_weaken_the_ledger(postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as raw:
        assert raw.execute("SHOW synchronous_commit").fetchone() == ("off",)
    with Ledger.open(postgres_url) as ledger, ledger._engine.connect() as connection:
        shown = {
            name: connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout")
        }
    assert shown == {
        "synchronous_commit": "on",
        "lock_timeout": "30s",
        "idle_in_transaction_session_timeout": "20s",
    }


def test_a_lost_connection_fails_one_transaction_and_no_more(postgres_url: str) -> None:
    with Ledger.open(postgres_url) as ledger, psycopg.connect(postgres_url, autocommit=True) as raw:
        ledger.runs()  # leaves a connection in the pool

        def cut() -> None:
            raw.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

        cut()
        assert ledger.runs() == []
        with pytest.raises(LedgerError), ledger.transaction("cut") as transaction:
            cut()
            transaction.delete_run("nobody")
        assert ledger.runs() == []
