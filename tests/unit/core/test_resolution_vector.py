"""The per-row truth: its bytes are for ever, an answer is never taken back, and it always balances."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.outcome import CLASS_OF_CODE, ERROR_CODES, ErrorClass
from bulkrate.core.vector import NO_SHARD, Balance, RowState, Vector, settle_alias, total


def test_golden_bytes() -> None:
    vector = Vector(4)
    vector.count_attempt(0)
    vector.succeed(0, 7)
    vector.reject(1)
    vector.count_attempt(2)
    vector.miss(2, 258, ErrorClass.EXPIRED, final=False)
    vector.alias(3)
    assert vector.to_bytes().hex(" ") == (
        "42 52 56 31 04 00 00 00"  # BRV1, four rows
        " 01 03 00 04"  # states
        " 00 00 03 00"  # error classes
        " 01 00 01 00"  # attempts
        " 07 00 00 00 ff ff ff ff 02 01 00 00 ff ff ff ff"  # shards
    )


def test_golden_numbers() -> None:
    assert {state.name: int(state) for state in RowState} == {
        "PENDING": 0,
        "SUCCEEDED": 1,
        "FAILED": 2,
        "REJECTED": 3,
        "ALIAS": 4,
    }
    assert {str(name): code for name, code in ERROR_CODES.items()} == {
        "transient": 1,
        "missing": 2,
        "expired": 3,
        "cancelled": 4,
        "truncated": 5,
        "invalid_output": 6,
        "refused": 7,
        "bad_request": 8,
        "too_long": 9,
        "source_changed": 10,
    }
    assert set(ERROR_CODES) == set(ErrorClass)
    assert {CLASS_OF_CODE[code] for code in ERROR_CODES.values()} == set(ErrorClass)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"BRV1",
        b"BRV2\x00\x00\x00\x00",
        b"BRV1\x01\x00\x00\x00",
        b"BRV1\x00\x00\x00\x00x",
        Vector(3).to_bytes()[:-1],
    ],
)
def test_what_is_not_a_whole_vector(blob: bytes) -> None:
    with pytest.raises(ValueError, match="resolution vector"):
        Vector.from_bytes(blob)


def test_a_state_that_does_not_exist_is_damage() -> None:
    blob = bytearray(Vector(3).to_bytes())
    blob[9] = 5
    with pytest.raises(ValueError, match="resolution vector"):
        Vector.from_bytes(bytes(blob))


def test_first_success_wins() -> None:
    vector = Vector(1)
    assert vector.succeed(0, 3)
    assert not vector.succeed(0, 4)
    assert not vector.miss(0, 5, ErrorClass.TRANSIENT, final=True)
    assert (vector.shards[0], vector.error_of(0)) == (3, None)


def test_a_late_answer_beats_a_failure() -> None:
    vector = Vector(1)
    vector.miss(0, 1, ErrorClass.REFUSED, final=True)
    assert vector.error_of(0) is ErrorClass.REFUSED
    assert vector.succeed(0, 2)
    assert (vector.states[0], vector.shards[0], vector.error_of(0)) == (RowState.SUCCEEDED, 2, None)


def test_a_row_that_was_given_up_is_not_sent_again_by_a_late_failure() -> None:
    vector = Vector(1)
    vector.miss(0, 1, ErrorClass.BAD_REQUEST, final=True)
    assert vector.miss(0, 2, ErrorClass.TRANSIENT, final=False)
    assert vector.states[0] == RowState.FAILED
    assert vector.error_of(0) is ErrorClass.TRANSIENT, "the last reason is the one that is told"


def test_a_rejected_row_stays_rejected() -> None:
    vector = Vector(1)
    vector.reject(0)
    assert not vector.succeed(0, 1)
    assert not vector.miss(0, 1, ErrorClass.TRANSIENT, final=True)
    vector.reopen(0)
    assert vector.states[0] == RowState.REJECTED


def test_attempts_saturate() -> None:
    vector = Vector(1)
    for _ in range(300):
        vector.count_attempt(0)
    assert vector.attempts[0] == 255
    vector.miss(0, 0, ErrorClass.EXPIRED, final=True)
    vector.reopen(0)
    assert (vector.attempts[0], vector.states[0]) == (0, RowState.PENDING)


def test_rows_by_state() -> None:
    vector = Vector(5)
    for row in (4, 1):
        vector.succeed(row, 0)
    assert list(vector.rows_in(RowState.SUCCEEDED)) == [1, 4]
    assert list(vector.rows_in(RowState.PENDING)) == [0, 2, 3]
    assert list(vector.rows_in(RowState.ALIAS)) == []
    assert list(Vector(0).rows_in(RowState.PENDING)) == []


def test_an_alias_takes_the_end_of_its_leader() -> None:
    vector = Vector(2)
    vector.alias(1)
    assert vector.balance() == Balance(pending=2)
    assert not settle_alias(vector, 1, vector, 0), "the leader has no end yet"
    vector.count_attempt(0)
    vector.miss(0, 9, ErrorClass.REFUSED, final=True)
    assert settle_alias(vector, 1, vector, 0)
    assert vector.balance() == Balance(failed=2)
    assert (vector.error_of(1), vector.shards[1], vector.attempts[1]) == (ErrorClass.REFUSED, 9, 1)


@dataclass(frozen=True)
class Operation:
    name: str
    row: int
    shard: int
    error: ErrorClass
    final: bool


ROWS = 5
operations = st.lists(
    st.builds(
        Operation,
        st.sampled_from(["succeed", "miss", "attempt", "reopen", "reject", "alias"]),
        st.integers(0, ROWS - 1),
        st.integers(0, NO_SHARD),
        st.sampled_from(ErrorClass),
        st.booleans(),
    ),
    max_size=60,
)


@given(operations)
def test_it_balances_after_whatever_happens(done: list[Operation]) -> None:
    vector = Vector(ROWS)
    answers: dict[int, int] = {}
    for operation in done:
        row = operation.row
        match operation.name:
            case "succeed":
                if vector.succeed(row, operation.shard):
                    assert row not in answers, "an answered row was answered again"
                    answers[row] = operation.shard
            case "miss":
                vector.miss(row, operation.shard, operation.error, final=operation.final)
            case "attempt":
                vector.count_attempt(row)
            case "reopen":
                vector.reopen(row)
            # The two below happen while a run is assembled, before any row has an end.
            case "reject" if row not in answers:
                vector.reject(row)
            case "alias" if row not in answers:
                vector.alias(row)
        balance = vector.balance()
        assert balance.rows == ROWS == len(vector)
        assert balance.succeeded == len(answers)
        again = Vector.from_bytes(vector.to_bytes())
        assert again.to_bytes() == vector.to_bytes()
        assert again.balance() == balance
    for row, shard in answers.items():
        assert vector.shards[row] == shard


@given(st.lists(st.builds(Balance, *[st.integers(0, 9)] * 4)))
def test_balances_add_up(balances: list[Balance]) -> None:
    assert total(balances).rows == sum(balance.rows for balance in balances)
