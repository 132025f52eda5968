"""The misbehaving provider as a server on loopback: start, stop, and the same control as over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from bulkrate.testing.control import Control
from bulkrate.testing.dialects import TellingDialect, load_dialect
from bulkrate.testing.faults import Fault, FaultPlan
from bulkrate.testing.gates import TRANSPORT, Gates
from bulkrate.testing.meter import Meter
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.webhooks import WEBHOOK_SECRET, Webhooks

if TYPE_CHECKING:
    from bulkrate.testing.answers import Answerer, TokenCounter
    from bulkrate.testing.dialects import Dialect
    from bulkrate.testing.records import Limits

API_KEY: Final = "sk-misbehaving"
"""The key the provider accepts unless told another."""

T = TypeVar("T")


class MisbehavingProvider:
    """A batch provider on loopback that fails as it is told to. Use it as a context manager.

    It runs in a thread of this process; ``ProviderProcess`` runs the same in a process of its own, and
    ``app`` is the ASGI application for those who bring their own transport. The methods below may be
    called from any thread but the server's own.
    """

    def __init__(
        self,
        faults: str | Iterable[str | Fault] = (),
        *,
        seed: int = 0,
        polls: int = 2,
        dialect: str | Dialect = "openai",
        answer: Answerer | None = None,
        count_tokens: TokenCounter | None = None,
        models: Sequence[str] | None = None,
        limits: Limits | None = None,
        now: Callable[[], datetime] | None = None,
        window_s: int = 86_400,
        track_ids: bool = True,
        api_key: str = API_KEY,
        port: int = 0,
        webhook: str | None = None,
        webhook_secret: str = WEBHOOK_SECRET,
    ) -> None:
        """Configure; nothing listens before ``start``. Raises ``FaultError`` for a fault it does not know.

        ``dialect``: a name, or a dialect of your own. ``polls``: the status poll at which a batch
        completes. ``answer``, ``count_tokens``: pure functions of the request body. ``models``: the models
        batches may name (any, if not given). ``limits``: smaller ones make refusals cheap to test. ``now``:
        a clock, the system's by default. ``window_s``: seconds by that clock after which a batch expires,
        whatever window it asked for. ``track_ids``: count accepted rows per custom id. ``port``: 0 takes a
        free one. ``webhook``: a URL that is told when a batch has ended, signed with ``webhook_secret``.
        """
        spoken = load_dialect(dialect) if isinstance(dialect, str) else dialect
        self.api_key = api_key
        self._dialect = spoken
        self.state = ProviderState(
            spoken.codec(),
            limits or spoken.limits,
            plan=FaultPlan.parse(faults, seed=seed),
            polls=polls,
            now=now,
            window_s=window_s,
            answer=answer,
            count_tokens=count_tokens,
            models=models,
            track_ids=track_ids,
        )
        gates = Gates(self.state)
        if webhook is not None:
            if not isinstance(spoken, TellingDialect):
                raise ValueError("a provider of this dialect sends no webhooks")
            hooks = Webhooks(webhook, webhook_secret, state=self.state, gates=gates, event=spoken.event)
            self.state.on_end = hooks.ended
        self._control = Control(self.state, gates)
        self.app = Starlette(routes=[*self._control.routes(), *spoken.routes(self.state, gates, api_key)])
        self._wanted_port = port
        self._port: int | None = None
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    # -- life ------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen on loopback; returns when the first request would be answered.

        After ``stop`` it may be started again: same port, same files and batches, as after an outage.
        """
        if self._server is not None:
            raise RuntimeError("this provider is running already")
        # With the protocol named, asyncio switches Nagle's algorithm off: 40 ms a call otherwise.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", self._wanted_port))
        except OSError:
            listener.close()
            raise
        self._port = self._wanted_port = listener.getsockname()[1]
        self._server = server = _Server(self.app)
        self._thread = threading.Thread(
            target=server.run_on, args=(listener,), name="misbehaving-provider", daemon=True
        )
        self._thread.start()
        server.ready.wait()
        if server.loop is None:
            self._server = self._thread = None
            raise RuntimeError("this provider could not start; its reason is on stderr")
        return self

    def stop(self) -> None:
        """Stop at once: calls that are held or unanswered lose their connection. Harmless twice."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        server.stop()
        thread.join()
        self._server = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- where -----------------------------------------------------------------------------------------

    @property
    def env(self) -> dict[str, str]:
        """The environment variables that lead a client here."""
        return self._dialect.env(self.base_url, self.api_key)

    @property
    def base_url(self) -> str:
        """What clients are given as their base URL (``OPENAI_BASE_URL``)."""
        return self._origin() + self._dialect.prefix

    @property
    def control_url(self) -> str:
        """Where the control API is."""
        return self._origin() + "/_control"

    # -- watching and steering -------------------------------------------------------------------------

    @property
    def meter(self) -> Meter:
        """A snapshot of the counts; still there after ``stop``."""
        return self._call(self.state.meter.copy)

    def snapshot(self) -> dict[str, Any]:
        """Faults, events, held calls, batches and files."""
        return self._call(self._control.snapshot)

    def set_faults(self, faults: str | Sequence[str] = (), seed: int | None = None) -> None:
        """Replace all faults, for calls and batches to come; batches in flight behave from here on."""
        self._call(lambda: self._control.set_faults(faults, seed))

    def advance(self, batch_id: str | None = None, steps: int | None = None) -> None:
        """Move a batch (or every one) by ``steps``, or to its end, stuck or not."""
        self._call(lambda: self._control.advance(batch_id, steps))

    def release(self, operation: str | None = None) -> int:
        """Let the held calls (of one operation, or all) go on; how many there were."""
        return int(self._call(lambda: self._control.release(operation))["released"])

    def wait(self, event: str, count: int = 1, timeout_s: float | None = None) -> int:
        """Block until ``event`` (see ``Gates``) happened ``count`` times; ``TimeoutError`` after a while."""
        return self._run(self._control.wait(event, count, timeout_s))

    def _origin(self) -> str:
        if self._port is None:
            raise RuntimeError("this provider has not been started")
        return f"http://127.0.0.1:{self._port}"

    def _call(self, function: Callable[[], T]) -> T:
        """Call ``function`` where the state lives: in the server's loop while it runs."""

        async def call() -> T:
            return function()

        return function() if self._server is None else self._run(call())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        if self._server is None or self._server.loop is None:
            work.close()
            raise RuntimeError("this provider is not running")
        return asyncio.run_coroutine_threadsafe(work, self._server.loop).result()


class _Protocol(H11Protocol):
    """HTTP/1.1 that hands the connection to the application, which may break it."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


class _Server(uvicorn.Server):
    """Uvicorn without its ticking loop and its patience: starts and stops at once."""

    def __init__(self, app: Starlette) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
            )
        )
        self.ready = threading.Event()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    def run_on(self, listener: socket.socket) -> None:
        """Serve until ``stop``; ``ready`` is set also when it cannot start, and then ``loop`` is None."""
        try:
            asyncio.run(self.serve(sockets=[listener]))
        finally:
            self.ready.set()

    async def main_loop(self) -> None:
        await self.on_tick(0)
        self.loop = asyncio.get_running_loop()
        self.ready.set()
        await self._stopped.wait()

    def stop(self) -> None:
        """Ask the loop to end, from another thread."""
        if self.loop is not None:
            self.loop.call_soon_threadsafe(self._stopped.set)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        # Whoever waits for an answer sees the connection break, as when a provider goes away.
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        running = list(self.server_state.tasks)
        for task in running:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*running, return_exceptions=True)
        for listener in sockets or []:
            listener.close()

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave the process's signals alone: whoever started the provider stops it."""
        yield
