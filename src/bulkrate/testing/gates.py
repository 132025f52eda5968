"""Where a call can be stopped: events to wait for, holds to release, answers that never come."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from starlette.responses import Response

from bulkrate.testing.faults import Fault

if TYPE_CHECKING:
    from starlette.requests import Request

    from bulkrate.testing.provider_state import ProviderState

T = TypeVar("T", bound=Response)


class Gates:
    """Counts what happens, and lets calls wait. Belongs to the server's event loop.

    Events are ``<operation>_<phase>`` with the phases, in order: ``arrived`` (the request is complete),
    ``held`` or ``unanswered`` (if a fault stops it, before or after the effect), ``done`` (the effect is
    recorded), ``answered`` (the answer is about to be sent).
    """

    def __init__(self, state: ProviderState) -> None:
        self._state = state
        self._waiters: list[tuple[str, int, asyncio.Future[int]]] = []
        self._held: list[tuple[str, asyncio.Future[None]]] = []
        self.events: Counter[str] = Counter()

    async def perform(
        self, operation: str, request: Request, effect: Callable[[], T | Awaitable[T]]
    ) -> Response:
        """Do ``effect`` and give its response, unless a fault of ``operation`` stops it on the way.

        The request's body must have been read. An effect that raises is not done, and counts as answered.
        """
        self._happened(f"{operation}_arrived")
        fault = self._state.call_fault(operation)
        if (
            fault is not None
            and fault.word("when") == "before"
            and await self._stop(operation, fault, request)
        ):
            return Response(status_code=503)
        try:
            made = effect()
            response: Response = await made if isinstance(made, Awaitable) else made
            self._happened(f"{operation}_done")
            if (
                fault is not None
                and fault.word("when") == "after"
                and await self._stop(operation, fault, request)
            ):
                return Response(status_code=503)
        finally:
            self._happened(f"{operation}_answered")
        return response

    async def wait(self, event: str, count: int = 1) -> int:
        """Return once ``event`` has happened ``count`` times, with how often it has by then."""
        if self.events[event] >= count:
            return self.events[event]
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waiter = (event, count, future)
        self._waiters.append(waiter)
        try:
            return await future
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    def release(self, operation: str | None = None) -> int:
        """Let the calls held now go on (of one operation, or all); how many there were."""
        freed = [item for item in self._held if operation in (None, item[0])]
        self._held = [item for item in self._held if item not in freed]
        for _, future in freed:
            if not future.done():
                future.set_result(None)
        return len(freed)

    @property
    def held(self) -> list[str]:
        """The operations of the calls held now, in order of arrival."""
        return [operation for operation, _ in self._held]

    def _happened(self, event: str) -> None:
        self.events[event] += 1
        for name, count, future in self._waiters:
            if name == event and self.events[event] >= count and not future.done():
                future.set_result(self.events[event])

    async def _stop(self, operation: str, fault: Fault, request: Request) -> bool:
        """Hold the call, or leave it unanswered; true when nobody is there to answer any more."""
        if fault.name.startswith("hold_"):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._held.append((operation, future))
            self._happened(f"{operation}_held")
            await future
            return False
        self._happened(f"{operation}_unanswered")
        # The body has been read, so the next message is the end of the connection.
        while (await request.receive())["type"] != "http.disconnect":
            pass
        return True
