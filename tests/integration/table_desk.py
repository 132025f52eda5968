"""A desk over OpenAI's counterpart: a table, a job, a workspace that stays open."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import MisbehavingProvider

Row = tuple[str, str]
ROWS: list[Row] = [(f"T-{number}", f"ticket {number}") for number in range(30)]


class Desk:
    """A folder with a source and a job, a workspace over it, and a provider to run it on."""

    def __init__(self, folder: Path, provider: MisbehavingProvider, clock: Any = None) -> None:
        self.folder = folder
        self.provider = provider
        self.workspace = Workspace(
            Home.find(folder, env={}),
            clock=clock,
            env={
                "OPENAI_API_KEY": provider.api_key,
                "OPENAI_BASE_URL": provider.base_url,
                "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "5",
                "BULKRATE_LIMITS__LISTING_LAG_S": "0",
            },
        )

    def write(self, rows: list[Row]) -> None:
        with (self.folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "body"])
            writer.writerows(rows)

    def job(self, **fields: Any) -> Any:
        document = {
            "name": "desk",
            "source": {"path": "rows.csv", "key": "id"},
            "request": {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 20},
            "sink": {"path": "answers.jsonl"},
            **fields,
        }
        return load_job_mapping(document, self.folder)

    def run(self, job: Any = None, *, fresh: bool = False, between: Callable[[], None] | None = None) -> Any:
        run = self.workspace.prepare(job or self.job(), fresh=fresh)
        run = self.workspace.approve(run, decide=lambda quote: True)
        if between is not None:
            between()
        run = anyio.run(lambda: self.workspace.advance(run.id, poll_s=0.01))
        return report(self.workspace.ledger, run)

    def answers(self) -> list[dict[str, Any]]:
        lines = (self.folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def accepted(self) -> int:
        return self.provider.meter.rows_accepted
