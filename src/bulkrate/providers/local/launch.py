"""Finding the batch server of a state directory, or starting it.

One server serves a directory. Whoever needs it takes `start.lock`, reads `server.json`, asks /healthz whether
what answers is what wrote it, and otherwise starts a server in a session of its own, which outlives us and
ends by itself when nobody has needed it for a while. Its output goes to `server.log`.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio.to_thread
import orjson

from bulkrate.errors import ConfigError
from bulkrate.providers.local.models import local_model

IDLE_EXIT_S = 900.0
START_WAIT_S = 180.0
"""Loading a model takes seconds; converting it on first use longer."""

_POLL_S = 0.05
_HEALTH_TIMEOUT_S = 5.0
_JUST_STARTING_S = 5.0
_LOG_LINES = 15
_API_KEY_VARIABLE = "BULKRATE_SERVER_API_KEY"


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server that answers. `base_url` ends in `/v1`."""

    base_url: str
    api_key: str
    pid: int
    model: str


async def open_local(model: str, home_server_dir: Path) -> tuple[str, str]:
    """The base URL and API key of a server for `model`, which keeps its state in a folder of
    `home_server_dir`. Raises ConfigError when there can be none."""
    known = local_model(model)

    def ensure() -> LocalServer:
        return ensure_server(home_server_dir / known.name, model=known.name, engine=known.engine)

    server = await anyio.to_thread.run_sync(ensure)
    return server.base_url, server.api_key


def ensure_server(
    state_dir: Path,
    *,
    model: str,
    engine: str = "openvino",
    idle_exit_s: float = IDLE_EXIT_S,
    wait_s: float = START_WAIT_S,
) -> LocalServer:
    """Find the server of `state_dir` or start it; returns when it answers.

    Raises ConfigError with the server's own words when it does not come up within `wait_s`.
    """
    state_dir = state_dir.absolute()
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _starting(state_dir, wait_s):
        server = find_server(state_dir)
        if server is None:
            server = _start(state_dir, model=model, engine=engine, idle_exit_s=idle_exit_s, wait_s=wait_s)
    if server.model != model:
        raise ConfigError(
            f"the server in {state_dir} serves '{server.model}', not '{model}'",
            code="other_model",
            hint="wait until it ends by itself, stop it, or use another folder",
        )
    return server


def find_server(state_dir: Path) -> LocalServer | None:
    """The server that serves `state_dir` now; None when there is none, whatever its file says."""
    giving_up_at = time.monotonic() + _JUST_STARTING_S
    while (announced := _read(state_dir)) is not None:
        if _answers(announced):
            return _server(announced)
        if not _alive(announced["pid"]) or time.monotonic() > giving_up_at:
            return None
        time.sleep(_POLL_S)
    return None


def _start(state_dir: Path, *, model: str, engine: str, idle_exit_s: float, wait_s: float) -> LocalServer:
    command = [sys.executable, "-m", "bulkrate.server", "--state", str(state_dir), "--engine", engine]
    command += ["--model", model, "--idle-exit", str(idle_exit_s)]
    log_path = state_dir / "server.log"
    (state_dir / "server.json").unlink(missing_ok=True)
    with log_path.open("ab") as log:
        log_from = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, _API_KEY_VARIABLE: secrets.token_urlsafe(24)},
        )
    giving_up_at = time.monotonic() + wait_s
    while time.monotonic() < giving_up_at:
        if process.poll() is not None:
            raise _failed(f"ended with code {process.returncode}", log_path, log_from)
        announced = _read(state_dir)
        if announced is not None and announced["pid"] == process.pid and _answers(announced):
            return _server(announced)
        time.sleep(_POLL_S)
    process.terminate()
    raise _failed(f"did not answer within {wait_s:g} s", log_path, log_from)


def _failed(what: str, log_path: Path, log_from: int) -> ConfigError:
    with log_path.open("rb") as log:
        log.seek(log_from)
        lines = log.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
    hints = [line.removeprefix("hint: ") for line in lines if line.startswith("hint: ")]
    said = [line.partition("]: ")[2] for line in lines if line.startswith("error[")]
    # A server that knows what is wrong says so in one line; otherwise the end of its log is all there is.
    why = said[-1] if said else "\n".join(["the end of its log:", *lines]) if lines else "it said nothing"
    return ConfigError(
        f"the local batch server {what}: {why}",
        code="local_server",
        hint=hints[-1] if hints else f"the whole log is in {log_path}",
    )


def _read(state_dir: Path) -> dict[str, Any] | None:
    try:
        announced = orjson.loads((state_dir / "server.json").read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return None
    wanted = {"pid": int, "host": str, "port": int, "model": str, "token": str}
    if not isinstance(announced, dict):
        return None
    return announced if all(isinstance(announced.get(key), kind) for key, kind in wanted.items()) else None


def _server(announced: dict[str, Any]) -> LocalServer:
    host = f"[{announced['host']}]" if ":" in announced["host"] else announced["host"]
    return LocalServer(
        base_url=f"http://{host}:{announced['port']}/v1",
        api_key=announced["token"],
        pid=announced["pid"],
        model=announced["model"],
    )


def _answers(announced: dict[str, Any]) -> bool:
    """Whether the port answers as the server that wrote the file. No proxy is asked: this is loopback."""
    connection = http.client.HTTPConnection(announced["host"], announced["port"], timeout=_HEALTH_TIMEOUT_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/healthz")
            response = connection.getresponse()
            health = orjson.loads(response.read())
        except (OSError, http.client.HTTPException, orjson.JSONDecodeError):
            return False
    instance = hashlib.sha256(announced["token"].encode()).hexdigest()[:16]
    return response.status == 200 and isinstance(health, dict) and health.get("instance") == instance


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _starting(state_dir: Path, wait_s: float) -> Iterator[None]:
    with (state_dir / "start.lock").open("ab") as file:
        giving_up_at = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > giving_up_at:
                    raise ConfigError(
                        f"another process is still starting the server in {state_dir}", code="local_server"
                    ) from None
            time.sleep(_POLL_S)
        yield
