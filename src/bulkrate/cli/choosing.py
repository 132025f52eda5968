"""From what was typed to what is meant: a job from FILE, a run from RUN."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from bulkrate.cli.terminal import Terminal
from bulkrate.errors import BulkrateError

if TYPE_CHECKING:
    from bulkrate.jobs.spec import Job
    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.planned import PlanFile
    from bulkrate.pipeline.workspace import Workspace

JOB_SUFFIXES = (".yaml", ".yml", ".json")
SHOWN = 10


@contextmanager
def workspace_of(terminal: Terminal) -> Iterator[Workspace]:
    """The workspace of the current directory, or of BULKRATE_HOME."""
    from bulkrate.ledger.home import Home
    from bulkrate.pipeline.workspace import Workspace

    workspace = Workspace(Home.find(terminal.cwd, terminal.env), env=terminal.env)
    try:
        yield workspace
    finally:
        workspace.close()


def job_of(file: str, *, model: str | None = None, sink: Path | None = None) -> Job:
    """The job in a job file, or made of an OpenAI batch file."""
    from bulkrate.api import is_batch_file, load_job

    if model is not None and not is_batch_file(file):
        raise BulkrateError(
            "--model is for OpenAI batch files (.jsonl): a job file names its model itself",
            code="usage",
            hint="change request.model in the job file",
        )
    job = load_job(file, model=model)
    return redirected(job, sink)


def redirected(job: Job, sink: Path | None) -> Job:
    """The job with its answers going elsewhere."""
    if sink is None:
        return job
    changed = job.sink.model_copy(update={"path": str(sink.absolute()), "format": None})
    return job.model_copy(update={"sink": changed})


def job_or_plan(
    file: str, *, model: str | None = None, sink: Path | None = None
) -> tuple[Job, PlanFile | None]:
    """The job in a job file; or the one a plan is of, as it is now, and the plan."""
    from bulkrate.api import job_of_plan
    from bulkrate.pipeline.planned import read_plan

    plan = read_plan(Path(file))
    if plan is None:
        return job_of(file, model=model, sink=sink), None
    if model is not None:
        raise BulkrateError("a plan says which model answers", code="usage", hint="leave --model out")
    return redirected(job_of_plan(plan), sink), plan


def run_of(workspace: Workspace, text: str) -> RunRecord:
    """The run that `text` names: an id, the beginning of one, a job's name (its latest run), a job file."""
    found = workspace.ledger.find_runs(text)
    if len(found) == 1:
        return found[0]
    named = [run for run in found if run.job_name == text]
    if named:
        return named[0]
    if len(found) > 1:
        shown = [f"  {run.id}  {run.job_name}  {run.state}" for run in found[:SHOWN]]
        more = [f"  and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        raise BulkrateError(
            "\n".join([f"{len(found)} runs begin with {text!r}:", *shown, *more]),
            code="ambiguous_run",
            hint="give more of the id",
        )
    if Path(text).exists():
        return _run_of_file(workspace, text)
    raise BulkrateError(
        f"no run, job or job file is called {text!r} in {workspace.home.root}",
        code="no_such_run",
        hint="`bulkrate list` shows the runs; BULKRATE_HOME says where else to look",
    )


def _run_of_file(workspace: Workspace, text: str) -> RunRecord:
    job = job_of(text)
    runs = workspace.ledger.runs(job_name=job.name, limit=1)
    if not runs:
        raise BulkrateError(
            f"the job {job.name} of {text} has no run in {workspace.home.root}",
            code="no_such_run",
            hint=f"`bulkrate run {text}` makes one",
        )
    return runs[0]
