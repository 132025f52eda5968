"""A run's life with its rows: it balances after every event, and every run ends."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bulkrate.core.outcome import ErrorClass
from bulkrate.core.retry import RetryPolicy, SendReason, reason_for_pending, resend_reason
from bulkrate.core.run_states import RUN_TABLE, RunEvent, RunState
from bulkrate.core.vector import RowState, Vector

POLICY = RetryPolicy(attempts=3)
S, V = RunState, RunEvent


class RunLife(RuleBasedStateMachine):
    @initialize(rows=st.integers(1, 6))
    def begin(self, rows: int) -> None:
        self.state = RUN_TABLE.initial
        self.vector = Vector(rows)
        self.shards = 0
        self.answers: dict[int, int] = {}
        self.sent: dict[int, int] = {}
        self.delivered: bytes | None = None

    def move(self, event: RunEvent) -> None:
        self.state = RUN_TABLE.next(self.state, event)

    def pending(self) -> list[int]:
        return list(self.vector.rows_in(RowState.PENDING))

    def collect(self, ends: list[ErrorClass | None]) -> None:
        """One shard of all pending rows comes back; as the pipeline does it."""
        cancelling = self.state is S.CANCELLING
        for row, error in zip(self.pending(), ends, strict=False):
            reason = (
                reason_for_pending(self.vector.error_of(row))
                if self.vector.attempts[row]
                else SendReason.FIRST
            )
            self.vector.count_attempt(row)
            self.sent[row] = self.sent.get(row, 0) + 1
            if error is None:
                assert self.vector.succeed(row, self.shards)
                assert row not in self.answers
                self.answers[row] = self.shards
                continue
            again = resend_reason(
                error, attempts=self.vector.attempts[row], sent_for=reason, capped=True, policy=POLICY
            )
            self.vector.miss(row, self.shards, error, final=again is None or cancelling)
        self.shards += 1
        self.vector = Vector.from_bytes(self.vector.to_bytes())

    @precondition(lambda self: self.state is S.ASSEMBLING)
    @rule(rejected=st.sets(st.integers(0, 5)))
    def assembled(self, rejected: set[int]) -> None:
        for row in rejected:
            if row < len(self.vector):
                self.vector.reject(row)
        self.move(V.ASSEMBLED)

    @precondition(lambda self: self.state is S.READY)
    @rule()
    def approved(self) -> None:
        self.move(V.APPROVED)

    @precondition(lambda self: self.state in (S.READY, S.ACTIVE, S.CANCELLING))
    @rule()
    def cancelled(self) -> None:
        self.move(V.CANCEL)

    @precondition(lambda self: self.state in (S.ACTIVE, S.CANCELLING) and self.pending())
    @rule(ends=st.lists(st.none() | st.sampled_from(ErrorClass), min_size=6, max_size=6))
    def a_shard_comes_back(self, ends: list[ErrorClass | None]) -> None:
        self.collect(ends)

    @precondition(lambda self: self.state in (S.ACTIVE, S.CANCELLING))
    @rule()
    def settles(self) -> None:
        if self.state is S.CANCELLING:
            for row in self.pending():
                self.vector.states[row] = RowState.FAILED
        if not self.pending():
            self.move(V.SETTLED)

    @precondition(lambda self: self.state in (S.SETTLED, S.FINISHED))
    @rule()
    def delivered_to_the_sink(self) -> None:
        self.move(V.DELIVERED)
        self.delivered = self.vector.to_bytes()

    @precondition(lambda self: self.state in (S.SETTLED, S.FINISHED))
    @rule()
    def the_user_asks_for_another_try(self) -> None:
        failed = list(self.vector.rows_in(RowState.FAILED))
        if failed:
            for row in failed:
                self.vector.reopen(row)
                self.sent[row] = 0
            self.move(V.REOPENED)

    @precondition(lambda self: self.state in (S.SETTLED, S.FINISHED))
    @rule()
    def decoded_again(self) -> None:
        self.move(V.RECOLLECTED)

    @invariant()
    def it_balances(self) -> None:
        balance = self.vector.balance()
        assert balance.rows == len(self.vector)
        assert balance.succeeded == len(self.answers)
        for row, shard in self.answers.items():
            assert self.vector.shards[row] == shard, "an answer was replaced"

    @invariant()
    def no_row_is_sent_too_often(self) -> None:
        assert all(count <= POLICY.attempts for count in self.sent.values())

    @invariant()
    def a_settled_run_has_no_pending_row(self) -> None:
        if self.state in (S.SETTLED, S.FINISHED):
            assert self.vector.balance().pending == 0
        if self.state is S.FINISHED:
            assert self.delivered == self.vector.to_bytes(), "what was delivered is what is known"

    def teardown(self) -> None:
        """From anywhere, with nothing but failures that pass, the run comes to its end."""
        if not hasattr(self, "state"):
            return
        if self.state is S.ASSEMBLING:
            self.move(V.ASSEMBLED)
        if self.state is S.READY:
            self.move(V.APPROVED)
        for _ in range(POLICY.attempts):
            if self.state in (S.ACTIVE, S.CANCELLING):
                self.collect([ErrorClass.TRANSIENT] * len(self.vector))
                self.settles()
        if self.state is S.SETTLED:
            self.delivered_to_the_sink()
        assert self.state is S.FINISHED
        self.it_balances()


RunLife.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestRunLife = RunLife.TestCase
