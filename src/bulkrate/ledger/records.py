"""What the ledger keeps, as plain values: one dataclass per table. All times are aware and in UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.retry import SendReason
from bulkrate.core.run_states import RunState
from bulkrate.core.shard_states import ShardState
from bulkrate.core.usage import NONE, Usage
from bulkrate.core.vector import Balance

IntentKind = Literal["upload", "create"]

EMPTY = Balance()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One execution of a job over a snapshot of its source.

    `id` is the run tag, `job_key` the digest of what can change an answer, `job_path` the file the job was
    last read from (None: made in a program), `job_json` the resolved job without secrets. `queued_tokens` is
    a queue limit learned from a refusal. `epoch` is the fencing token: it grows by one each time a process
    takes the run; `holder` is the machine that process is on, and `lease_until_at` when another machine may
    take it.
    """

    id: str
    job_name: str
    job_key: str
    job_path: str | None = None
    job_json: str
    snapshot: str
    nonce: str = ""
    provider: str
    model: str
    state: RunState = RunState.ASSEMBLING
    rows: int = 0
    quote_json: str | None = None
    sink: str | None = None
    queued_tokens: int | None = None
    error: str | None = None
    epoch: int = 0
    created_at: datetime
    approved_at: datetime | None = None
    finished_at: datetime | None = None
    updated_at: datetime
    holder: str | None = None
    lease_until_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionRecord:
    """Consecutive rows of a run. `balance` counts them by state without reading the vector."""

    run: str
    number: int
    first_row: int
    rows: int
    balance: Balance = EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRecord:
    """The unit of submission.

    `failures` counts calls in a row that could not ask, `refusals` definite noes of back-pressure.
    `max_output_tokens` overrides the job's cap (None: the job's). `create_began_at` is the last create
    intent, `looked_at` the last answered look for it. A shard that a queue limit cut out of a larger one is
    `slice_of` that one, from its request `slice_first` on.
    """

    run: str
    number: int
    state: ShardState = ShardState.PACKED
    reason: SendReason = SendReason.FIRST
    requests: int
    size_bytes: int
    tokens: int
    digest: str
    slice_of: int | None = None
    slice_first: int | None = None
    max_output_tokens: int | None = None
    file_id: str | None = None
    batch_id: str | None = None
    failures: int = 0
    refusals: int = 0
    not_before_at: datetime | None = None
    create_began_at: datetime | None = None
    looked_at: datetime | None = None
    submitted_at: datetime | None = None
    ended_at: datetime | None = None
    collected_at: datetime | None = None
    end: BatchEnd | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """The provider's batch as last seen. `id` and `word` are the provider's own.

    `results_json` is a list of [kind, file id]; `usage` the provider's control total, None if it gave none.
    """

    run: str
    shard: int
    provider: str
    id: str
    word: str
    file_id: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    seen_at: datetime
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    results_json: str = "[]"
    usage: Usage | None = None
    problems_json: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HintRecord:
    """A provider's word that a batch of ours has news, by the provider's own id of the message.

    Never believed as a state: a reason to ask now.
    """

    run: str
    shard: int
    provider: str
    batch_id: str
    id: str
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentRecord:
    """An effect that was about to happen: written before the call, closed when its end is known."""

    id: int
    run: str
    shard: int
    kind: IntentKind
    epoch: int
    file_id: str | None
    began_at: datetime
    closed_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something that happened, in order of `id`. `detail_json` never holds a prompt, an answer or a key."""

    id: int
    run: str
    shard: int | None
    at: datetime
    kind: str
    detail_json: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRecord:
    """What a shard's requests used, by how they ended.

    `error` is empty for succeeded requests, else the error class, or `unattributed` for what the provider's
    control total holds beyond the rows: its `requests` are then as many as are that long on average.
    `over_tokens` is the long-context step that each of them is over, 0 for none. `reported_cost` is what the
    provider itself said that they cost, None where it did not say it of all.
    """

    run: str
    shard: int
    model: str
    lane: str = "batch"
    reason: SendReason = SendReason.FIRST
    error: str = ""
    over_tokens: int = 0
    requests: int
    reported_cost: Decimal | None = None
    usage: Usage = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class ReservationRecord:
    """What a shard counts for against budgets: at worst `reserved`, from `settled_at` on `cost`.

    None is an amount that nobody knows. `month` is the one it was reserved in; `run` is None once the run was
    deleted.
    """

    id: int
    run: str | None
    shard: int
    job_name: str
    month: str
    reserved: Decimal | None
    cost: Decimal | None
    settled_at: datetime | None
