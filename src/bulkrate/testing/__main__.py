"""``python -m bulkrate.testing``: the misbehaving provider as a process.

Prints one JSON line with ``base_url``, ``control_url``, ``api_key`` and ``pid`` once it listens, and runs
until it is told to stop (SIGTERM or SIGINT, or end of input with ``--until-eof``).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bulkrate.testing.faults import FAULTS, FaultError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the provider; the exit code is 0, or 2 for a fault or a port it cannot have."""
    options = _parser().parse_args(arguments)
    try:
        return serve(
            options.fault,
            state=options.state,
            until_eof=options.until_eof,
            seed=options.seed,
            polls=options.polls,
            dialect=options.dialect,
            models=options.model or None,
            track_ids=not options.no_track_ids,
            port=options.port,
            webhook=options.webhook,
            **({"webhook_secret": options.webhook_secret} if options.webhook_secret else {}),
            **({"api_key": options.api_key} if options.api_key else {}),
        )
    except (FaultError, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def serve(
    faults: Sequence[str], *, state: Path | None = None, until_eof: bool = False, **options: Any
) -> int:
    """Serve until SIGTERM, SIGINT, or with `until_eof` the end of input; tells where on standard output.

    `options` are those of `MisbehavingProvider`, whose errors pass: `FaultError`, `ValueError`, and `OSError`
    for a port it cannot have.
    """
    from bulkrate.testing.server import MisbehavingProvider

    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    provider = MisbehavingProvider(faults, **options).start()
    if until_eof:
        threading.Thread(target=_await_eof, args=(stopped,), daemon=True).start()
    where = {
        "base_url": provider.base_url,
        "control_url": provider.control_url,
        "api_key": provider.api_key,
        "pid": os.getpid(),
    }
    _write(state, where)
    sys.stdout.write(json.dumps(where) + "\n")
    sys.stdout.flush()
    stopped.wait()
    provider.stop()
    _write(state, where | {"meter": provider.meter.as_dict(ids=True), "state": provider.snapshot()})
    return 0


def fault_lines() -> list[str]:
    """The faults, for a help text."""
    width = max(map(len, FAULTS))
    return [
        "faults, as NAME=N[,option=value]... (options: skip=N, batches=N|all, and those shown):",
        *(
            f"  {name:{width}}  {kind.meaning}"
            + "".join(f"; {key}={value}" for key, value in kind.options.items())
            for name, kind in FAULTS.items()
        ),
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bulkrate.testing",
        description="A batch provider on loopback that fails as it is told to.",
        epilog="\n".join(fault_lines()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    add("--fault", action="append", default=[], metavar="NAME=N[,...]", help="a fault; may be repeated")
    add("--seed", type=int, default=0, help="seed of every choice (default 0)")
    add("--polls", type=int, default=2, help="the status poll at which a batch completes (default 2)")
    add("--dialect", default="openai", help="wire dialect (default openai)")
    add("--model", action="append", help="a model batches may name; may be repeated (default: any)")
    add("--api-key", help="the key to accept")
    add("--webhook", metavar="URL", help="tell this URL when a batch has ended")
    add("--webhook-secret", metavar="SECRET", help="sign with this, whsec_... (default: a fixed one)")
    add("--no-track-ids", action="store_true", help="do not count per custom id (saves memory)")
    add(
        "--state",
        type=Path,
        metavar="FILE",
        help="JSON file: where it listens; at the end meter and state too",
    )
    add("--until-eof", action="store_true", help="stop when standard input ends")
    return parser


def _await_eof(stopped: threading.Event) -> None:
    sys.stdin.read()
    stopped.set()


def _write(path: Path | None, value: dict[str, Any]) -> None:
    """Write ``value`` whole or not at all."""
    if path is None:
        return
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
