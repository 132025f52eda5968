"""kill -9 of `bulkrate run` before and after each of its effects; the same command again finishes the job.

Every effect of the protocol and every ledger transaction announces itself; the run is killed at each of
these moments, in a real process, against a provider in another. Then the same command must deliver every
row, and the provider must have accepted each row exactly once.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkrate.testing import ProviderProcess

ROWS = 40
DYING = Path(__file__).with_name("dying_run.py")

# Every moment of a run without faults, in order; `test_the_list_is_whole` keeps it true.
MOMENTS = [
    "ledger.begin.before",
    "ledger.begin.after",
    "ledger.assembled.before",
    "ledger.assembled.after",
    "ledger.approved.before",
    "ledger.approved.after",
    "ledger.take.before",
    "ledger.take.after",
    "adopt.before",
    "adopt.after",
    "ledger.upload_intended.before",
    "ledger.upload_intended.after",
    "upload.before",
    "upload.after",
    "ledger.upload_answered.before",
    "ledger.upload_answered.after",
    "ledger.create_intended.before",
    "ledger.create_intended.after",
    "create.before",
    "create.after",
    "ledger.create_answered.before",
    "ledger.create_answered.after",
    "poll.before",
    "poll.after",
    "ledger.progress.before",
    "ledger.progress.after",
    "ledger.batch_ended.before",
    "ledger.batch_ended.after",
    "download.before",
    "download.after",
    "ledger.results_landed.before",
    "ledger.results_landed.after",
    "ledger.collected.before",
    "ledger.collected.after",
    "ledger.settled.before",
    "ledger.settled.after",
    "deliver.before",
    "deliver.after",
    "ledger.delivered.before",
    "ledger.delivered.after",
    "ledger.release.before",
    "ledger.release.after",
]


@pytest.fixture(scope="module")
def provider() -> Iterator[ProviderProcess]:
    with ProviderProcess("", seed=1) as process:
        yield process


class Job:
    """A job in a folder of its own, run as a user would."""

    def __init__(self, folder: Path, provider: ProviderProcess) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "BULKRATE_HOME": str(folder / "state"),
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
            "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "0.5",
            "BULKRATE_LIMITS__LISTING_LAG_S": "0.2",
        }
        with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "body"])
            writer.writerows([f"T-{number}", f"{folder.name} ticket {number}"] for number in range(ROWS))
        job = {
            "name": "killed",
            "source": {"path": "rows.csv", "key": "id"},
            "request": {
                "model": "openai/gpt-3.5-turbo",
                "prompt": "Say it: {{ body }}",
                "max_output_tokens": 9,
            },
            "sink": {"path": "answers.jsonl"},
        }
        (folder / "job.bulk.yaml").write_text(json.dumps(job), encoding="utf-8")

    def run(self, *before: str) -> subprocess.CompletedProcess[str]:
        """`bulkrate run`, by way of `dying_run.py` if `before` is given."""
        start = (
            [sys.executable, str(DYING), *before]
            if before
            else [str(Path(sys.executable).with_name("bulkrate"))]
        )
        command = [*start, "run", "job.bulk.yaml", "--yes", "--poll", "0.02", "--json"]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def answers(self) -> list[dict[str, object]]:
        lines = (self.folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]


@pytest.mark.soak
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_run_again(moment: str, provider: ProviderProcess, tmp_path: Path) -> None:
    job = Job(tmp_path, provider)
    accepted = provider.meter.rows_accepted
    killed = job.run(moment, "1")
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    again = job.run()

    assert again.returncode == 0, again.stderr
    assert [line["id"] for line in job.answers()] == [f"T-{number}" for number in range(ROWS)]
    assert {line["status"] for line in job.answers()} == {"succeeded"}
    assert json.loads(again.stdout)["rows"]["succeeded"] == ROWS
    assert provider.meter.rows_accepted - accepted == ROWS


def test_the_list_is_whole(provider: ProviderProcess, tmp_path: Path) -> None:
    """A run without faults has no moment that is not on the list above."""
    seen = tmp_path / "seen"
    finished = Job(tmp_path, provider).run("list", str(seen))
    assert finished.returncode == 0, finished.stderr
    moments = list(dict.fromkeys(seen.read_text(encoding="utf-8").split()))
    assert moments == MOMENTS


def test_killed_at_every_moment_in_turn(provider: ProviderProcess, tmp_path: Path) -> None:
    """One run, killed again and again, a little further each time: still one acceptance a row."""
    job = Job(tmp_path, provider)
    accepted = provider.meter.rows_accepted
    for moment in MOMENTS[::3]:
        job.run(moment, "1")
    again = job.run()
    assert again.returncode == 0, again.stderr
    assert len(job.answers()) == ROWS
    assert provider.meter.rows_accepted - accepted == ROWS
