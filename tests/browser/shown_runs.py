"""Runs whose pages are looked at: one that was paid for and had its troubles, one that is not approved."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio

from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pages.figures import Figures, figures_of
from bulkrate.pages.run_page import run_page
from bulkrate.pipeline.report import report
from bulkrate.pipeline.spending import spending_of
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import Answer, FakeClock, MisbehavingProvider

HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>&lt;b&gt;'\"{{ 7*7 }}"
FAULTS = "truncate=9,batches=3 bad_rows=3,batches=4 missing=5,batches=2"
BEGIN = datetime(2026, 11, 20, 9, tzinfo=UTC)  # gpt-4.1-mini has a batch price then


class LongWaits(FakeClock):
    """Hours pass while others sleep for seconds: batches take their time."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(300 * seconds)


@dataclass(frozen=True)
class Shown:
    """The pages, and what the paid run's report and bill say as JSON."""

    paid: Path
    waiting: Path
    hostile: Path
    report: Mapping[str, Any]
    bill: Mapping[str, Any]


def _answer(body: Mapping[str, Any]) -> Answer:
    number = int(body["messages"][-1]["content"].split()[-1])
    return Answer("word", output_tokens=1 + number * 37 % 90)


def _job(folder: Path, name: str) -> Any:
    request = {"model": "openai/gpt-4.1-mini", "prompt": "{{ body }}", "max_output_tokens": 120}
    source, sink = {"path": "rows.csv", "key": "id"}, {"path": f"{name}.jsonl"}
    return load_job_mapping({"name": name, "source": source, "request": request, "sink": sink}, folder)


def show(folder: Path) -> Shown:
    """Run a job to its end, prepare another, and write their pages."""
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body"])
        # A row without a text is rejected.
        writer.writerows([n, "" if n % 97 == 5 else f"ticket {'again ' * (n % 90)}{n}"] for n in range(240))
    clock = LongWaits(BEGIN)
    with MisbehavingProvider(FAULTS, seed=3, polls=4, now=clock.now, answer=_answer) as provider:
        env = {
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
            "BULKRATE_LIMITS__LISTING_LAG_S": "0",
            "BULKRATE_LIMITS__REQUESTS": "40",
            "BULKRATE_WORKERS": "1",
        }
        workspace = Workspace(Home.find(folder, env={}), clock=clock, env=env)
        run = workspace.approve(workspace.prepare(_job(folder, "tickets")), decide=lambda quote: True)
        run = anyio.run(lambda: workspace.advance(run.id, poll_s=5))
    _report(folder, run.job_name)
    spent = spending_of(workspace.ledger, workspace.home, [run], workspace.prices, by=("model",))
    figures = figures_of(workspace, run)
    # A job file may not have such names, but the page does not lean on that.
    hostile = replace(
        figures,
        run=replace(figures.run, job_name=HOSTILE, model=HOSTILE),
        expected=Decimal("0.02"),
        failures={HOSTILE: 3},
        wasted={HOSTILE: spent.whole.cost},
    )
    waiting = figures_of(workspace, workspace.prepare(_job(folder, "waiting"), fresh=True))
    assert waiting.run.approved_at is None
    found = Shown(
        paid=folder / "tickets.html",
        waiting=_write(folder / "waiting.html", waiting, "quoted", "see the quote"),
        hostile=_write(folder / "hostile.html", hostile, HOSTILE, f"`{HOSTILE}`"),
        report=report(workspace.ledger, run, workspace.prices),
        bill=spent.to_json(),
    )
    workspace.close()
    return found


def _write(path: Path, figures: Figures, line: str, advice: str) -> Path:
    page = run_page(figures, bill=[(line, line)], advice=[advice], made_at=BEGIN)
    path.write_text(page, encoding="utf-8")
    return path


def _report(folder: Path, name: str) -> None:
    command = [Path(sys.executable).with_name("bulkrate"), "report", name, "--html", f"{name}.html"]
    kept = {each: os.environ[each] for each in ("PATH", "PYTHONPATH") if each in os.environ}
    done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
