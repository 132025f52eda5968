"""A batch server as a process that kills itself at a named moment: STATE SUBMISSIONS [MOMENT COUNT]."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from bulkrate import signals
from bulkrate.server.engines.echo import EchoEngine
from bulkrate.server.serve import Options, serve_engine


def main(state: str, submissions: str, moment: str = "", count: str = "1") -> int:
    left = int(count)

    synced = threading.Event()

    def die(name: str) -> None:
        nonlocal left
        if name == "answer_log.sync.after":
            synced.set()
        if name == moment:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def one_commit_per_step(answered: int) -> None:
        if answered:
            assert synced.wait(30)
            synced.clear()

    signals.listen(die)
    engine = EchoEngine(slots=8, submissions=Path(submissions), before_step=one_commit_per_step)
    return serve_engine(engine, Options(Path(state)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
