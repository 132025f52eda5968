"""The listener: a small HTTP server in a thread of its own.

A provider waits a few seconds for its answer; the loop that drives runs may be busy for longer.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from bulkrate.errors import ConfigError

MOST_AT_ONCE = 64
DRAIN_S = 2


@contextmanager
def listening(app: ASGIApp, host: str, port: int) -> Iterator[int]:
    """Serve `app` until the block ends; gives the port, a free one for 0. Raises ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        # Listening before the thread runs: an early caller waits, and is not refused.
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            code="port",
            hint="choose another --listen",
        ) from None
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",
            ws="none",
            lifespan="off",
            # Whoever scans the network must not fill the log.
            log_config=None,
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=MOST_AT_ONCE,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )
    thread = threading.Thread(target=server.run, args=([listener],), name="webhooks", daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
