"""A desk for planning: tickets by number, answers of differing length, pilots and plan files."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
from table_desk import Desk

from bulkrate.cli.showing_plans import write
from bulkrate.jobs.spec import Job
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.pilot import make_way
from bulkrate.pipeline.plan import Planning, make_plan
from bulkrate.pipeline.planned import PlanFile, read_plan
from bulkrate.pipeline.report import bill_of
from bulkrate.pricing.plan import Plan
from bulkrate.testing import MisbehavingProvider


def answer(body: dict[str, Any]) -> str:
    """A few words or many, as the row says."""
    return "word " * (int(body["messages"][-1]["content"].split()[-1]) % 13 + 1)


class PlanningDesk(Desk):
    """The provider must answer with `answer`."""

    def __init__(self, folder: Path, provider: MisbehavingProvider) -> None:
        super().__init__(folder, provider)
        self.workspace.env = {**self.workspace.env, "BULKRATE_WORKERS": "1"}

    def tickets(self, count: int, *, first: int = 0) -> None:
        """A table of so many tickets."""
        self.write([(f"T-{n}", f"ticket {'again ' * (n % 40)}{n}") for n in range(first, first + count)])

    def job(self, key: str | None = "id", **fields: Any) -> Any:
        request = {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 40}
        return super().job(**{"source": {"path": "rows.csv", "key": key}, "request": request, **fields})

    def finish(self, job: Job) -> RunRecord:
        """Run a job to its end."""
        run = self.workspace.approve(self.workspace.prepare(job), decide=lambda quote: True)
        return anyio.run(lambda: self.workspace.advance(run.id, poll_s=0.01))

    def plan(self, job: Job | None = None, *models: str) -> Plan:
        return make_plan(self.workspace, job or self.job(), models)

    def pilot(self, rows: int, job: Job | None = None) -> tuple[RunRecord, Plan]:
        """Send a pilot, and the plan by it."""
        planning = Planning(self.workspace, job or self.job())
        make_way(self.workspace, planning.setup)
        run = self.finish(planning.pilot_job(rows))
        return run, planning.plan()

    def planned(self, job: Job | None = None) -> PlanFile:
        """The plan written, and read again."""
        path = self.folder / "desk.plan.json"
        write(self.plan(job), path)
        found = read_plan(path)
        assert found is not None
        return found

    def billed(self, run: RunRecord) -> Decimal:
        cost = bill_of(self.workspace.ledger, run, self.workspace.prices).cost
        assert cost is not None
        return cost
