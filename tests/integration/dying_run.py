"""`bulkrate`, ended by SIGKILL at an exact moment: dying_run.py SIGNAL NTH ARGUMENTS…

With SIGNAL `list` it lives, and writes every signal's name to the file NTH, one a line.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path

from bulkrate import signals


def main() -> None:
    name, argument, *arguments = sys.argv[1:]
    seen: Counter[str] = Counter()

    def die(moment: str) -> None:
        seen[moment] += 1
        if moment == name and seen[moment] == int(argument):
            os.kill(os.getpid(), signal.SIGKILL)

    def note(moment: str) -> None:
        with Path(argument).open("a", encoding="utf-8") as file:
            file.write(moment + "\n")

    signals.listen(note if name == "list" else die)
    sys.argv = ["bulkrate", *arguments]
    from bulkrate.cli.app import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
