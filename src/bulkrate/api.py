"""The Python side: `bulkrate.run`, and the `Run` it returns.

    run = bulkrate.run("tickets.bulk.yaml", yes=True)
    run.rows                        # RowCounts(total=8, succeeded=8, failed=0, rejected=0, pending=0)
    pyarrow.table(run.results())    # or polars.from_arrow, duckdb, pandas: anything that reads Arrow

Works inside a running event loop (a notebook): the work is then done on a loop in a thread of its own. In
async code, `await bulkrate.arun(...)`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from bulkrate.core.run_states import RunState
from bulkrate.jobs.spec import Job

if TYPE_CHECKING:
    import pyarrow as pa

    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.planned import PlanFile
    from bulkrate.pipeline.workspace import Workspace
    from bulkrate.pricing import Bill, Quote
    from bulkrate.pricing.plan import Plan

T = TypeVar("T")
BATCH_FILES = tuple(f"{kind}{packed}" for kind in (".jsonl", ".ndjson") for packed in ("", ".gz", ".zst"))


def is_batch_file(path: str | Path) -> bool:
    """Whether a path is that of an OpenAI batch file, by its name."""
    return str(path).lower().endswith(BATCH_FILES)


def load_job(path: str | Path, *, model: str | None = None) -> Job:
    """The job in a job file, or made of an OpenAI batch file (`.jsonl`), which `model` may redirect.

    Raises `JobError` with everything that is wrong, by file and line.
    """
    from bulkrate.jobs.load import load_job as load_job_file
    from bulkrate.jobs.load import openai_batch_job

    return openai_batch_job(path, model) if is_batch_file(path) else load_job_file(path)


def job_of_plan(plan: PlanFile) -> Job:
    """The job a plan is of, as its job file has it now; as it was planned if it has none."""
    if plan.job_file is None:
        return plan.job()
    model = plan.document["job"].get("model") if is_batch_file(plan.job_file) else None
    return load_job(plan.job_file, model=model)


@dataclass(frozen=True, slots=True)
class RowCounts:
    """A run's rows by how they ended: total = succeeded + failed + rejected + pending."""

    total: int
    succeeded: int
    failed: int
    rejected: int
    pending: int


class Results:
    """A run's rows joined to their answers, as an Arrow stream in the order of the source.

    Reads the files as it is consumed, so it is never whole in memory, and can be consumed many times. Give
    it to whatever takes Arrow (`pyarrow.table(results)`, `polars.from_arrow`, duckdb), or iterate over it
    for plain dictionaries.
    """

    def __init__(self, workspace: Workspace, run: str) -> None:
        self._workspace = workspace
        self._run = run

    @property
    def schema(self) -> pa.Schema:
        """The columns: the key (or the row number), what the job includes, then the results."""
        from bulkrate.datasets.record_batches import schema_of

        return schema_of(self._columns())

    def reader(self) -> pa.RecordBatchReader:
        """A new reader, at the first row."""
        import pyarrow as pa

        from bulkrate.datasets.record_batches import record_batch

        columns, schema = self._columns(), self.schema
        batches = (
            record_batch(rows, columns) for rows in self._workspace.rows(self._run, table=True) if rows
        )
        return pa.RecordBatchReader.from_batches(schema, batches)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self.reader().__arrow_c_stream__(requested_schema)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for rows in self._workspace.rows(self._run):
            yield from rows

    def _columns(self) -> list[Any]:
        from bulkrate.pipeline.deliver import sink_columns
        from bulkrate.pipeline.run_folder import RunFolder

        setup = self._workspace.setup(self._workspace.run(self._run))
        return sink_columns(setup, RunFolder(self._workspace.home.run_dir(self._run)), table=True)


class Run:
    """One execution of a job. What it says is read from the ledger at the time of asking."""

    def __init__(self, workspace: Workspace, run: str) -> None:
        self._workspace = workspace
        self.id = run

    def _record(self) -> RunRecord:
        return self._workspace.run(self.id)

    @property
    def state(self) -> str:
        """`ready`, `active`, `cancelling`, `settled` or `finished`."""
        return str(self._record().state)

    @property
    def rows(self) -> RowCounts:
        """The rows by how they ended."""
        balance = self._workspace.ledger.balance(self.id)
        return RowCounts(balance.rows, balance.succeeded, balance.failed, balance.rejected, balance.pending)

    @property
    def quote(self) -> Quote | None:
        """What was quoted before anything was spent."""
        return self._workspace.quote(self._record())

    @property
    def bill(self) -> Bill:
        """What the reported usage costs, beside the live price."""
        from bulkrate.pipeline.report import bill_of

        return bill_of(self._workspace.ledger, self._record(), self._workspace.prices)

    @property
    def exit_code(self) -> int:
        """What the command line would exit with: 0 all succeeded, 1 rows failed, 3 not finished."""
        from bulkrate.pipeline.report import exit_code

        record = self._record()
        return exit_code(self._workspace.ledger, record, self._workspace.setup(record).job.max_failed)

    def report(self) -> dict[str, Any]:
        """The document of `bulkrate run --json`."""
        from bulkrate.pipeline.reforecast import full_report

        return full_report(self._workspace, self._record())

    def results(self) -> Results:
        """The rows joined to their answers, as an Arrow stream."""
        return Results(self._workspace, self.id)

    def close(self) -> None:
        """Let go of the ledger; the run cannot be asked afterwards."""
        self._workspace.close()

    def __repr__(self) -> str:
        record, rows = self._record(), self.rows
        counts = f"{rows.succeeded} succeeded, {rows.failed} failed, {rows.rejected} rejected"
        counts += f", {rows.pending} pending"
        return f"<Run {self.id} of {record.job_name}: {record.state}, {rows.total} rows: {counts}>"

    def _repr_html_(self) -> str:
        record, rows = self._record(), self.rows
        cells = {
            "run": self.id,
            "job": record.job_name,
            "model": f"{record.provider}/{record.model}",
            "state": str(record.state),
            "rows": f"{rows.total:,}",
            "succeeded": f"{rows.succeeded:,}",
            "failed": f"{rows.failed:,}",
            "rejected": f"{rows.rejected:,}",
            "pending": f"{rows.pending:,}",
            "answers": record.sink or "",
        }
        left = 'style="text-align:left"'
        lines = "".join(
            f"<tr><th {left}>{escape(name)}</th><td {left}>{escape(value)}</td></tr>"
            for name, value in cells.items()
        )
        return f"<table>{lines}</table>"


def plan(
    job: Job | str | Path,
    models: Sequence[str] = (),
    *,
    pilot: int | None = None,
    pilot_lane: str | None = None,
    yes: bool = False,
    poll_s: float | None = None,
    home: str | Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Plan:
    """Count every row of a job and price it with its own model and `models` ("provider/name"), by lane.

    With `pilot` so many rows, drawn at random, are sent first to learn how long the answers are; that needs
    `yes=True`, and their answers are kept. A plan shows itself in a notebook, and `run` takes it.
    """
    from bulkrate.pipeline.pilot import judge, make_way
    from bulkrate.pipeline.plan import Planning

    workspace = _workspace(home, os.environ if env is None else env)
    try:
        planning = Planning(workspace, job if isinstance(job, Job) else load_job(job), models)
        sample = None if pilot is None else planning.pilot_job(pilot, pilot_lane)
        if sample is not None and sample.only_rows:
            make_way(workspace, planning.setup)
            begun = _begin(workspace, sample, yes=yes, max_cost=None, fresh=False)
            judge(
                workspace,
                _blocking(lambda: workspace.advance(begun.id, poll_s=poll_s)),
                planning.setup.job,
            )
        return planning.plan(job_file=None if isinstance(job, Job) else Path(job))
    finally:
        workspace.close()


def run(
    job: Job | Plan | str | Path,
    *,
    yes: bool = False,
    max_cost: Decimal | float | str | None = None,
    fresh: bool = False,
    timeout_s: float | None = None,
    poll_s: float | None = None,
    home: str | Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Run:
    """Run a job, a job file, an OpenAI batch file or a plan, and wait for it.

    A run that costs money needs `yes=True`; without it, `Refused` is raised with the quote in its message.
    `max_cost` (USD) refuses a quote whose ceiling is higher, and nothing is sent beyond it: `Refused` is then
    raised on the way, and a higher one goes on. Running the same job again resumes it and sends nothing
    twice; `fresh=True` starts anew. After `timeout_s` the run is returned unfinished, and the work goes on.
    `home` is the state directory (default: BULKRATE_HOME, else `.bulkrate` here), `env` stands in for the
    process environment.
    """

    async def main() -> Run:
        return await arun(
            job,
            yes=yes,
            max_cost=max_cost,
            fresh=fresh,
            timeout_s=timeout_s,
            poll_s=poll_s,
            home=home,
            env=env,
        )

    return _blocking(main)


async def arun(
    job: Job | Plan | str | Path,
    *,
    yes: bool = False,
    max_cost: Decimal | float | str | None = None,
    fresh: bool = False,
    timeout_s: float | None = None,
    poll_s: float | None = None,
    home: str | Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Run:
    """`run` for async code. Cancelling it stops the waiting, not the work."""
    workspace = _workspace(home, os.environ if env is None else env)
    try:
        found = await anyio.to_thread.run_sync(
            lambda: _begin(workspace, job, yes=yes, max_cost=max_cost, fresh=fresh)
        )
        if found.state is RunState.FINISHED:
            await anyio.to_thread.run_sync(lambda: workspace.deliver(found.id))
        else:
            await workspace.advance(found.id, timeout_s=timeout_s, poll_s=poll_s)
    except BaseException:
        workspace.close()
        raise
    return Run(workspace, found.id)


def _begin(
    workspace: Workspace,
    job: Job | Plan | str | Path,
    *,
    yes: bool,
    max_cost: Decimal | float | str | None,
    fresh: bool,
) -> RunRecord:
    from bulkrate.pipeline.planned import hold, hold_run, note_plan

    meant, plan = _job_and_plan(job)
    if plan is not None:
        hold(workspace, plan, meant)
    prepared = workspace.prepare(meant, fresh=fresh)
    if plan is not None:
        hold_run(plan, prepared, workspace.quote(prepared))
    approved = workspace.approve(
        prepared, decide=lambda quote: _decide(quote, yes), max_cost=_amount(max_cost)
    )
    if plan is not None and prepared.state is RunState.READY:
        note_plan(workspace, plan, approved)
    return approved


def _job_and_plan(job: Job | Plan | str | Path) -> tuple[Job, PlanFile | None]:
    from bulkrate.pipeline.planned import parse_plan, read_plan

    if isinstance(job, Job):
        return job, None
    if isinstance(job, str | Path):
        plan = read_plan(Path(job))
        return (load_job(job), None) if plan is None else (job_of_plan(plan), plan)
    plan = parse_plan(job.to_json(), f"the plan of {job.job}", Path.cwd())
    return job_of_plan(plan), plan


def _decide(quote: Quote, yes: bool) -> bool:
    if yes:
        return True
    from bulkrate.errors import Refused
    from bulkrate.pricing.money import format_money

    if quote.cost_max is None:
        cost = "a cost that has no known upper end"
    else:
        from decimal import ROUND_CEILING

        most = format_money(quote.cost_max, quote.currency, rounding=ROUND_CEILING)
        dated = f", prices of {quote.prices_dated.isoformat()}" if quote.prices_dated else ""
        cost = f"at most {most}{dated}"
    raise Refused(
        f"not approved: {quote.rows:,} rows with {quote.input_tokens:,} input tokens to "
        f"{quote.provider}/{quote.model} for {cost}; nothing was spent",
        code="not_approved",
        hint="pass yes=True to approve it, and max_cost to bound it",
    )


def _amount(value: Decimal | float | str | None) -> Decimal | None:
    if value is None or isinstance(value, Decimal):
        return value
    from bulkrate.pricing.money import parse_money

    return parse_money(value if isinstance(value, str) else f"{Decimal(str(value)):f}")


def _workspace(home: str | Path | None, env: Mapping[str, str]) -> Workspace:
    from bulkrate.ledger.home import VARIABLE, Home
    from bulkrate.pipeline.workspace import Workspace

    where = dict(env)
    if home is not None:
        where[VARIABLE] = str(home)
    return Workspace(Home.find(env=where), env=where)


def _blocking(function: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end: here, or in a thread when this one already runs an event loop."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return anyio.run(function)
    from anyio.from_thread import start_blocking_portal

    with start_blocking_portal() as portal:
        done: T = portal.call(function)
        return done
