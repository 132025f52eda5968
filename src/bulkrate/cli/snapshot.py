"""One look at a run: what the progress display shows, read from the ledger in a few small queries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bulkrate.core.shard_states import SHARD_TABLE, ShardState
from bulkrate.core.usage import NONE, Usage
from bulkrate.core.vector import Balance

if TYPE_CHECKING:
    from bulkrate.ledger.ledger import Ledger

# What a shard without a batch is up to, in words for people.
WORDS = {
    ShardState.PACKED: "waiting",
    ShardState.UPLOADING: "uploading",
    ShardState.UPLOADED: "uploaded",
    ShardState.CREATING: "creating",
    ShardState.IN_DOUBT: "in doubt: looking for it",
    ShardState.FENCED: "in doubt: looking once more",
    ShardState.ENDED: "downloading",
    ShardState.LANDED: "reading results",
}


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch, or a shard on its way to be one. `completed` and `total` are the provider's own counts."""

    shard: int
    id: str | None
    word: str
    completed: int
    total: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run at one moment. `open` holds the shards that are not done."""

    state: str
    provider: str
    balance: Balance
    usage: Usage
    batches_done: int
    open: list[BatchView] = field(default_factory=list)

    @property
    def rows_done(self) -> int:
        """Rows that are through, with those the provider says it has done."""
        balance = self.balance
        ended = balance.rows - balance.pending
        return min(ended + sum(view.completed for view in self.open), balance.rows)

    def words(self) -> str:
        """The open batches, counted by the provider's word."""
        counts = Counter(view.word for view in self.open)
        return ", ".join(f"{count} {word}" for word, count in counts.items())


def take_snapshot(ledger: Ledger, run_id: str) -> Snapshot | None:
    """Look at a run; None when there is none."""
    run = ledger.run(run_id)
    if run is None:
        return None
    batches = {batch.id: batch for batch in ledger.batches(run_id)}
    done = 0
    views = []
    for shard in ledger.shards(run_id):
        if shard.state in SHARD_TABLE.final:
            done += shard.batch_id is not None
            continue
        batch = batches.get(shard.batch_id or "")
        word = WORDS.get(shard.state) or (batch.word if batch else str(shard.state))
        completed = ((batch.completed or 0) + (batch.failed or 0)) if batch else 0
        total = (batch.total if batch else None) or shard.requests
        views.append(BatchView(shard.number, shard.batch_id, word, min(completed, total), total))
    usage = sum((record.usage for record in ledger.usage(run_id)), NONE)
    return Snapshot(str(run.state), run.provider, ledger.balance(run_id), usage, done, views)


class Pace:
    """How fast rows get done since the first look, and when that would be all of them."""

    def __init__(self, now: datetime) -> None:
        self._began = now
        self._first: int | None = None

    def elapsed(self, now: datetime) -> timedelta:
        """Since the first look."""
        return now - self._began

    def end_at(self, snapshot: Snapshot, now: datetime) -> datetime | None:
        """When it would end at this pace; None while there is no pace to speak of."""
        if self._first is None:
            self._first = snapshot.rows_done
        done = snapshot.rows_done - self._first
        elapsed = self.elapsed(now)
        left = snapshot.balance.rows - snapshot.rows_done
        if done <= 0 or left <= 0 or elapsed < timedelta(seconds=1):
            return None
        return now + elapsed * (left / done)


def utc_now() -> datetime:
    """The time for the display."""
    return datetime.now(UTC)


def duration(span: timedelta) -> str:
    """`12 s`, `3 min 05 s`, `2 h 10 min`, `1 d 4 h`."""
    seconds = max(int(span.total_seconds()), 0)
    minutes, second = divmod(seconds, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour} h"
    if hours:
        return f"{hours} h {minute:02} min"
    if minutes:
        return f"{minutes} min {second:02} s"
    return f"{second} s"
