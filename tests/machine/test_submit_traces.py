"""Traces that once led to a row paid for twice, step by step; the machine finds them only now and then."""

from __future__ import annotations

from datetime import timedelta

from test_shard_machine import LAG_S, QUIET_S, SubmitProtocol

from bulkrate.core.shard_states import Effect, ShardState


def begun() -> SubmitProtocol:
    protocol = SubmitProtocol()
    protocol.begin(tokens=[[1]], queue=None, in_flight=None)
    return protocol


def do(protocol: SubmitProtocol, effect: Effect) -> None:
    (step,) = protocol.due()
    assert step.effect is effect
    protocol.perform(step, None)


def state(protocol: SubmitProtocol) -> ShardState:
    return protocol.shards[0].view.state


def test_a_create_that_arrives_between_the_look_and_the_fence() -> None:
    protocol = begun()
    do(protocol, Effect.UPLOAD)
    protocol.create(protocol.shards[0], "late")
    protocol.now += timedelta(seconds=QUIET_S)
    do(protocol, Effect.FIND)
    assert state(protocol) is ShardState.IN_DOUBT
    protocol.a_late_create_takes_effect()
    do(protocol, Effect.FENCE)
    assert protocol.due() == [], "the listing needs time to show what was created until the fence"
    protocol.now += timedelta(seconds=LAG_S)
    do(protocol, Effect.FIND)
    assert state(protocol) is ShardState.SUBMITTED, "it was running all along"
    protocol.teardown()


def test_a_death_between_the_fence_and_its_record() -> None:
    protocol = begun()
    do(protocol, Effect.UPLOAD)
    protocol.create(protocol.shards[0], "late")
    protocol.now += timedelta(seconds=QUIET_S)
    do(protocol, Effect.FIND)
    protocol.remote.files.clear()  # the fence, of which nobody knows
    protocol.crash()
    protocol.a_late_create_takes_effect()
    assert protocol.remote.batches == [], "its input is gone"
    do(protocol, Effect.FENCE)
    protocol.now += timedelta(seconds=LAG_S)
    do(protocol, Effect.FIND)
    assert state(protocol) is ShardState.PACKED
    protocol.teardown()


def test_a_batch_that_was_refused_is_not_the_one_in_doubt() -> None:
    protocol = begun()
    do(protocol, Effect.UPLOAD)
    protocol.the_queue_fills_or_drains(full=True)
    do(protocol, Effect.CREATE)
    do(protocol, Effect.POLL)
    assert state(protocol) is ShardState.UPLOADED
    protocol.the_queue_fills_or_drains(full=False)
    protocol.now += timedelta(seconds=LAG_S)
    protocol.create(protocol.shards[0], "unanswered")  # it runs; only the refused one is surely listed
    do(protocol, Effect.FIND)
    protocol.now += timedelta(seconds=QUIET_S)
    protocol.teardown()
    assert [batch.refused for batch in protocol.remote.batches] == [True, False]
