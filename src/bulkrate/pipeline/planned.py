"""Planned: a plan file read back, and the job, its rows and its prices held against it before it is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from bulkrate.core.run_states import RunState
from bulkrate.errors import BulkrateError, PlanChanged
from bulkrate.jobs.spec import Job
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.plan_digests import digests_of
from bulkrate.pipeline.prepare import tag_for
from bulkrate.pipeline.setup import Setup
from bulkrate.pipeline.workspace import Workspace
from bulkrate.pricing import Quote
from bulkrate.pricing.plan import VERSION
from bulkrate.pricing.rates import LANES

MARK = "bulkrate_plan"
COSTS = ("low", "expected", "high")


@dataclass(frozen=True, slots=True)
class PlanFile:
    """What of a plan counts when it is run. `job_file` is None for a plan of a job without one."""

    name: str
    made_at: str
    job_file: Path | None
    document: Mapping[str, Any]
    digests: Mapping[str, Any]
    rows: int
    costs: Mapping[str, str | None]  # low, expected and high on the job's own lane

    def job(self) -> Job:
        """The job as it was planned."""
        return Job.model_validate({**self.document["job"], "base": self.document["base"]})


def read_plan(path: Path) -> PlanFile | None:
    """The plan in a file; None for a file that is none. Raises BulkrateError for one that cannot be used."""
    if path.suffix != ".json":
        return None
    try:
        found = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or MARK not in found:
        return None
    return parse_plan(found, path.name, path.parent)


def parse_plan(found: Mapping[str, Any], name: str, folder: Path) -> PlanFile:
    """The plan that a document is. Raises BulkrateError for one that cannot be used."""
    if found[MARK] != VERSION:
        raise BulkrateError(
            f"{name} is a plan of version {found[MARK]}; this program knows version {VERSION}",
            code="plan_version",
            hint="make it again: `bulkrate plan JOB`",
        )
    try:
        own, job_file = found["models"][0], found["job_file"]
        plan = PlanFile(
            name=name,
            made_at=str(found["made_at"]),
            job_file=None if job_file is None else folder / job_file,
            document=found["document"],
            digests={name: found["digests"][name] for name in ("source", "model", "prices")},
            rows=int(own["rows"]),
            costs={name: _amount(own["lanes"][found["lane"]][name]) for name in COSTS},
        )
        plan.job()
        _check_prices(plan.digests["prices"])
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise BulkrateError(
            f"{name} is a plan with a part missing or broken: {type(error).__name__}",
            code="plan_broken",
            hint="make it again: `bulkrate plan JOB`",
        ) from None
    return plan


def _amount(found: Any) -> str | None:
    if found is None:
        return None
    if not isinstance(found, str) or not Decimal(found).is_finite():
        raise TypeError(found)
    return found


def _check_prices(found: Mapping[str, Any]) -> None:
    for lane in LANES:
        for name, cost in (found[lane] or {}).items():
            if name != "steps":
                _amount(cost)


def hold(workspace: Workspace, plan: PlanFile, job: Job) -> None:
    """Raise `PlanChanged` with everything that is not as it was planned. What has begun keeps its prices."""
    setup = Setup(job, workspace.env, workspace.prices)
    now = workspace.clock.now()
    found = list(_differences(workspace, plan, setup, now))
    if found:
        raise PlanChanged(
            f"{plan.name} is not run: since it was made, {'; '.join(found)}",
            hint="`bulkrate plan` makes it again, with what is there now",
        )


def hold_run(plan: PlanFile, run: RunRecord, quote: Quote | None) -> None:
    """Raise `PlanChanged` when the prepared run is more than, or other than, what was planned."""
    if run.snapshot != plan.digests["source"]:
        raise PlanChanged(
            f"run {run.id} of this job is not finished, and answers other rows than {plan.name}",
            hint=f"`bulkrate wait {run.id}` finishes it, or `bulkrate cancel {run.id}` ends it",
        )
    if run.state is RunState.READY and quote is not None and quote.rows > plan.rows:
        raise PlanChanged(
            f"{plan.name} is not run: it sends {plan.rows:,} rows, and now {quote.rows:,} would be "
            "sent: answers that were to be taken over are gone",
            hint="`bulkrate plan` makes it again, with what is there now",
        )


def note_plan(workspace: Workspace, plan: PlanFile, run: RunRecord) -> None:
    """Keep with an approved run what it was expected to cost."""
    with workspace.ledger.transaction("planned") as tx:
        detail = {"made_at": plan.made_at, **plan.costs}
        tx.add_event(run.id, "plan", workspace.clock.now(), detail=detail)


def _differences(workspace: Workspace, plan: PlanFile, setup: Setup, now: datetime) -> Iterator[str]:
    yield from (f"the job has another {name}" for name in changed_fields(plan.job(), setup.job))
    digests = digests_of(setup, setup.source.snapshot(), now)
    if digests["model"] != plan.digests["model"]:
        yield f"the model is {digests['model']}, not {plan.digests['model']}"
    if digests["source"] != plan.digests["source"]:
        files = ", ".join(file.name for file in setup.source.files[:3])
        yield f"the rows have changed ({files})"
        return
    begun = workspace.ledger.run(tag_for(setup, digests["source"], ""))
    if begun is None or begun.state in (RunState.ASSEMBLING, RunState.READY):
        yield from _price_changes(plan.digests["prices"], digests["prices"])


def changed_fields(planned: Job, now: Job) -> list[str]:
    """The fields of a job that differ, by their paths. Where the answers go, the most they may cost, and
    tags are no matter of a plan."""
    before, after = _whole(planned), _whole(now)
    return list(_differing(before, after, ""))


def _whole(job: Job) -> dict[str, Any]:
    fields = job.model_dump(mode="json", exclude={"sink", "budget", "tags"})
    if job.request is not None and job.request.output is not None and job.request.output.document is not None:
        fields["request"]["output"] = {"json_schema": job.request.output.document}
    return fields


def _differing(before: Any, after: Any, path: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in [*before, *(name for name in after if name not in before)]:
            inner = f"{path}.{name}" if path else str(name)
            yield from _differing(before.get(name), after.get(name), inner)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _differing(one, other, f"{path}[{index}]")
    else:
        yield path


def _price_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for lane, rate in after.items():
        known = before.get(lane)
        if known is None or rate is None:
            if known != rate:
                yield f"the {lane} price {'is not known any more' if rate is None else 'has become known'}"
            continue
        for name, cost in rate.items():
            if cost != known.get(name):
                yield f"the {lane} price of {_kind(name)} is {_said(cost)}, not {_said(known.get(name))}"


def _kind(name: str) -> str:
    return name.removesuffix("_mtok").replace("_", " ") + (" tokens" if name.endswith("_mtok") else "")


def _said(cost: Any) -> str:
    if isinstance(cost, str):
        return f"{Decimal(cost):f} USD"
    return "none" if not cost else "other"
