"""Where a call can be stopped: events to wait for, holds to release, answers that never come."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, TypeVar

from starlette.responses import Response

from bulkrate.testing.faults import Fault
from bulkrate.testing.records import Reason, Refused

if TYPE_CHECKING:
    from starlette.requests import Request

    from bulkrate.testing.provider_state import ProviderState

T = TypeVar("T", bound=Response)

TRANSPORT: Final = "transport"
"""Where our server puts the connection into a request's state."""


class _CallerGone(Exception):
    """The caller of an unanswered call hung up, or was cut off."""


class Gates:
    """Counts what happens, and lets calls wait. Belongs to the server's event loop.

    Events are ``<operation>_<phase>`` with the phases, in order: ``arrived`` (the request is complete),
    ``held`` or ``unanswered`` (if a fault stops it, before or after the effect), ``done`` (the effect is
    recorded), ``answered`` (the answer is about to be sent; a refusal is one too), or ``cut`` (the
    connection is broken) and ``gone`` (a caller that was left without an answer hung up, or was cut off).
    ``call_arrived`` counts the calls of all operations.
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
        self.happened(f"{operation}_arrived")
        self.happened("call_arrived")
        fault = self._state.faults.on_call(operation)
        when = None if fault is None else str(fault.options.get("when", "before"))
        try:
            if fault is not None and when == "before":
                await self._stop(operation, fault, request)
            made = effect()
            response: Response = await made if isinstance(made, Awaitable) else made
            self.happened(f"{operation}_done")
            if fault is not None and when == "after":
                await self._stop(operation, fault, request)
        except _CallerGone:
            self.happened(f"{operation}_gone")
            return Response(status_code=503)  # nobody reads it
        except BaseException:
            self.happened(f"{operation}_answered")
            raise
        self.happened(f"{operation}_answered")
        return response

    async def cut_midway(self, operation: str, request: Request) -> bool:
        """Before a body is read: read half of it and break the connection, if that is the call's fault."""
        fault = self._state.faults.on_next_call(operation)
        if fault is None or fault.name != f"{operation}_cut":
            return False
        self._state.faults.on_call(operation)
        self.happened(f"{operation}_arrived")
        self.happened("call_arrived")
        received, size = 0, int(request.headers.get("content-length", 0))
        async for chunk in request.stream():
            received += len(chunk)
            if received * 2 >= size:
                break
        await self._hang_up(operation, request)
        self.happened(f"{operation}_gone")
        return True

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

    def happened(self, event: str) -> None:
        self.events[event] += 1
        for name, count, future in self._waiters:
            if name == event and self.events[event] >= count and not future.done():
                future.set_result(self.events[event])

    async def _stop(self, operation: str, fault: Fault, request: Request) -> None:
        """Hold the call, refuse it, cut it off, or leave it unanswered until its caller is gone.

        A server that stops cancels the calls that wait: they end like those whose caller is gone.
        """
        try:
            await self._interrupt(operation, fault, request)
        except asyncio.CancelledError:
            raise _CallerGone from None

    async def _interrupt(self, operation: str, fault: Fault, request: Request) -> None:
        match fault.name.removeprefix(f"{operation}_"):
            case "unanswered":
                self.happened(f"{operation}_unanswered")
                await disconnected(request)
                raise _CallerGone
            case "cut":
                await self._hang_up(operation, request)
                raise _CallerGone
            case "late_create":
                await self._hang_up(operation, request)
                await self.wait("call_arrived", self.events["call_arrived"] + fault.number("calls"))
            case name if name.startswith("hold_"):
                future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._held.append((operation, future))
                self.happened(f"{operation}_held")
                await future
            case name:
                raise _refusal(name, fault)

    async def _hang_up(self, operation: str, request: Request) -> None:
        self.happened(f"{operation}_cut")
        transport = transport_of(request)
        if transport is None:  # an application called without a server has no connection to break
            raise ConnectionResetError(f"{operation}: the connection was cut")
        transport.abort()
        await disconnected(request)


def transport_of(request: Request) -> asyncio.Transport | None:
    """The connection a request came by, where our own server runs the application."""
    found: asyncio.Transport | None = request.scope.get("state", {}).get(TRANSPORT)
    return found


async def disconnected(request: Request) -> None:
    """Return when the connection has ended."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(name: str, fault: Fault) -> Refused:
    match name:
        case "creation_rate":  # 2,000 batches an hour; 429 on create (guide and a public issue, 2026)
            message = "Too many batches have been created. Please try again later."
            return Refused(Reason.RATE_LIMITED, message, code="rate_limit_exceeded")
        case "file_lag":  # seen under many rapid uploads (2025)
            message = "Cannot find file, or the project does not have access to it."
            return Refused(Reason.INVALID, message)
        case "429":
            seconds = fault.number("retry_after") or None
            message = "Rate limit reached for requests."
            return Refused(Reason.RATE_LIMITED, message, code="rate_limit_exceeded", retry_after_s=seconds)
        case _:
            return Refused(Reason.TOLD, "The call failed.", status=fault.number("status"))
