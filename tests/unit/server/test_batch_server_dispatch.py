"""The engine's thread: order, refusals, cancels, and an engine that fails."""

from __future__ import annotations

import queue
import threading
from typing import Any

from bulkrate.server.api_error import ApiError
from bulkrate.server.dispatch import MAX_FAILURES, Dispatcher, Ticket
from bulkrate.server.engine import EngineRequest
from bulkrate.server.engines.echo import EchoEngine
from bulkrate.server.schedule import WaitingBatch


class Rows:
    """A batch of so many rows."""

    def __init__(self, name: str, count: int, seen: queue.Queue[Any], expires_at: int = 100) -> None:
        self.id, self.count, self.taken, self.seen, self.expires_at = name, count, 0, seen, expires_at

    def view(self) -> WaitingBatch:
        return WaitingBatch(self.id, self.expires_at, 0, self.count - self.taken)

    def take(self) -> Ticket | None:
        self.taken += 1
        return ticket(f"{self.id}:{self.taken}", self.seen)


def ticket(name: str, seen: queue.Queue[Any], words: int = 1, priority: int = 0) -> Ticket:
    request = EngineRequest(name, ({"role": "user", "content": "w " * words},), priority=priority)
    return Ticket(request, seen.put, seen.put)


def collect(seen: queue.Queue[Any], count: int) -> list[Any]:
    return [seen.get(timeout=30) for _ in range(count)]


def test_interactive_goes_before_rows_that_wait() -> None:
    seen: queue.Queue[Any] = queue.Queue()
    at_step, go = threading.Event(), threading.Event()

    def hold(answered: int) -> None:
        at_step.set()
        assert go.wait(30)

    engine = EchoEngine(slots=4, before_step=hold)
    dispatcher = Dispatcher(engine, seen.put)
    dispatcher.add(Rows("batch", 20, seen))
    dispatcher.start()
    assert at_step.wait(30)
    for n in range(3):
        dispatcher.submit(ticket(f"chat{n}", seen, priority=1))
    go.set()
    answers = collect(seen, 23)
    dispatcher.close()
    # Four rows were with the engine; the three who wait for an answer come next.
    assert engine.order[4:7] == ["chat0", "chat1", "chat2"]
    assert [answer.id for answer in answers[4:7]] == ["chat0", "chat1", "chat2"]
    assert not dispatcher.busy


def test_batches_in_the_order_their_windows_close() -> None:
    seen: queue.Queue[Any] = queue.Queue()
    engine = EchoEngine(slots=2)
    dispatcher = Dispatcher(engine, seen.put)
    dispatcher.add(Rows("late", 4, seen, expires_at=200))
    dispatcher.add(Rows("soon", 4, seen, expires_at=100))
    dispatcher.start()
    collect(seen, 8)
    dispatcher.close()
    assert [name.split(":")[0] for name in engine.order] == ["soon"] * 4 + ["late"] * 4


def test_a_refused_request_leaves_its_slot() -> None:
    seen: queue.Queue[Any] = queue.Queue()
    dispatcher = Dispatcher(EchoEngine(slots=1, context_window=100), seen.put)
    dispatcher.submit(ticket("long", seen, words=500))
    dispatcher.submit(ticket("short", seen))
    dispatcher.start()
    refused, answer = collect(seen, 2)
    dispatcher.close()
    assert isinstance(refused, ApiError)
    assert (refused.status, refused.code, answer.id) == (400, "context_length_exceeded", "short")


def test_withdrawing_and_cancelling() -> None:
    seen: queue.Queue[Any] = queue.Queue()
    at_step, go = threading.Event(), threading.Event()

    def hold(answered: int) -> None:
        at_step.set()
        assert go.wait(30)

    dispatcher = Dispatcher(EchoEngine(slots=4, before_step=hold), seen.put)
    dispatcher.add(Rows("batch", 50, seen))
    dispatcher.start()
    assert at_step.wait(30)
    dispatcher.submit(ticket("gone", seen, priority=1))
    dispatcher.submit(ticket("stays", seen, priority=1))
    dispatcher.cancel("gone")
    dispatcher.withdraw("batch", lambda: seen.put("withdrawn"))
    go.set()
    answers = collect(seen, 6)
    dispatcher.close()
    assert [getattr(answer, "id", answer) for answer in answers[4:]] == ["withdrawn", "stays"]
    assert seen.empty()


def test_a_request_that_fails_the_engine_is_found_and_refused_alone() -> None:
    seen: queue.Queue[Any] = queue.Queue()

    def fail(answered: int) -> None:
        if "batch:7" in engine.pending:
            raise RuntimeError("out of luck")

    engine = EchoEngine(slots=4, before_step=fail)
    dispatcher = Dispatcher(engine, lambda error: seen.put(("fatal", error)))
    dispatcher.add(Rows("batch", 20, seen))
    dispatcher.start()
    answers = collect(seen, 20)
    dispatcher.close()
    (refused,) = [answer for answer in answers if isinstance(answer, ApiError)]
    assert (refused.status, refused.code) == (500, "server_error")
    answered = {answer.id for answer in answers if not isinstance(answer, ApiError)}
    assert answered == {f"batch:{n}" for n in range(1, 21)} - {"batch:7"}


def test_an_engine_that_fails_everybody_is_given_up_before_it_spoils_the_batch() -> None:
    seen: queue.Queue[Any] = queue.Queue()

    def fail(answered: int) -> None:
        raise RuntimeError("out of luck")

    rows = Rows("batch", 100, seen)
    dispatcher = Dispatcher(EchoEngine(slots=8, before_step=fail), lambda error: seen.put(("fatal", error)))
    dispatcher.add(rows)
    dispatcher.start()
    answers = collect(seen, MAX_FAILURES + 1)
    dispatcher.close()
    assert [answer.status for answer in answers[:-1]] == [500] * MAX_FAILURES
    assert answers[-1][0] == "fatal"
    assert rows.taken == 8
