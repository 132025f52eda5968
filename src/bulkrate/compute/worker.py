"""A worker process: receives a function, then items, and answers each. See `compute.workers`."""

from __future__ import annotations

import gc
import os
import pickle
import queue
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any


def main() -> None:
    """Serve until the other end of the socket closes."""
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    items: queue.SimpleQueue[tuple[int, Any] | None] = queue.SimpleQueue()
    try:
        sys.path[:] = connection.recv()
        function = connection.recv()
        # What is there now stays: looking through it again and again would find nothing.
        gc.freeze()
        threading.Thread(target=_receive, args=(connection, items), daemon=True).start()
        while (message := items.get()) is not None:
            number, item = message
            answer: tuple[int, Any, Exception | None]
            try:
                answer = (number, function(item), None)
            except Exception as error:
                answer = (number, None, _portable(error))
            del message, item
            connection.send(answer)
    except (EOFError, OSError):
        return


def _receive(connection: Connection[Any, Any], items: queue.SimpleQueue[tuple[int, Any] | None]) -> None:
    """Always reading, so that the other end is never stuck in sending while this one is."""
    try:
        while True:
            items.put(connection.recv())
    except (EOFError, OSError):
        # Nobody waits for the answer under way any more.
        os._exit(0)


def _portable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  (its own bytes)
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
