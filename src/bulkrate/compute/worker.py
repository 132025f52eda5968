"""The first worker process: receives a function, then forks a worker for each further socket.

What the function needs (modules, a vocabulary) is loaded once and shared by the workers, page for page.
Forking is safe here: this process was started afresh, has no thread and holds no lock. See `compute.workers`.
"""

from __future__ import annotations

import gc
import os
import pickle
import sys
import traceback
from collections import deque
from multiprocessing.connection import Connection
from typing import Any

# Sent after the last part of an item.
END = "end"


def main() -> None:
    """Fork the others, work until the other end closes, and wait until all have ended."""
    sockets = [int(argument) for argument in sys.argv[1:]]
    connection: Connection[Any, Any] = Connection(sockets[0])
    try:
        sys.path[:] = connection.recv()
        function = connection.recv()
        if hasattr(function, "prepare"):
            function.prepare()
    except (EOFError, OSError):
        return
    # What is there now stays where it is: a collection that looks through it would copy the shared pages.
    gc.collect()
    gc.freeze()
    for socket in sockets[1:]:
        if os.fork() == 0:
            for other in sockets:
                if other != socket:
                    os.close(other)
            _serve(Connection(socket), function)
            os._exit(0)
    for socket in sockets[1:]:
        os.close(socket)
    _serve(connection, function)
    for _ in sockets[1:]:
        os.wait()


def _serve(connection: Connection[Any, Any], function: Any) -> None:
    """Answer items until the other end closes."""
    # Errors do not get past a fork: what follows it would run twice.
    try:
        while True:
            parts = deque(iter(connection.recv, END))
            # Each part is let go of when it has been used.
            item = (parts.popleft() for _ in range(len(parts)))
            connection.send(_answer(function, item))
    except (EOFError, OSError):
        return
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _answer(function: Any, item: Any) -> tuple[Any, Exception | None]:
    try:
        return function(item), None
    except Exception as error:
        try:
            pickle.loads(pickle.dumps(error))  # noqa: S301  (its own bytes)
        except Exception:
            return None, RuntimeError(f"{type(error).__name__}: {error}")
        return None, error


if __name__ == "__main__":
    main()
