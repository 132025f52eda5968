"""The submit protocol against a provider that does whatever providers do, with a crash at any moment.

The model below is small: uploads are files; a create takes effect now, later (while its file exists) or
never; its answer arrives or does not; listings lag by as much as the limits say; a refused batch never ran;
clocks are one. The rules under test are the table and `next_steps`; the shell's part (what to record when)
is in `Shell`, as in the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bulkrate.core.shard_states import (
    INTERRUPTED,
    REMOTE,
    SHARD_TABLE,
    Effect,
    ShardEvent,
    ShardState,
    ShardView,
    Situation,
    Step,
    next_steps,
)

CREATE_TIMEOUT_S, LAG_S = 10.0, 5.0
QUIET_S = CREATE_TIMEOUT_S + LAG_S
START = datetime(2026, 1, 1, tzinfo=UTC)
FINAL = SHARD_TABLE.final


@dataclass
class Batch:
    shard: int
    file: int
    created_at: datetime
    refused: bool = False
    ended: bool = False


@dataclass
class Coming:
    """A create call that the provider will still carry out, if its input file is there then."""

    shard: int
    file: int


@dataclass
class Remote:
    files: set[int] = field(default_factory=set)
    next_file: int = 0
    batches: list[Batch] = field(default_factory=list)
    coming: list[Coming] = field(default_factory=list)
    queue_full: bool = False

    def create(self, shard: int, file: int, now: datetime) -> Batch | None:
        if file not in self.files:
            return None
        batch = Batch(shard, file, now, refused=self.queue_full)
        self.batches.append(batch)
        return batch

    def find(self, shard: int, file: int | None, now: datetime) -> Batch | None:
        """As the connections do it: newest first, by tag or file, never one that was refused."""
        for batch in reversed(self.batches):
            listed = batch.created_at + timedelta(seconds=LAG_S) <= now
            if listed and not batch.refused and (batch.shard == shard or batch.file == file):
                return batch
        return None


@dataclass
class Shard:
    view: ShardView
    rows: frozenset[int]
    file: int | None = None
    batch: Batch | None = None
    collected: bool = False


class SubmitProtocol(RuleBasedStateMachine):
    @initialize(
        tokens=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=3), min_size=1, max_size=3),
        queue=st.none() | st.integers(1, 20),
        in_flight=st.none() | st.integers(1, 2),
    )
    def begin(self, tokens: list[list[int]], queue: int | None, in_flight: int | None) -> None:
        self.now = START
        self.remote = Remote()
        self.queue, self.in_flight, self.cancelling = queue, in_flight, False
        self.tokens: dict[int, int] = {}
        self.shards: dict[int, Shard] = {}
        for row_tokens in tokens:
            rows = [len(self.tokens) + index for index in range(len(row_tokens))]
            self.tokens.update(zip(rows, row_tokens, strict=True))
            self.add(rows)

    def add(self, rows: list[int]) -> None:
        number = len(self.shards)
        tokens = sum(self.tokens[row] for row in rows)
        view = ShardView(number, ShardState.PACKED, tokens, requests=len(rows))
        self.shards[number] = Shard(view, frozenset(rows))

    # -- the shell ---------------------------------------------------------------------------------------

    def move(self, shard: Shard, event: ShardEvent) -> None:
        shard.view = replace(shard.view, state=SHARD_TABLE.next(shard.view.state, event))

    def steps(self) -> list[Step]:
        situation = Situation(
            now=self.now,
            quiet_s=QUIET_S,
            listing_lag_s=LAG_S,
            queued_tokens=self.queue,
            batches_in_flight=self.in_flight,
            cancelling=self.cancelling,
        )
        return next_steps([shard.view for shard in self.shards.values()], situation)

    def crash(self) -> None:
        for shard in self.shards.values():
            if (event := INTERRUPTED.get(shard.view.state)) is not None:
                self.move(shard, event)
            shard.view = replace(shard.view, not_before_at=None)  # pacing is not remembered

    def perform(self, step: Step, luck: st.DataObject | None) -> None:
        """Carry out one step; `luck` draws what goes wrong (None: nothing does)."""

        def draws(*fates: str) -> str:
            return fates[0] if luck is None else luck.draw(st.sampled_from(fates), label="fate")

        shard = self.shards[step.shard]
        match step.effect:
            case Effect.UPLOAD:
                self.upload(shard, draws("fine", "lost", "crash"))
            case Effect.CREATE:
                self.create(
                    shard,
                    draws("fine", "unanswered", "late", "never", "deferred", "crash before", "crash after"),
                )
            case Effect.FIND:
                if draws("fine", "unreachable") == "fine":
                    self.find(shard)
            case Effect.FENCE:
                fate = draws("fine", "unreachable", "crash after")
                if fate != "unreachable" and shard.file is not None:
                    self.remote.files.discard(shard.file)
                if fate == "fine":
                    self.move(shard, ShardEvent.FENCE)
                    shard.view = replace(shard.view, looked_at=self.now)
                elif fate == "crash after":
                    self.crash()
            case Effect.POLL:
                self.poll(shard, draws("fine", "unreachable", "running"))
            case Effect.LAND:
                self.move(shard, ShardEvent.RESULTS_LANDED)
            case Effect.COLLECT:
                assert not shard.collected
                shard.collected = True
                self.move(shard, ShardEvent.COLLECTED)
            case Effect.SUPERSEDE:
                self.supersede(shard)
            case Effect.WITHDRAW:
                self.move(shard, ShardEvent.WITHDRAW)

    def upload(self, shard: Shard, fate: str) -> None:
        self.move(shard, ShardEvent.UPLOAD_INTENDED)
        self.remote.next_file += 1
        self.remote.files.add(self.remote.next_file)
        if fate == "fine":
            shard.file = self.remote.next_file
            self.move(shard, ShardEvent.UPLOAD_ANSWERED)
        elif fate == "lost":
            self.move(shard, ShardEvent.UPLOAD_LOST)
        else:
            self.crash()

    def create(self, shard: Shard, fate: str) -> None:
        assert shard.file is not None
        self.move(shard, ShardEvent.CREATE_INTENDED)
        shard.view = replace(shard.view, create_began_at=self.now, looked_at=None)
        number = shard.view.number
        if fate in ("fine", "unanswered", "crash after"):
            batch = self.remote.create(number, shard.file, self.now)
            if fate == "fine" and batch is not None:
                shard.batch = batch
                self.move(shard, ShardEvent.CREATE_ANSWERED)
                return
            if fate == "fine":  # "no such file": a definite no
                self.move(shard, ShardEvent.CREATE_DEFERRED)
                self.move(shard, ShardEvent.INPUT_GONE)
                shard.file = None
                return
        if fate == "late":
            self.remote.coming.append(Coming(number, shard.file))
        if fate == "deferred":
            self.move(shard, ShardEvent.CREATE_DEFERRED)
        elif fate.startswith("crash"):
            self.crash()
        else:
            self.now += timedelta(seconds=CREATE_TIMEOUT_S)
            self.move(shard, ShardEvent.CREATE_UNKNOWN)

    def find(self, shard: Shard) -> None:
        found = self.remote.find(shard.view.number, shard.file, self.now)
        if found is not None:
            shard.batch, shard.file = found, found.file
            self.move(shard, ShardEvent.FOUND)
        elif shard.view.state is ShardState.FENCED:
            shard.file = None
            self.move(shard, ShardEvent.ABSENT)
        else:
            shard.view = replace(shard.view, looked_at=self.now)

    def poll(self, shard: Shard, fate: str) -> None:
        assert shard.batch is not None
        if fate != "fine":
            return
        if shard.batch.refused:
            limit = self.queue
            shard.batch = None
            if limit is not None and shard.view.tokens > limit and len(shard.rows) > 1:
                self.supersede(shard)
            else:
                self.move(shard, ShardEvent.QUEUE_REFUSED)
            return
        shard.batch.ended = True
        self.move(shard, ShardEvent.BATCH_ENDED)

    def supersede(self, shard: Shard) -> None:
        assert len(shard.rows) > 1, "one row cannot be made smaller"
        self.move(shard, ShardEvent.TOO_BIG)
        rows = sorted(shard.rows)
        self.add(rows[: len(rows) // 2])
        self.add(rows[len(rows) // 2 :])

    # -- what happens ------------------------------------------------------------------------------------

    def due(self) -> list[Step]:
        return [step for step in self.steps() if step.at <= self.now]

    @precondition(lambda self: self.due())
    @rule(data=st.data())
    def step(self, data: st.DataObject) -> None:
        self.perform(data.draw(st.sampled_from(self.due()), label="step"), data)

    @precondition(lambda self: self.due())
    @rule(count=st.integers(1, 6))
    def some_steps_without_trouble(self, count: int) -> None:
        for _ in range(count):
            for step in self.due()[:1]:
                self.perform(step, None)

    @precondition(lambda self: self.remote.files and not self.remote.coming)
    @rule(data=st.data())
    def a_create_is_delayed(self, data: st.DataObject) -> None:
        """The dangerous case, made common: the call is lost to us and arrives later."""
        ready = [step for step in self.due() if step.effect is Effect.CREATE]
        if ready:
            self.create(self.shards[data.draw(st.sampled_from(ready)).shard], "late")

    @rule(seconds=st.sampled_from([1.0, LAG_S, QUIET_S]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.remote.coming)
    @rule()
    def a_late_create_takes_effect(self) -> None:
        coming = self.remote.coming.pop()
        self.remote.create(coming.shard, coming.file, self.now)

    @rule(full=st.booleans())
    def the_queue_fills_or_drains(self, full: bool) -> None:
        self.remote.queue_full = full

    @rule()
    def our_process_dies(self) -> None:
        self.crash()

    @precondition(lambda self: not self.cancelling)
    @rule()
    def the_user_cancels(self) -> None:
        self.cancelling = True

    # -- what must hold ----------------------------------------------------------------------------------

    @invariant()
    def no_row_is_accepted_twice(self) -> None:
        accepted = [batch for batch in self.remote.batches if not batch.refused]
        rows = [row for batch in accepted for row in self.shards[batch.shard].rows]
        assert len(rows) == len(set(rows)), "a row was paid for twice"

    @invariant()
    def every_accepted_batch_has_a_shard_that_will_have_it(self) -> None:
        for batch in self.remote.batches:
            shard = self.shards[batch.shard]
            if not batch.refused:
                known = REMOTE | {ShardState.ENDED, ShardState.LANDED, ShardState.COLLECTED}
                assert shard.view.state in known, f"a running batch is lost: {shard.view.state}"

    @invariant()
    def every_row_is_in_one_live_shard(self) -> None:
        live = [shard for shard in self.shards.values() if shard.view.state is not ShardState.SUPERSEDED]
        rows = [row for shard in live for row in shard.rows]
        assert sorted(rows) == sorted(self.tokens)

    @invariant()
    def there_is_always_something_to_do(self) -> None:
        steps = self.steps()
        if any(shard.view.state not in FINAL for shard in self.shards.values()):
            assert steps, "unfinished shards and no step"
        for step in steps:
            shard = self.shards[step.shard]
            assert shard.view.state not in FINAL
            if step.effect is Effect.CREATE:
                assert shard.view.state is ShardState.UPLOADED
                assert shard.file is not None
            if step.effect is Effect.FENCE:
                assert shard.view.create_began_at is not None
                assert self.now >= shard.view.create_began_at + timedelta(seconds=QUIET_S)

    @invariant()
    def limits_are_kept(self) -> None:
        """What may run at the provider, with what may be created next, stays within the limits."""
        states = {step.shard: step.effect for step in self.steps()}
        going = [
            shard.view
            for number, shard in self.shards.items()
            if shard.view.state in REMOTE or states.get(number) in (Effect.UPLOAD, Effect.CREATE)
        ]
        if self.in_flight is not None:
            assert len(going) <= self.in_flight
        if self.queue is not None and len(going) > 1:
            assert sum(view.tokens for view in going) <= self.queue

    def teardown(self) -> None:
        """From wherever it stands, a provider that behaves from now on brings every shard to its end."""
        if not hasattr(self, "remote"):
            return
        self.crash()
        self.remote.coming.clear()
        self.remote.queue_full = False
        for _ in range(500):
            if not self.steps():
                break
            for step in self.due():
                self.perform(step, None)
            self.now += timedelta(seconds=QUIET_S)
        assert {shard.view.state for shard in self.shards.values()} <= FINAL
        self.no_row_is_accepted_twice()
        if not self.cancelling:
            collected = [row for shard in self.shards.values() if shard.collected for row in shard.rows]
            assert sorted(collected) == sorted(self.tokens)


SubmitProtocol.TestCase.settings = settings(max_examples=300, stateful_step_count=30, deadline=None)
TestSubmitProtocol = SubmitProtocol.TestCase
