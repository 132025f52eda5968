"""The network between a simulated process and the provider: slow, cut, late, and outliving its callers.

A call travels (the process may die meanwhile and the call arrive all the same, minutes later), takes effect,
and its answer travels back. Each trouble is drawn from the seed by (operation, how manieth call), so the
same seed gives the same trouble whatever else changes.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import orjson
from soak_crash import Crash, Killed
from soak_time import VirtualClock

MOST_CALLS = 4_000

# What may go wrong with a call, besides what the provider itself does. "after": the effect took place.
TROUBLES: dict[str, tuple[str, ...]] = {
    "create": (
        "unconnected", "cut_before", "cut_after", "gateway_before", "gateway_after", "lost", "late", "late",
        "throttled", "garbage_after", "no_such_file",
    ),
    "upload": ("unconnected", "cut_before", "cut_after", "gateway_after", "lost", "late", "throttled"),
    "list": ("unconnected", "cut_after", "gateway_before", "lost", "throttled", "garbage_after"),
    "status": ("unconnected", "cut_after", "gateway_before", "lost", "throttled", "not_found"),
    "download": (
        "unconnected", "cut_midway", "cut_midway", "gateway_before", "lost", "odd_lines", "odd_lines",
    ),
    "delete": ("unconnected", "cut_before", "cut_after", "gateway_after", "lost", "throttled"),
    "cancel": ("cut_before", "cut_after", "lost"),
    "file": (),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it is on the wire."""

    operation: str
    scope: dict[str, Any]
    body: bytes
    timeout_s: float


@dataclass(slots=True, eq=False)
class Orphan:
    """A call whose caller is gone, on its way all the same."""

    due_s: float
    call: Call


@dataclass(slots=True)
class Answer:
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""


class Network(httpx2.AsyncBaseTransport):
    """A transport into an ASGI application, in virtual time."""

    def __init__(self, app: Any, clock: VirtualClock, crash: Crash, *, seed: str) -> None:
        self._app = app
        self._clock = clock
        self._crash = crash
        self._seed = seed
        self._nth: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self.orphans: list[Orphan] = []
        self.trouble_rate = 0.0
        self.listing_lag_s = 0.0
        self.troubles: Counter[str] = Counter()
        self.calls = 0

    # -- one call ----------------------------------------------------------------------------------------

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        call = Call(
            _operation(request), _scope(request), await request.aread(), request.extensions["timeout"]["read"]
        )
        self.calls += 1
        if self.calls > MOST_CALLS:
            self._crash.fail("the run does not end: too many calls")
        dice, trouble = self._draw(call.operation)
        if trouble is not None:
            self.troubles[f"{call.operation}.{trouble}"] += 1
        try:
            answer = await self._carry(call, dice, trouble)
        except (httpx2.TransportError, asyncio.CancelledError, Killed) as error:
            if isinstance(error, httpx2.TransportError):
                error.request = request
            raise
        stream = _Stream(answer.body, cut=trouble == "cut_midway", request=request)
        return httpx2.Response(answer.status, headers=answer.headers, stream=stream)

    async def _carry(self, call: Call, dice: random.Random, trouble: str | None) -> Answer:
        name = call.operation
        self._crash.moment(f"net.{name}.leaves")
        if trouble == "unconnected":
            raise httpx2.ConnectError("nobody listens")
        if trouble == "throttled":
            return _refusal(429, "rate_limit_exceeded", "Too many requests.", retry_after=dice.choice([0, 7]))
        if trouble == "no_such_file":
            return _refusal(400, "invalid_request_error", "Cannot find file: it is not there yet.")
        if trouble == "not_found":
            return _refusal(404, "not_found", "No batch found, on this replica.")
        if trouble == "gateway_before":
            return _refusal(502, "server_error", "Bad gateway.")
        arrives = dice.random() < 0.6
        delay_s = dice.choice([0.0, dice.uniform(0, 20), dice.uniform(0, 300)])
        try:
            await asyncio.sleep(dice.uniform(0.001, 0.3))
            if trouble in ("lost", "late"):
                await asyncio.sleep(call.timeout_s)
        except asyncio.CancelledError:
            # The caller died or gave up while the call was on its way: that does not stop the call.
            if trouble == "late" or (trouble is None and arrives):
                self._orphan(call, delay_s)
            raise
        if trouble in ("lost", "late"):
            if trouble == "late":
                self._orphan(call, delay_s)
            raise httpx2.ReadTimeout("no answer came")
        if trouble == "cut_before":
            raise httpx2.ReadError("the connection was cut")
        answer = await self._ask(call)
        self._crash.moment(f"net.{name}.arrived")
        await asyncio.sleep(dice.uniform(0.001, 0.3))
        if answer is None:
            raise httpx2.ReadTimeout("no answer came")
        if trouble == "cut_after":
            raise httpx2.RemoteProtocolError("the connection was cut before the answer")
        if trouble == "gateway_after":
            return _refusal(502, "server_error", "Bad gateway.")
        if trouble == "garbage_after":
            return Answer(200, [(b"content-type", b"text/html")], b"<html>please log in</html>")
        if trouble == "odd_lines" and answer.status == 200:
            answer.body = _with_odd_lines(answer.body)
            answer.headers = [pair for pair in answer.headers if pair[0] != b"content-length"]
            answer.headers.append((b"content-length", str(len(answer.body)).encode()))
        return answer

    async def _ask(self, call: Call) -> Answer | None:
        """What the provider says; None: it lets the caller wait for longer than the caller does."""
        answer, hung_up = Answer(), asyncio.Event()
        asked, body_read = False, False

        async def receive() -> dict[str, Any]:
            nonlocal asked, body_read
            if not body_read:
                body_read = True
                return {"type": "http.request", "body": call.body, "more_body": False}
            asked = True
            await hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message.get("headers", []))
            else:
                answer.body += message.get("body", b"")

        work = asyncio.ensure_future(self._app(dict(call.scope), receive, send))
        try:
            await asyncio.wait_for(asyncio.shield(work), call.timeout_s)
            silent = False
        except TimeoutError:
            silent = True
        finally:
            hung_up.set()
            if not work.done():
                await asyncio.shield(work)
        if call.operation == "list" and answer.status == 200 and self.listing_lag_s:
            answer = self._lagging(answer)
        return None if silent and asked else answer

    # -- calls without a caller --------------------------------------------------------------------------

    def _orphan(self, call: Call, delay_s: float) -> None:
        orphan = Orphan(self._clock.seconds + delay_s, call)
        self.orphans.append(orphan)
        if not self._crash.dead:
            self._send_later(orphan)

    def _send_later(self, orphan: Orphan) -> None:
        async def later() -> None:
            await asyncio.sleep(max(orphan.due_s - self._clock.seconds, 0))
            await self._deliver(orphan)

        task = asyncio.get_running_loop().create_task(later())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, orphan: Orphan) -> None:
        if orphan not in self.orphans:  # another process's loop was faster
            return
        self.orphans.remove(orphan)
        self._crash.trace.append(f"net.{orphan.call.operation}.late")
        await self._ask(orphan.call)

    async def resume(self) -> None:
        """A new process begins: calls of dead ones that are due arrive now, the others in their time."""
        for orphan in sorted(self.orphans, key=lambda item: item.due_s):
            if orphan.due_s <= self._clock.seconds:
                await self._deliver(orphan)
            else:
                self._send_later(orphan)

    async def deliver_all(self) -> None:
        """Let everything that is on its way arrive."""
        for orphan in sorted(self.orphans, key=lambda item: item.due_s):
            self._clock.seconds = max(self._clock.seconds, orphan.due_s)
            await self._deliver(orphan)

    def pause(self) -> None:
        """The process ended: what is on its way stays on its way."""
        for task in self._tasks:
            task.cancel()
        self._tasks.clear()

    # -- small parts -------------------------------------------------------------------------------------

    def _draw(self, operation: str) -> tuple[random.Random, str | None]:
        nth = self._nth[operation]
        self._nth[operation] += 1
        dice = random.Random(f"{self._seed}/{operation}/{nth}")
        kinds = TROUBLES[operation]
        trouble = dice.choice(kinds) if kinds and dice.random() < self.trouble_rate else None
        return dice, trouble

    def _lagging(self, answer: Answer) -> Answer:
        """A listing does not show the newest batches yet."""
        page = orjson.loads(answer.body)
        limit = self._clock.now().timestamp() - self.listing_lag_s
        page["data"] = [item for item in page["data"] if item["created_at"] <= limit]
        body = orjson.dumps(page)
        return Answer(answer.status, [(b"content-type", b"application/json")], body)


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, body: bytes, *, cut: bool, request: httpx2.Request) -> None:
        self._body, self._cut, self._request = body, cut, request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._cut:
            yield self._body[: len(self._body) // 2]
            raise httpx2.ReadError("the connection was cut midway", request=self._request)
        yield self._body


def _with_odd_lines(body: bytes) -> bytes:
    """Lines no honest file has: a row again with another answer, a stranger's row, and noise."""
    lines = body.splitlines()
    again = [line.replace(b'"content":"', b'"content":"second thoughts: ') for line in lines[:2]]
    stranger = [line.replace(b'"custom_id":"', b'"custom_id":"z') for line in lines[:1]]
    return b"\n".join([*lines, *again, *stranger, b'{"half": ', b""]) + b"\n"


def _refusal(status: int, code: str, message: str, *, retry_after: int | None = None) -> Answer:
    headers = [(b"content-type", b"application/json")]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    return Answer(status, headers, orjson.dumps({"error": {"code": code, "message": message}}))


def _operation(request: httpx2.Request) -> str:
    path, post = request.url.path, request.method == "POST"
    if request.method == "DELETE":
        return "delete"
    if path.endswith("/content"):
        return "download"
    if path.endswith("/cancel"):
        return "cancel"
    if path.endswith("/files"):
        return "upload"
    if path.endswith("/batches"):
        return "create" if post else "list"
    return "status" if "/batches/" in path else "file"


def _scope(request: httpx2.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }
