"""The tables themselves, the planner's rules one by one, and the page that is drawn from them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from bulkrate.core.lanes import Lane
from bulkrate.core.run_states import RUN_TABLE, RunEvent, RunState
from bulkrate.core.shard_states import (
    INTERRUPTED,
    SHARD_TABLE,
    Effect,
    ShardEvent,
    ShardState,
    ShardView,
    Situation,
    next_steps,
)
from bulkrate.core.table import IllegalTransition, Table, moves

NOW = datetime(2026, 11, 24, tzinfo=UTC)
CALM = Situation(now=NOW, quiet_s=180, listing_lag_s=60)
S, E = ShardState, Effect


def view(
    number: int, state: ShardState, *, tokens: int = 1, requests: int = 2, **times: datetime
) -> ShardView:
    return ShardView(number, state, tokens, requests, **times)


def plan(*shards: ShardView, situation: Situation = CALM) -> dict[int, Effect]:
    return {step.shard: step.effect for step in next_steps(list(shards), situation)}


@pytest.mark.parametrize("table", [RUN_TABLE, SHARD_TABLE])
def test_every_state_is_reached_and_leads_to_an_end(table: Table) -> None:
    states = set(type(table.initial))
    events = {event for _, event in table.moves}
    assert events == set(type(next(iter(events)))), "an event that nothing knows"
    reached = {table.initial}
    for _ in states:
        reached |= {new for (old, _), new in table.moves.items() if old in reached}
    assert reached == states
    ending = set(table.final)
    for _ in states:
        ending |= {old for (old, _), new in table.moves.items() if new in ending}
    assert ending == states, "a state that never ends"


def test_a_shard_that_is_done_stays_done() -> None:
    assert not [state for state, _ in SHARD_TABLE.moves if state in SHARD_TABLE.final]


def test_no_way_around_the_fence() -> None:
    """Rows come back from a create only by an answer, an adoption, a definite no, or the fence."""
    back = {(old, event) for (old, event), new in SHARD_TABLE.moves.items() if new in (S.PACKED, S.UPLOADED)}
    after_create = {S.CREATING, S.IN_DOUBT, S.FENCED, S.SUBMITTED, S.ENDED, S.LANDED}
    assert {move for move in back if move[0] in after_create} == {
        (S.CREATING, ShardEvent.CREATE_DEFERRED),
        (S.FENCED, ShardEvent.ABSENT),
        (S.SUBMITTED, ShardEvent.QUEUE_REFUSED),
    }
    assert INTERRUPTED[S.CREATING] is ShardEvent.CREATE_UNKNOWN


def test_a_move_that_does_not_exist_is_a_bug() -> None:
    with pytest.raises(IllegalTransition, match="no move from collected on found"):
        SHARD_TABLE.next(S.COLLECTED, ShardEvent.FOUND)
    assert not RUN_TABLE.knows(RunState.ASSEMBLING, RunEvent.APPROVED)
    with pytest.raises(ValueError, match="two moves"):
        moves([(S.PACKED, ShardEvent.FOUND, S.ENDED), (S.PACKED, ShardEvent.FOUND, S.LANDED)])


@pytest.mark.parametrize(
    ("state", "effect"),
    [
        (S.PACKED, E.UPLOAD),
        (S.UPLOADED, E.CREATE),
        (S.IN_DOUBT, E.FIND),
        (S.FENCED, E.FIND),
        (S.SUBMITTED, E.POLL),
        (S.ENDED, E.LAND),
        (S.LANDED, E.COLLECT),
        (S.COLLECTED, None),
        (S.SUPERSEDED, None),
        (S.WITHDRAWN, None),
    ],
)
def test_the_step_of_each_state(state: ShardState, effect: Effect | None) -> None:
    assert plan(view(0, state)).get(0) == effect


@pytest.mark.parametrize("state", [S.UPLOADING, S.CREATING])
def test_a_call_under_way_is_never_planned(state: ShardState) -> None:
    with pytest.raises(AssertionError):
        plan(view(0, state))


def test_fence_only_after_a_look_after_the_quiet_period() -> None:
    began = NOW - timedelta(seconds=1_000)
    early, quiet = began + timedelta(seconds=179), began + timedelta(seconds=180)
    doubt = view(0, S.IN_DOUBT, create_began_at=began)
    assert plan(doubt) == {0: E.FIND}
    assert plan(replace(doubt, looked_at=early)) == {0: E.FIND}
    assert plan(replace(doubt, looked_at=quiet)) == {0: E.FENCE}
    assert plan(replace(doubt, create_began_at=None, looked_at=quiet)) == {0: E.FIND}


@pytest.mark.parametrize(("lag_s", "wait_s"), [(60.0, 60), (None, 180), (0.0, 0)])
def test_the_look_after_the_fence_waits_for_the_listing(lag_s: float | None, wait_s: int) -> None:
    """A create that came just before the file was deleted is running, and not listed yet."""
    fenced = view(0, S.FENCED, create_began_at=NOW - timedelta(hours=1), looked_at=NOW)
    (step,) = next_steps([fenced], replace(CALM, listing_lag_s=lag_s))
    assert (step.effect, step.at) == (E.FIND, NOW + timedelta(seconds=wait_s))


def test_cancelling_withdraws_what_was_not_sent_and_harvests_the_rest() -> None:
    shards = [
        view(number, state) for number, state in enumerate([S.PACKED, S.UPLOADED, S.SUBMITTED, S.IN_DOUBT])
    ]
    steps = plan(*shards, situation=replace(CALM, cancelling=True))
    assert steps == {0: E.WITHDRAW, 1: E.WITHDRAW, 2: E.POLL, 3: E.FIND}


def test_only_the_canary_goes_while_it_is_out() -> None:
    steps = plan(view(0, S.PACKED), view(1, S.SUBMITTED), situation=replace(CALM, only=frozenset({1})))
    assert steps == {1: E.POLL}


def test_the_token_queue() -> None:
    situation = replace(CALM, queued_tokens=10)
    big, one = view(0, S.PACKED, tokens=11), view(0, S.PACKED, tokens=11, requests=1)
    assert plan(big, situation=situation) == {0: E.SUPERSEDE}
    assert plan(one, situation=situation) == {0: E.UPLOAD}, "the provider has the last word"
    assert plan(view(1, S.SUBMITTED), one, situation=situation) == {1: E.POLL}
    six = [view(number, S.PACKED, tokens=6) for number in range(3)]
    assert plan(*six, situation=situation) == {0: E.UPLOAD}
    four = [view(number, S.UPLOADED, tokens=4) for number in range(3)]
    assert plan(*four, situation=situation) == {0: E.CREATE, 1: E.CREATE}
    assert plan(view(9, S.IN_DOUBT, tokens=9), *six, situation=situation) == {9: E.FIND}, "it may be running"


def test_batches_in_flight() -> None:
    situation = replace(CALM, batches_in_flight=2)
    shards = [view(number, S.PACKED) for number in range(3)]
    assert plan(*shards, situation=situation) == {0: E.UPLOAD, 1: E.UPLOAD}
    assert plan(view(3, S.FENCED), *shards, situation=situation) == {3: E.FIND, 0: E.UPLOAD}


@pytest.mark.parametrize("lane", [Lane.LIVE, Lane.FLEX])
def test_single_calls_need_no_batch_limits(lane: Lane) -> None:
    situation = replace(CALM, queued_tokens=1, batches_in_flight=1)
    shards = [replace(view(number, S.PACKED, tokens=9), lane=lane) for number in range(2)]
    assert plan(*shards, situation=situation) == {0: E.SEND, 1: E.SEND}
    assert plan(replace(view(0, S.SENDING), lane=lane)) == {0: E.SEND}, "goes on after a crash"
    assert plan(*shards, situation=replace(situation, cancelling=True)) == {0: E.WITHDRAW, 1: E.WITHDRAW}


def test_steps_come_in_shard_order_and_not_before_their_time() -> None:
    later = NOW + timedelta(seconds=9)
    steps = next_steps(
        [view(2, S.SUBMITTED, not_before_at=later), view(1, S.LANDED, not_before_at=NOW)], CALM
    )
    assert [(step.shard, step.at) for step in steps] == [(1, NOW), (2, later)]
    past = view(0, S.SUBMITTED, not_before_at=NOW - timedelta(days=1))
    assert next_steps([past], CALM)[0].at == NOW


def test_the_page_is_fresh() -> None:
    path = Path(__file__).parents[3] / "docs" / "explanation" / "generate_state_machines.py"
    spec = spec_from_file_location("generate_state_machines", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), f"stale: run {path.name}"
