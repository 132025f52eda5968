"""Every live run advanced once (`tick`, for cron), or again and again (`work`, the daemon).

Any number of these may share a ledger: a run that another process drives is skipped, and taken over by
whoever comes by once that process's lease is over.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import anyio

from bulkrate.core.pacing import Pacing
from bulkrate.core.run_states import RunState
from bulkrate.errors import LedgerError, RunBusy
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.hints import Bell, Heard

if TYPE_CHECKING:
    from bulkrate.pipeline.workspace import Workspace

LIVE = (RunState.ACTIVE, RunState.CANCELLING, RunState.SETTLED)

# A slow call of one run does not hold up the others, and a provider is not overrun.
CONCURRENT_RUNS = 4

# The daemon looks for runs that were approved meanwhile at least this often.
LOOK_S = 5.0

# So long each run makes single calls: there is always one more that is due. With a tick every minute little
# time is lost, which a rescue reckons with (`RATE_MARGIN`).
CALLS_S = 50.0

# What went wrong with a run; without a run: with the ledger.
OnError = Callable[[RunRecord | None, Exception], None]


def live_runs(ledger: Ledger) -> list[RunRecord]:
    """Runs that go on by themselves, oldest first: approved, and not finished."""
    return [run for run in reversed(ledger.runs(unfinished=True)) if run.state in LIVE]


async def advance_all(
    workspace: Workspace,
    runs: Sequence[RunRecord],
    *,
    poll_s: float | None,
    on_error: OnError,
    on_change: Callable[[str], None] = lambda run: None,
) -> None:
    """Do for each run all that is due now, several runs at a time. A busy one is skipped."""
    limiter = anyio.CapacityLimiter(CONCURRENT_RUNS)

    async def one(run: RunRecord) -> None:
        async with limiter:
            try:
                await workspace.advance(
                    run.id,
                    timeout_s=0,
                    calls_s=CALLS_S,
                    poll_s=poll_s,
                    on_change=partial(on_change, run.id),
                )
            except RunBusy:
                return
            except Exception as error:
                # Whatever is wrong with this run, the others go on.
                on_error(run, error)

    async with anyio.create_task_group() as group:
        for run in runs:
            group.start_soon(one, run)


async def tick(
    workspace: Workspace, *, poll_s: float | None = None, on_error: OnError | None = None
) -> list[RunRecord]:
    """Advance every live run once; returns them as they are now."""
    failures: list[Exception] = []

    def keep(run: RunRecord | None, error: Exception) -> None:
        error.add_note(f"run {run.id} of {run.job_name}" if run else "the ledger")
        failures.append(error)

    runs = live_runs(workspace.ledger)
    await advance_all(workspace, runs, poll_s=poll_s, on_error=on_error or keep)
    if failures:
        raise ExceptionGroup(f"{len(failures)} of {len(runs)} runs could not be advanced", failures)
    now = (workspace.ledger.run(run.id) for run in runs)
    return [run for run in now if run is not None]


class Cadence:
    """When each run is due: often while things happen to it, ever less often while nothing does.

    Jitter keeps several workers from asking at the same moments.
    """

    def __init__(self, pacing: Pacing, jitter: Callable[[], float]) -> None:
        self._pacing, self._jitter = pacing, jitter
        self._changed_at: dict[str, datetime] = {}
        self._due_at: dict[str, datetime] = {}

    def due(self, runs: Sequence[RunRecord], now: datetime) -> list[RunRecord]:
        """The runs to advance now. Runs that are not among `runs` any more are forgotten."""
        live = {run.id for run in runs}
        for kept in (self._changed_at, self._due_at):
            for gone in kept.keys() - live:
                del kept[gone]
        return [run for run in runs if self._due_at.get(run.id, now) <= now]

    def advanced(self, run: str, now: datetime, *, changed: bool) -> None:
        """A run was advanced; `changed` if anything happened to it."""
        if changed or run not in self._changed_at:
            self._changed_at[run] = now
        age_s = (now - self._changed_at[run]).total_seconds()
        self._due_at[run] = now + timedelta(seconds=self._pacing.poll_delay_s(age_s, self._jitter()))

    def hasten(self, runs: Iterable[str]) -> None:
        """These are due now, once; then they go on at their cadence."""
        for run in runs:
            self._due_at.pop(run, None)

    def sleep_s(self, now: datetime) -> float:
        """How long until something is due, or new runs are looked for."""
        next_at = min(self._due_at.values(), default=now + timedelta(seconds=LOOK_S))
        return min(max((next_at - now).total_seconds(), 0.0), LOOK_S)


async def work(
    workspace: Workspace,
    *,
    poll_s: float | None = None,
    on_error: OnError,
    on_finished: Callable[[RunRecord], None] = lambda run: None,
    jitter: Callable[[], float] = random.random,
    bell: Bell | None = None,
) -> None:
    """Advance live runs until cancelled, each at its own cadence. No error ends it, not even the ledger's.

    `bell` is rung when a hint was recorded in the ledger, so that it is heeded at once.
    """
    cadence, heard, bell = Cadence(Pacing(poll_s=poll_s), jitter), Heard(), bell or Bell()
    while True:
        try:
            live = live_runs(workspace.ledger)
            cadence.hasten(hint.run for hint in heard.fresh(workspace.ledger, [run.id for run in live]))
            due = cadence.due(live, workspace.clock.now())
            changed: set[str] = set()
            await advance_all(workspace, due, poll_s=poll_s, on_error=on_error, on_change=changed.add)
            for run in due:
                now = workspace.ledger.run(run.id)
                if now is not None and now.state is not run.state:
                    changed.add(run.id)
                    if now.state is RunState.FINISHED:
                        on_finished(now)
                cadence.advanced(run.id, workspace.clock.now(), changed=run.id in changed)
        except LedgerError as error:  # a database that is being started again, say
            on_error(None, error)
            await workspace.clock.sleep(LOOK_S)
            continue
        await bell.sleep(workspace.clock, cadence.sleep_s(workspace.clock.now()))
