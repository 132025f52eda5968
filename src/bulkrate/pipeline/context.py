"""What every arrow of a run works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from bulkrate.core.drain import Drained, Stretch
from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.core.pacing import Pacing
from bulkrate.core.request import Output
from bulkrate.core.retry import RetryPolicy, SendReason
from bulkrate.core.shard_states import REMOTE, ShardState
from bulkrate.core.throttle import Throttle
from bulkrate.errors import LedgerError
from bulkrate.jobs.spec import CanarySpec
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import BatchRecord, ShardRecord
from bulkrate.pipeline.budget import Budget
from bulkrate.pipeline.clock import Clock
from bulkrate.pipeline.hints import Heard
from bulkrate.pipeline.packer import Packer
from bulkrate.pipeline.run_folder import Partitions, RunFolder
from bulkrate.pricing import PUBLISHED, PriceList
from bulkrate.providers.provider import BatchStatus, Connection, Wire

if TYPE_CHECKING:
    from bulkrate.ledger.writing import Transaction

# So often a batch or a file is "not found" before that is believed: replicas lag.
MOST_ABSENCES = 6
_ABSENT = "not_found"
_TOLD_CHARS = 200  # of an id: those of files in a bucket are paths

# Begun on the way to a batch.
UPLOADING = REMOTE | {ShardState.UPLOADING, ShardState.UPLOADED}


@dataclass(slots=True)
class RunContext:
    """One run's parts, put together once by `prepare` and used by submit, poll, collect and deliver.

    `skew_s` is how far the clock of whoever drove the run before may be off ours. `orphans` are batches with
    the run's tag that the ledger does not know, by (shard, digest); None until they were looked for;
    `unidentified` those of which nobody can tell yet. `stretches` are those of single calls on the rescue's
    lane (None: not read), `drained_before` their pace in an earlier run. No single call is begun after
    `calls_until_at`; `cut` says that some were not for that reason. `said` keeps an event from being
    recorded over and over, `uncollected` says which shards cannot be collected. `wake` holds, for shards
    that wait, the time of their next step; it is pacing, not truth, so it lives in memory and a restart
    simply asks at once.
    """

    run: str
    provider: str
    model: str
    ledger: Ledger
    folder: RunFolder
    partitions: Partitions
    wire: Wire
    limits: Limits
    output: Output
    base_cap: int | None
    policy: RetryPolicy
    pacing: Pacing
    clock: Clock
    packer: Packer
    connection: Connection
    epoch: int
    lease_s: float
    skew_s: float
    leased_at: datetime
    budget: Budget
    lane: Lane = Lane.BATCH
    rescue: Lane | None = None
    deadline_at: datetime | None = None
    drained_before: Drained | None = None
    stretches: tuple[Stretch, ...] | None = None
    prices: PriceList = PUBLISHED
    canary: CanarySpec | None = None
    on_in_doubt: str = "wait"
    canary_passed: bool = False
    rescuing: bool = False
    calls_until_at: datetime | None = None
    cut: bool = False
    said: set[str] = field(default_factory=set)
    throttle: Throttle = field(default_factory=Throttle)
    orphans: dict[tuple[int, str], BatchStatus] | None = None
    unidentified: list[BatchStatus] = field(default_factory=list)
    looking: anyio.Lock = field(default_factory=anyio.Lock)
    wake: dict[int, datetime] = field(default_factory=dict)
    failures: dict[int, int] = field(default_factory=dict)
    uncollected: dict[int, LedgerError] = field(default_factory=dict)
    cancel_asked: set[int] = field(default_factory=set)
    heard: Heard = field(default_factory=Heard)
    on_change: Callable[[], None] = lambda: None

    def lane_of(self, shard: ShardRecord) -> Lane:
        """The lane a shard travels on: the job's, or the rescue's for rows that were taken off a batch, or a
        faster one for rows too few for a batch.

        What has a batch, or is on its way to one, is on the batch lane, whatever the job or the limits have
        come to say since.
        """
        if shard.batch_id is not None or shard.state in UPLOADING:
            return Lane.BATCH
        if shard.reason is SendReason.RESCUE and self.rescue is not None:
            return self.rescue
        if self.lane is Lane.BATCH and shard.requests < self.limits.min_requests:
            return self.rescue or Lane.LIVE
        return self.lane

    @contextmanager
    def transaction(self, name: str) -> Iterator[Transaction]:
        """A ledger transaction that fails with RunBusy if another process has taken the run since."""
        with self.ledger.transaction(name) as tx:
            tx.fence(self.run, self.epoch)
            yield tx

    def renew(self) -> None:
        """Make the lease longer once half of it has passed. Raises RunBusy if the run was taken."""
        now = self.clock.now()
        if (now - self.leased_at).total_seconds() * 2 > self.lease_s:
            with self.ledger.transaction("renew") as tx:
                tx.renew_run(self.run, self.epoch, now, lease_s=self.lease_s)
            self.leased_at = now

    def batch_record(self, shard: ShardRecord, status: BatchStatus) -> BatchRecord:
        """The ledger's view of a provider's batch."""
        problems = [[item.code, item.message, item.line] for item in status.problems]
        return BatchRecord(
            run=self.run,
            shard=shard.number,
            provider=self.provider,
            id=status.id,
            word=status.word,
            file_id=status.input_file_id or shard.file_id,
            created_at=status.created_at,
            expires_at=status.expires_at,
            seen_at=self.clock.now(),
            total=status.total,
            completed=status.completed,
            failed=status.failed,
            results_json=orjson.dumps([[file.kind, file.id] for file in status.results]).decode(),
            usage=status.usage,
            problems_json=orjson.dumps(problems).decode() if problems else None,
        )


def say_once(context: RunContext, kind: str, shard: ShardRecord, detail: dict[str, Any]) -> None:
    """Record an event the first time this process sees it of this shard."""
    said = f"{kind} {shard.number}"
    if said not in context.said:
        context.said.add(said)
        with context.transaction(kind) as tx:
            tx.add_event(shard.run, kind, context.clock.now(), shard.number, detail)


def absences(context: RunContext, shard: ShardRecord, remote_id: str) -> int:
    """How often the shard's batch or result file was not found, this time included; counted up to
    MOST_ABSENCES. In the ledger: a process of `tick` asks once."""
    told = context.ledger.events(shard.run, kind=_ABSENT)
    mine = [event.detail_json or "{}" for event in told if event.shard == shard.number]
    name = remote_id[-_TOLD_CHARS:]
    times = [orjson.loads(detail).get("id") for detail in mine].count(name)
    if times < MOST_ABSENCES:
        with context.transaction(_ABSENT) as tx:
            tx.add_event(shard.run, _ABSENT, context.clock.now(), shard.number, {"id": name})
    return min(times + 1, MOST_ABSENCES)
