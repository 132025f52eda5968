"""`bulkrate rehearse`: the whole job against a provider that misbehaves, for nothing."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal
from bulkrate.errors import ConfigError

if TYPE_CHECKING:
    from bulkrate.testing.rehearsal import Rehearsal

Faults = Annotated[
    list[str] | None,
    typer.Option(
        "--fault",
        metavar="FAULT",
        help="Have this instead of the typical faults; may be repeated. `bulkrate testing serve "
        "--list-faults` prints them, `none` has none.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Which rows are befallen, and in which order all comes.")]


def rehearse(
    context: typer.Context,
    file: options.File,
    *,
    fault: Faults = None,
    seed: Seed = 0,
    model: options.Model = None,
    json: options.Json = False,
) -> int:
    """Run a whole job against a provider that misbehaves, to see what comes of it before a cent is spent.

    No key and no network: the provider is on this machine, and everything is thrown away afterwards. Answers
    are as long as those of earlier runs of the job, else as long as their cap.
    """
    from bulkrate.cli.choosing import job_of, workspace_of
    from bulkrate.cli.preparing import counting
    from bulkrate.pipeline.history import History
    from bulkrate.pipeline.setup import Setup

    try:
        from bulkrate.testing.rehearsal import rehearse as run_through
    except ImportError as error:
        raise ConfigError(
            f"a rehearsal needs {error.name}, which is not installed",
            hint='install it with: pip install "bulkrate[testing]"',
        ) from error
    terminal: Terminal = context.obj
    job = job_of(file, model=model)
    with workspace_of(terminal) as workspace:
        history = History.of(workspace.ledger, workspace.home, Setup(job, terminal.env, workspace.prices))
        lengths = [answer.output_tokens for answer in history.answers()]
        prices, now = workspace.prices, workspace.clock.now()
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bulkrate-rehearsal-") as scratch:
        found = run_through(
            job,
            Path(scratch),
            env=terminal.env,
            at=now,
            prices=prices,
            faults=None if fault is None else " ".join(fault).replace("none", ""),
            lengths=lengths,
            seed=seed,
            on_progress=counting(terminal),
        )
    took_s = time.monotonic() - began_s
    if json:
        terminal.document(document(found, took_s))
    else:
        terminal.rows(f"rehearsal of {job.name}", pairs(found, took_s))
    return 0


def document(found: Rehearsal, took_s: float) -> dict[str, Any]:
    """The rehearsal as one document."""
    return {
        **{name: found.report[name] for name in ("job", "model", "rows", "requests", "failures", "quote")},
        "faults": found.faults.split(),
        "answers": found.answered,
        "shards": found.shards,
        "sent_again": found.sent_again,
        "waves": found.waves,
        "disk_bytes": found.disk_bytes,
        "took_s": round(took_s, 3),
        "bill": found.statement.to_json(),
    }


def pairs(found: Rehearsal, took_s: float) -> list[tuple[str, str]]:
    """The rehearsal as people read it: label and value."""
    from bulkrate.cli.bill import pairs as bill_pairs
    from bulkrate.cli.check import size

    rows = found.report["rows"]
    ended = ", ".join(f"{rows[name]:,} {name}" for name in ("succeeded", "failed", "rejected") if rows[name])
    again = f"; {found.sent_again:,} requests sent again" if found.sent_again else ""
    chain = "one after another" if found.waves > 1 else "at a time"
    shown = [
        ("faults", found.faults or "none"),
        ("answers", found.answered),
        ("rows", f"{rows['total']:,}: {ended}"),
        ("batches", f"{found.shards:,} at first{again}"),
        ("waiting", f"{found.waves:,} {chain}: so many windows of the provider's, in the worst case"),
        ("disk", size(found.disk_bytes)),
        ("this machine", f"{took_s:.1f} s"),
    ]
    return shown + bill_pairs(found.statement)
