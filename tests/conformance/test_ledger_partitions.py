"""Partitions and their vectors: every row in exactly one state, and counted."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bulkrate.core.outcome import ErrorClass
from bulkrate.core.run_states import RunEvent
from bulkrate.core.vector import Balance, RowState, Vector
from bulkrate.errors import LedgerError
from bulkrate.ledger import (
    Ledger,
    PartitionRecord,
)
from conformance.ledger_records import NOW, RUN, SHARD, assembled

pytest_plugins = ["conformance.postgres"]


class TestPartitions:
    def test_the_balance_is_kept_beside_the_vector(self, ledger: Ledger) -> None:
        assembled(ledger)
        with ledger.transaction("collect") as transaction:
            vector = transaction.vector(RUN.id, 1)
            vector.succeed(0, 0)
            vector.miss(1, 0, ErrorClass.REFUSED, final=True)
            transaction.save_vector(RUN.id, 1, vector)
        assert [partition.balance for partition in ledger.partitions(RUN.id)] == [
            Balance(pending=3),
            Balance(succeeded=1, failed=1, pending=1),
        ]
        assert ledger.balance(RUN.id) == Balance(succeeded=1, failed=1, pending=4)
        assert ledger.vector(RUN.id, 1).to_bytes() == vector.to_bytes()

    def test_a_run_without_partitions_has_an_empty_balance(self, ledger: Ledger) -> None:
        assert ledger.balance("nobody") == Balance()
        assert ledger.partitions("nobody") == list(ledger.vectors("nobody")) == []
        with pytest.raises(LedgerError):
            ledger.vector("nobody", 0)

    def test_vectors_are_streamed_in_order_and_may_be_saved_meanwhile(self, ledger: Ledger) -> None:
        assembled(ledger, partitions=4)
        seen = []
        for partition, vector in ledger.vectors(RUN.id):
            seen.append((partition.number, partition.first_row, len(vector)))
            vector.reject(0)
            with ledger.transaction("reject") as transaction:
                transaction.save_vector(RUN.id, partition.number, vector)
        assert seen == [(0, 0, 3), (1, 3, 3), (2, 6, 3), (3, 9, 3)]
        assert ledger.balance(RUN.id) == Balance(rejected=4, pending=8)

    def test_a_vector_of_another_length_does_not_balance(self, ledger: Ledger) -> None:
        assembled(ledger)
        for vector in (Vector(2), Vector(4)):
            unbalanced = pytest.raises(LedgerError, match=r"does not balance.*partition 1")
            with unbalanced, ledger.transaction("collect") as transaction:
                transaction.save_vector(RUN.id, 1, vector)

    def test_a_row_in_no_known_state_does_not_balance(self, ledger: Ledger) -> None:
        assembled(ledger)
        vector = Vector(3)
        vector.states[1] = 77
        with pytest.raises(LedgerError, match="does not balance"), ledger.transaction("x") as transaction:
            transaction.save_vector(RUN.id, 0, vector)
        assert ledger.balance(RUN.id) == Balance(pending=6)

    def test_partitions_that_do_not_add_up_to_the_run_are_refused_at_the_commit(self, ledger: Ledger) -> None:
        unbalanced = pytest.raises(LedgerError, match="does not balance")
        with unbalanced as caught, ledger.transaction("assemble") as transaction:
            transaction.add_run(RUN)
            transaction.add_partition(PartitionRecord(run=RUN.id, number=0, first_row=0, rows=3), Vector(3))
            transaction.move_run(RUN.id, RunEvent.ASSEMBLED, NOW, rows=4)
        assert caught.value.code == "ledger_unbalanced"
        assert ledger.run(RUN.id) is None

    def test_a_run_may_be_assembled_again_until_something_was_sent(self, ledger: Ledger) -> None:
        with ledger.transaction("assemble") as transaction:
            transaction.add_run(RUN)
            transaction.add_partition(PartitionRecord(run=RUN.id, number=0, first_row=0, rows=3), Vector(3))
            transaction.add_shards([SHARD])
        with ledger.transaction("clear") as transaction:
            transaction.clear_run(RUN.id)
        assert ledger.partitions(RUN.id) == ledger.shards(RUN.id) == []
        with ledger.transaction("send") as transaction:
            transaction.add_shards([SHARD])
            transaction.open_intent(RUN.id, 0, "create", 1, "file-1", NOW)
        with pytest.raises(LedgerError, match="has sent"), ledger.transaction("clear") as transaction:
            transaction.clear_run(RUN.id)
        assert len(ledger.shards(RUN.id)) == 1

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        rows=st.lists(
            st.tuples(
                st.sampled_from(RowState),
                st.integers(0, 255),
                st.integers(0, 255),
                st.integers(0, 2**32 - 1),
            ),
            max_size=300,
        )
    )
    def test_any_vector_comes_back_byte_for_byte(self, ledger: Ledger, rows: list[tuple[int, ...]]) -> None:
        vector = Vector(len(rows))
        for row, (state, error, attempts, shard) in enumerate(rows):
            vector.states[row], vector.errors[row] = state, error
            vector.attempts[row], vector.shards[row] = attempts, shard
        with ledger.transaction("round") as transaction:
            transaction.delete_run(RUN.id)
            transaction.add_run(RUN)
            span = PartitionRecord(run=RUN.id, number=0, first_row=0, rows=len(rows))
            transaction.add_partition(span, Vector(len(rows)))
            transaction.save_vector(RUN.id, 0, vector)
        assert ledger.vector(RUN.id, 0).to_bytes() == vector.to_bytes()
        assert ledger.balance(RUN.id) == vector.balance()
