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


class _CallerGone(Exception):
    """The caller of an unanswered call hung up."""


class Gates:
    """Counts what happens, and lets calls wait. Belongs to the server's event loop.

    Events are ``<operation>_<phase>`` with the phases, in order: ``arrived`` (the request is complete),
    ``held`` or ``unanswered`` (if a fault stops it, before or after the effect), ``done`` (the effect is
    recorded), ``answered`` (the answer is about to be sent; a refusal is one too), or ``gone`` (a caller
    that was left without an answer hung up).
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

        The request's body must have been read. An effect that raises is answered but not done.
        """
        self._happened(f"{operation}_arrived")
        fault = self._state.call_fault(operation)
        when = None if fault is None else fault.word("when")
        try:
            if fault is not None and when == "before":
                await self._stop(operation, fault, request)
            made = effect()
            response: Response = await made if isinstance(made, Awaitable) else made
            self._happened(f"{operation}_done")
            if fault is not None and when == "after":
                await self._stop(operation, fault, request)
        except _CallerGone:
            self._happened(f"{operation}_gone")
            return Response(status_code=503)  # nobody reads it
        except BaseException:
            self._happened(f"{operation}_answered")
            raise
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

    async def _stop(self, operation: str, fault: Fault, request: Request) -> None:
        """Hold the call until it is released, or leave it unanswered until its caller is gone."""
        if fault.name.startswith("hold_"):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._held.append((operation, future))
            self._happened(f"{operation}_held")
            await future
            return
        self._happened(f"{operation}_unanswered")
        # The body has been read, so the next message is the end of the connection.
        while (await request.receive())["type"] != "http.disconnect":
            pass
        raise _CallerGone
