"""`python -m bulkrate.server`: the server without the command line, for a start in the background."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bulkrate.errors import BulkrateError
from bulkrate.server import serve


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bulkrate.server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--idle-exit", type=float, dest="idle_exit_s", metavar="SECONDS")
    parser.add_argument("--api-key")
    return parser.parse_args()


def run() -> int:
    """Serve; errors go to stderr as `error[code]: …` and `hint: …`."""
    try:
        return serve.main(**vars(_arguments()))
    except BulkrateError as error:
        print(f"error[{error.code}]: {error}", file=sys.stderr)  # noqa: T201
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201
        return error.exit_code


if __name__ == "__main__":
    sys.exit(run())
