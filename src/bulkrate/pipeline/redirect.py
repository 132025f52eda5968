"""What may change of a job while its run goes on: where the answers go and how long to wait, never what is
asked, and no lane that was not approved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulkrate.errors import Refused
from bulkrate.jobs.spec import LaneSpec
from bulkrate.ledger.records import RunRecord
from bulkrate.pricing import Quote

_REDIRECTS = ("sink", "lane", "budget", "tags", "max_failed", "attempts", "on_rejected")


def redirected(begun: Mapping[str, Any], now: Mapping[str, Any], sink: str) -> dict[str, Any]:
    """The job as it was when the run began, which answers that source, with the redirects as they are now."""
    job = {name: value for name, value in begun["job"].items() if name not in _REDIRECTS}
    job |= {name: now["job"][name] for name in _REDIRECTS if name in now["job"]}
    job["sink"] = {**job.get("sink", {}), "path": sink}
    return {**begun, "job": job}


def check_lane(run: RunRecord, quote: Quote | None, *, approved: LaneSpec, wanted: LaneSpec) -> None:
    """Raise `Refused` where a run that spends is to travel on a lane of another price than the one that had a
    yes."""
    if (approved.use, approved.rescue) == (wanted.use, wanted.rescue) or (quote is not None and quote.free):
        return
    raise Refused(
        f"run {run.id} was approved with lane.use {approved.use} and lane.rescue {approved.rescue}; the job "
        f"says {wanted.use} and {wanted.rescue} now",
        code="lane_changed",
        hint=f"put the lane back and it goes on; or `bulkrate cancel {run.id}`, run the job again, and "
        "`bulkrate retry`, which quotes what is left",
    )
