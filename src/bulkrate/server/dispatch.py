"""The engine's thread: takes what `schedule.admit` lets in, steps the engine, hands answers back.

Only this thread touches the engine. Everyone else leaves a note under the condition variable and goes on;
with nothing to do the thread waits on it.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from bulkrate.server.api_error import ApiError
from bulkrate.server.schedule import WaitingBatch, admit

if TYPE_CHECKING:
    from bulkrate.server.engine import Engine, EngineAnswer, EngineRequest

log = logging.getLogger(__name__)

MAX_FAILURES = 3
"""After so many requests in a row that fail alone the engine is given up, and with it the process."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request on its way through the engine; exactly one of the two is called, in the engine's thread."""

    request: EngineRequest
    deliver: Callable[[EngineAnswer], None]
    refuse: Callable[[ApiError], None]


class RowSource(Protocol):
    """A batch, as the dispatcher sees it."""

    id: str

    def view(self) -> WaitingBatch:
        """How many rows wait, and how urgent they are."""

    def take(self) -> Ticket | None:
        """The next row; None when there is none."""


class Dispatcher:
    """Feeds one engine from interactive requests and batches."""

    def __init__(self, engine: Engine, on_fatal: Callable[[BaseException], None]) -> None:
        self._engine = engine
        self._on_fatal = on_fatal
        self._wake = threading.Condition()
        self._interactive: deque[Ticket] = deque()
        self._sources: dict[str, RowSource] = {}
        self._withdrawn: list[tuple[str, Callable[[], None]]] = []
        self._cancelled: list[str] = []
        self._in_flight: dict[str, tuple[Ticket, str | None]] = {}
        self._suspects: deque[tuple[Ticket, str | None]] = deque()
        self._failures = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def close(self) -> None:
        """Stop after the step under way; what is in flight is dropped."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def add(self, source: RowSource) -> None:
        """Let a batch's rows in."""
        with self._wake:
            self._sources[source.id] = source
            self._wake.notify()

    def withdraw(self, source_id: str, done: Callable[[], None]) -> None:
        """Take a batch out: `done` is called (in the engine's thread) when none of its rows runs any more."""
        with self._wake:
            self._withdrawn.append((source_id, done))
            self._wake.notify()

    def remove(self, source_id: str) -> None:
        """Forget a batch whose rows have all been taken."""
        with self._wake:
            self._sources.pop(source_id, None)

    def holds(self, source_id: str) -> bool:
        """Whether a batch has been let in and not taken out since."""
        with self._wake:
            return source_id in self._sources

    def submit(self, ticket: Ticket) -> None:
        """Queue an interactive request."""
        with self._wake:
            self._interactive.append(ticket)
            self._wake.notify()

    def cancel(self, request_id: str) -> None:
        """Nobody waits for this interactive request any more: neither of its callbacks will be called."""
        with self._wake:
            self._cancelled.append(request_id)
            self._wake.notify()

    @property
    def busy(self) -> bool:
        """Whether anything waits for the engine or is with it."""
        with self._wake:
            return bool(self._in_flight) or self._has_work()

    @property
    def waiting_interactive(self) -> int:
        """How many interactive requests wait for a slot."""
        with self._wake:
            return len(self._interactive)

    # --- in the engine's thread ---

    def _run(self) -> None:
        try:
            while self._wait_for_work():
                self._take_back()
                self._fill()
                if self._in_flight:
                    self._step()
        except BaseException as error:
            log.error("the engine's thread ended: %s", type(error).__name__)
            self._on_fatal(error)

    def _has_work(self) -> bool:
        return bool(
            self._interactive
            or self._suspects
            or self._cancelled
            or self._withdrawn
            or any(source.view().rows for source in self._sources.values())
        )

    def _wait_for_work(self) -> bool:
        with self._wake:
            while not (self._closing or self._in_flight or self._has_work()):
                self._wake.wait()
            return not self._closing

    def _take_back(self) -> None:
        with self._wake:
            withdrawn, self._withdrawn = self._withdrawn, []
            cancelled, self._cancelled = set(self._cancelled), []
            for source_id, _ in withdrawn:
                self._sources.pop(source_id, None)
            if cancelled:
                waiting = [ticket for ticket in self._interactive if ticket.request.id not in cancelled]
                self._interactive = deque(waiting)
        sources = {source_id for source_id, _ in withdrawn}
        for request_id, (_, owner) in list(self._in_flight.items()):
            if owner in sources or request_id in cancelled:
                del self._in_flight[request_id]
                self._engine.cancel(request_id)
        self._suspects = deque(
            (ticket, owner)
            for ticket, owner in self._suspects
            if owner not in sources and ticket.request.id not in cancelled
        )
        for _, done in withdrawn:
            done()

    def _fill(self) -> None:
        """Admit until the slots are full or nobody waits; a refused request leaves its slot to the next."""
        if self._suspects:
            if not self._in_flight:
                self._admit(*self._suspects.popleft())
            return
        while (free := self._engine.slots - len(self._in_flight)) > 0:
            with self._wake:
                sources = dict(self._sources)
                admission = admit(free, len(self._interactive), [item.view() for item in sources.values()])
                first = [self._interactive.popleft() for _ in range(admission.interactive)]
            if not admission:
                return
            for ticket in first:
                self._admit(ticket, None)
            for source_id, count in admission.batches:
                for _ in range(count):
                    ticket_or_none = sources[source_id].take()
                    if ticket_or_none is None:
                        break
                    self._admit(ticket_or_none, source_id)

    def _admit(self, ticket: Ticket, source_id: str | None) -> None:
        reason = self._engine.check(ticket.request)
        if reason is not None:
            ticket.refuse(refusal(reason, "input" if ticket.request.inputs else "messages"))
            return
        self._in_flight[ticket.request.id] = (ticket, source_id)
        self._engine.submit(ticket.request)

    def _step(self) -> None:
        try:
            answers = self._engine.step()
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            # The exception's own words may quote a prompt.
            log.error("the engine failed a step: %s at %s:%s", type(error).__name__, where.name, where.lineno)
            self._find_the_culprit(error)
            return
        self._failures = 0
        for answer in answers:
            entry = self._in_flight.pop(answer.id, None)
            if entry is not None:
                entry[0].deliver(answer)

    def _find_the_culprit(self, error: Exception) -> None:
        """One request can fail the step of many: they are tried again one by one, and who fails alone is
        refused. When several in a row fail alone it is the engine."""
        entries = list(self._in_flight.items())
        self._in_flight.clear()
        for request_id, _ in entries:
            self._engine.cancel(request_id)
        if len(entries) > 1:
            self._suspects.extend(entry for _, entry in entries)
            return
        for _, (ticket, _) in entries:
            message = "The engine failed on this request."
            ticket.refuse(ApiError(500, message, code="server_error", kind="server_error"))
        self._failures += 1
        if self._failures >= MAX_FAILURES:
            raise error


def refusal(reason: str, param: str) -> ApiError:
    """The engine's reason not to take a request, as an error."""
    code = "context_length_exceeded" if "context" in reason else "invalid_value"
    return ApiError(400, reason, code=code, param=param)
