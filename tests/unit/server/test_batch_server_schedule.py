"""Who goes to the engine next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bulkrate.server.schedule import WaitingBatch, admit

batches = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20)), max_size=6).map(
    lambda pairs: [WaitingBatch(f"b{n}", expires, n, rows) for n, (expires, rows) in enumerate(pairs)]
)


def test_interactive_goes_first() -> None:
    found = admit(4, 3, [WaitingBatch("a", 100, 0, 50)])
    assert (found.interactive, found.batches) == (3, (("a", 1),))
    assert admit(2, 3, [WaitingBatch("a", 100, 0, 50)]).batches == ()


def test_the_window_that_closes_first_goes_first_then_the_older_batch() -> None:
    waiting = [WaitingBatch("a", 300, 0, 2), WaitingBatch("b", 100, 2, 2), WaitingBatch("c", 100, 1, 2)]
    assert admit(5, 0, waiting).batches == (("c", 2), ("b", 2), ("a", 1))


def test_nothing_waits_or_nothing_is_free() -> None:
    assert not admit(5, 0, [WaitingBatch("a", 1, 0, 0)])
    assert not admit(0, 5, [WaitingBatch("a", 1, 0, 5)])
    assert not admit(-1, 5, [])


@given(free=st.integers(0, 30), interactive=st.integers(0, 30), waiting=batches)
def test_slots_are_used_and_never_exceeded(free: int, interactive: int, waiting: list[WaitingBatch]) -> None:
    found = admit(free, interactive, waiting)
    rows = dict(found.batches)
    assert found.interactive + sum(rows.values()) == min(free, interactive + sum(b.rows for b in waiting))
    assert all(0 < rows[batch.id] <= batch.rows for batch in waiting if batch.id in rows)
    # No batch gets a slot while a more urgent one has rows left over.
    order = sorted(waiting, key=lambda batch: (batch.expires_at, batch.sequence))
    left_over = [rows.get(batch.id, 0) < batch.rows for batch in order]
    assert all(
        order[later].id not in rows
        for n, left in enumerate(left_over)
        if left
        for later in range(n + 1, len(order))
    )
