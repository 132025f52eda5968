"""A workspace: one state directory and what can be done in it. The CLI and the API are thin over it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson

from bulkrate.core.lanes import Lane
from bulkrate.core.pacing import Pacing
from bulkrate.core.retry import RetryPolicy
from bulkrate.core.run_states import RUN_TABLE, RunEvent, RunState
from bulkrate.errors import BulkrateError, Refused, RowsRejected, RunBusy
from bulkrate.jobs.spec import Job
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.assemble import PARTITION_ROWS
from bulkrate.pipeline.budget import BY_BOUND, budget_of, limit_run
from bulkrate.pipeline.budget_check import check_quote
from bulkrate.pipeline.clock import Clock, SystemClock
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.deliver import deliver_run, deliverer_for
from bulkrate.pipeline.drained import drained_before
from bulkrate.pipeline.drive import drive
from bulkrate.pipeline.forget import forget, forgettable
from bulkrate.pipeline.hints import Bell
from bulkrate.pipeline.join import Delivery
from bulkrate.pipeline.leave import leave
from bulkrate.pipeline.prepare import assemble_run, begin_run, choose_run, packer_for, path_of
from bulkrate.pipeline.prices import find_prices
from bulkrate.pipeline.quote_forecast import with_forecast
from bulkrate.pipeline.recollect import recollect_run
from bulkrate.pipeline.redirect import check_lane, redirected
from bulkrate.pipeline.reopen import reopen
from bulkrate.pipeline.run_folder import Partitions, RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pipeline.tick import OnError, tick, work
from bulkrate.pipeline.twins import UNSENT, begun_since, forget_unsent, refuse_twin
from bulkrate.pricing import PriceList, Quote

# Names a ledger elsewhere: a URL, or another file.
LEDGER = "BULKRATE_LEDGER"

Decide = Callable[[Quote], bool]


class Workspace:
    """Runs jobs in one state directory."""

    def __init__(self, home: Home, *, env: Mapping[str, str], clock: Clock | None = None) -> None:
        self.home = home
        self.env = env
        self.clock = clock or SystemClock()
        self.ledger = Ledger.open(env.get(LEDGER) or home.ledger_path)

    @cached_property
    def prices(self) -> PriceList:
        """The prices to quote and bill by. Raises ConfigError for a wrong `prices.toml`."""
        return find_prices(self.home, self.env)

    def close(self) -> None:
        """Let go of the ledger."""
        self.ledger.close()

    # -- preparing ---------------------------------------------------------------------------------------

    def prepare(
        self, job: Job, *, fresh: bool = False, on_progress: Callable[[int], None] = lambda rows: None
    ) -> RunRecord:
        """The run that running `job` now means: an unfinished one, or a new one, assembled and quoted."""
        setup = Setup(job, self.env, self.prices)
        setup.check()
        snapshot = setup.source.snapshot()
        nonce = secrets.token_hex(8) if fresh else ""
        run = choose_run(self.ledger, setup, snapshot, nonce=nonce)
        if run is not None and run.state in UNSENT and begun_since(self.ledger, setup, run):
            # Made anew it takes those answers over.
            forget_unsent(self.ledger, self.home, run)
            run = choose_run(self.ledger, setup, snapshot, nonce=nonce)
        now = self.clock.now()
        if run is None:
            run = begin_run(self.ledger, setup, snapshot, nonce=nonce, at=now)
        if run.state is RunState.ASSEMBLING:
            with self.home.run_lock(run.id):
                # Another process may have done it, and sent it, since: its files are not to be touched.
                if self.run(run.id).state is RunState.ASSEMBLING:
                    assemble_run(self.ledger, self.home, setup, run, at=now, on_progress=on_progress)
            run = self.run(run.id)
        sink = str(job.sink_path)
        document = setup.document()
        if snapshot != run.snapshot:
            document = redirected(orjson.loads(run.job_json), document, sink)
        job_json = orjson.dumps(document).decode()
        if run.state is RunState.ACTIVE:
            check_lane(run, self.quote(run), approved=self.setup(run).job.lane, wanted=job.lane)
        job_path = path_of(job) or run.job_path
        if (run.sink, run.job_json, run.job_path) != (sink, job_json, job_path):
            with self.ledger.transaction("retarget") as tx:
                tx.set_run(run.id, sink=sink, job_json=job_json, job_path=job_path)
        run = self.run(run.id)
        if run.state is RunState.READY:
            self._quote_again(run, job.lane.use)
        return self.run(run.id)

    def _quote_again(self, run: RunRecord, lane: str) -> None:
        """The quote of a run nobody has approved yet, for the lane the job says and by what is known now."""
        quote = self.quote(run)
        assert quote is not None
        quote = with_forecast(self, run, replace(quote, lane=lane))
        quote_json = orjson.dumps(quote.to_json()).decode()
        if quote_json != run.quote_json:
            with self.ledger.transaction("quoted") as tx:
                tx.set_run(run.id, quote_json=quote_json)

    def run(self, run: str) -> RunRecord:
        """A run's record. Raises `BulkrateError` when there is none."""
        found = self.ledger.run(run)
        if found is None:
            raise BulkrateError(f"no run {run}", code="no_such_run", hint="`bulkrate list` shows the runs")
        return found

    def quote(self, run: RunRecord) -> Quote | None:
        """The quote the run was prepared with."""
        return None if run.quote_json is None else Quote.from_json(orjson.loads(run.quote_json))

    def approve(self, run: RunRecord, *, decide: Decide, max_cost: Decimal | None = None) -> RunRecord:
        """Hold the quote against the budgets and ask `decide`; a run that costs nothing needs no yes.

        `max_cost` is the run's limit; of a run that was approved before, the new one. Raises `Refused` when
        the answer is no, `RowsRejected` when the job wants none rejected.
        """
        if run.state is not RunState.READY:
            if max_cost is not None and run.state is not RunState.FINISHED:
                with self.ledger.transaction("limited") as tx:
                    limit_run(tx, run.id, max_cost, self.clock.now())
            return run
        job = self.setup(run).job
        rejected = self.ledger.balance(run.id).rejected
        if rejected and job.on_rejected == "fail":
            raise RowsRejected(
                f"{rejected} of {run.rows} rows are rejected, and the job says on_rejected: fail",
                hint="`bulkrate check` lists them",
            )
        quote = self.quote(run)
        assert quote is not None
        by_bound = check_quote(self, run, quote, max_cost)
        costs = not quote.free and quote.rows > 0
        if costs and not decide(quote):
            raise Refused(
                "not approved; nothing was spent", code="not_approved", hint="say yes, or pass --yes"
            )
        with self.ledger.transaction("approved") as tx:
            now, current = self.clock.now(), tx.run(run.id)
            if current.state is not RunState.READY:  # another process has approved it meanwhile
                return current
            if current.quote_json != run.quote_json:
                raise Refused(
                    "the quote has changed since it was shown, by another process; nothing was spent",
                    code="not_approved",
                    hint="run the job again to see it",
                )
            tx.alone()
            refuse_twin(self.ledger, self.setup(run), run)
            tx.move_run(run.id, RunEvent.APPROVED, now, approved_at=now)
            if by_bound:
                tx.add_event(run.id, BY_BOUND, now)
            if max_cost is not None:
                limit_run(tx, run.id, max_cost, now)
        return self.run(run.id)

    def setup(self, run: RunRecord) -> Setup:
        """A run's own setup: the job as it was when the run began."""
        return Setup.from_document(orjson.loads(run.job_json), self.env, self.prices)

    # -- running -----------------------------------------------------------------------------------------

    async def advance(
        self,
        run_id: str,
        *,
        timeout_s: float | None = None,
        calls_s: float = 0.0,
        poll_s: float | None = None,
        until_submitted: bool = False,
        on_change: Callable[[], None] = lambda: None,
    ) -> RunRecord:
        """Drive a run until it is finished and delivered, or time is up: for single calls `calls_s` later.
        Raises `RunBusy`."""
        with ExitStack() as stack:
            alone = self._lock(stack, run_id)
            run = self.run(run_id)
            if run.state in (RunState.ACTIVE, RunState.CANCELLING, RunState.SETTLED):
                setup = self.setup(run)
                deadline = None if timeout_s is None else self.clock.now() + timedelta(seconds=timeout_s)
                try:
                    connection = await setup.provider.connect(
                        setup.model, kind=setup.kind, env=self.env, state_dir=self.home.root
                    )
                except BulkrateError:
                    # All answers are here: what is left to do at the provider must not keep them.
                    if run.state is RunState.SETTLED:
                        return self._delivered(run)
                    raise
                try:
                    context = self._context(run, setup, connection, poll_s, alone=alone, on_change=on_change)
                    stack.callback(self._release, context)  # delivering is still under the lease
                    settled = await drive(
                        context, deadline=deadline, calls_s=calls_s, until_submitted=until_submitted
                    )
                    if settled:
                        await self._leave(context, setup)
                finally:
                    await connection.aclose()
            return self._delivered(self.run(run_id))

    def _delivered(self, run: RunRecord) -> RunRecord:
        """The run with its answers in place: settled ones delivered, and a sink that was lost made again."""
        lost = run.sink is not None and not Path(run.sink).exists()
        if run.state is RunState.SETTLED or (run.state is RunState.FINISHED and lost):
            deliver_run(self.ledger, self.home, self.setup(run), run.id, self.clock.now())
        return self.run(run.id)

    async def tick(self, *, poll_s: float | None = None, on_error: OnError | None = None) -> list[RunRecord]:
        """Advance every live run once: all that is due, no waiting. A run that another process drives is
        skipped.

        A run's error stops no other run: `on_error` hears of it, else an ExceptionGroup is raised at the end.
        """
        return await tick(self, poll_s=poll_s, on_error=on_error)

    async def work(
        self,
        *,
        poll_s: float | None = None,
        on_error: OnError,
        on_finished: Callable[[RunRecord], None] = lambda run: None,
        bell: Bell | None = None,
    ) -> None:
        """Tick until cancelled, each live run at its own cadence. Several processes may do so.

        Whoever records a hint in the ledger rings the `bell`, to have it heeded at once.
        """
        await work(self, poll_s=poll_s, on_error=on_error, on_finished=on_finished, bell=bell)

    def _lock(self, stack: ExitStack, run_id: str) -> bool:
        """Lock the run on this machine; False if its holder only seems alive: stopped, its lease over.

        Raises `RunBusy` when another process drives it.
        """
        try:
            stack.enter_context(self.home.run_lock(run_id))
        except RunBusy:
            run = self.run(run_id)
            leased = run.lease_until_at is not None and run.lease_until_at > self.clock.now()
            if leased or run.state not in (RunState.ACTIVE, RunState.CANCELLING):
                raise
            return False
        return True

    def _release(self, context: RunContext) -> None:
        """Give the lease back, unless another process has taken the run."""
        with suppress(RunBusy), self.ledger.transaction("release") as tx:
            tx.renew_run(context.run, context.epoch, self.clock.now(), lease_s=0.0)

    def _context(
        self,
        run: RunRecord,
        setup: Setup,
        connection: Any,
        poll_s: float | None,
        *,
        alone: bool = True,
        on_change: Callable[[], None] = lambda: None,
    ) -> RunContext:
        folder = RunFolder(self.home.run_dir(run.id))
        partitions = Partitions(PARTITION_ROWS, run.rows)
        limits = setup.limits
        lease_s = limits.lease_s
        now = self.clock.now()
        lane = setup.job.lane
        rescue = None if lane.rescue == "none" else Lane(lane.rescue)
        deadline_at = None
        if lane.deadline_s is not None:
            deadline_at = (run.approved_at or now) + timedelta(seconds=lane.deadline_s)
        # Create intents were dated by the last driver's clock: another machine's may be off.
        ours = (None, self.home.holder, self.home.unlocked_holder)
        skew_s = 0.0 if run.holder in ours else limits.clock_skew_s
        with self.ledger.transaction("take") as tx:
            epoch = tx.take_run(
                run.id,
                now,
                holder=self.home.holder if alone else self.home.unlocked_holder,
                lease_s=lease_s,
                clock_skew_s=limits.clock_skew_s,
                holder_is_dead=alone,
            )
        return RunContext(
            run=run.id,
            provider=run.provider,
            model=run.model,
            ledger=self.ledger,
            folder=folder,
            partitions=partitions,
            wire=setup.wire,
            limits=limits,
            output=setup.output,
            base_cap=setup.base_cap,
            policy=RetryPolicy(attempts=setup.job.attempts),
            pacing=Pacing(poll_s=poll_s if poll_s is not None else setup.job.lane.poll),
            clock=self.clock,
            packer=packer_for(setup, run.id, folder, partitions),
            connection=connection,
            epoch=epoch,
            lease_s=lease_s,
            skew_s=skew_s,
            leased_at=now,
            budget=budget_of(self.ledger, run, setup.job, setup.max_output_tokens),
            lane=Lane(lane.use),
            rescue=rescue,
            deadline_at=deadline_at,
            drained_before=None if rescue is None else drained_before(self.ledger, run, rescue),
            prices=self.prices,
            canary=setup.job.canary,
            on_in_doubt=lane.on_in_doubt,
            on_change=on_change,
        )

    async def _leave(self, context: RunContext, setup: Setup) -> None:
        """What is left to do at the provider; whatever goes wrong there, the answers are delivered."""
        try:
            await leave(context, setup)
        except Exception:
            self._delivered(self.run(context.run))
            raise

    def cancel(self, run_id: str) -> RunRecord:
        """Ask for a run's end: nothing new is submitted; `advance` cancels and harvests what runs."""
        with self.ledger.transaction("cancel") as tx:
            if RUN_TABLE.knows(tx.run(run_id).state, RunEvent.CANCEL):
                tx.move_run(run_id, RunEvent.CANCEL, self.clock.now())
        return self.run(run_id)

    def retry(self, run_id: str, *, max_cost: Decimal | None = None) -> int:
        """Make the failed rows of a finished run pending again; returns how many. `max_cost` is what sending
        them may cost, on top of what the run did."""
        with self.home.run_lock(run_id):
            return reopen(self.ledger, self.home, run_id, self.clock.now(), max_cost=max_cost)

    def recollect(self, run_id: str) -> None:
        """Decode every landed result file again, and deliver again."""
        with self.home.run_lock(run_id):
            run = self.run(run_id)
            if not RUN_TABLE.knows(run.state, RunEvent.RECOLLECTED):
                raise BulkrateError(
                    f"run {run_id} is {run.state}: its results are not all here yet",
                    code="not_finished",
                    hint="wait for it to finish, then recollect",
                )
            setup = self.setup(run)
            context = self._context(run, setup, None, None)
            try:
                recollect_run(self.ledger, context)
            finally:
                self._release(context)
            if self.run(run_id).state is RunState.SETTLED:
                deliver_run(self.ledger, self.home, setup, run_id, self.clock.now())

    def rows(self, run_id: str, *, table: bool = False) -> Iterator[list[dict[str, Any]]]:
        """The run's rows joined to the source, in blocks; in a `table` all have the same columns."""
        run = self.run(run_id)
        setup = self.setup(run)
        moved = setup.source.snapshot() != run.snapshot
        return deliverer_for(self.ledger, self.home, setup, run, table=table).rows(setup.source, moved=moved)

    def deliver(self, run_id: str, path: Path | None = None) -> Delivery:
        """Write the answers there are, to the job's sink or to `path`; harmless at any time."""
        setup = self.setup(self.run(run_id))
        return deliver_run(self.ledger, self.home, setup, run_id, self.clock.now(), path=path)

    def forgettable(self, older_than: datetime) -> list[str]:
        """Runs that `forget` would delete: finished or never approved, last touched before then."""
        return [run.id for run in self.ledger.runs() if forgettable(run, older_than)]

    def forget(self, older_than: datetime) -> list[str]:
        """Delete the forgettable runs, files and ledger rows; returns their ids. One in use is left."""
        return forget(self.ledger, self.home, older_than)
