"""`bulkrate check`: everything that can be found out before paying, without network or key."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal, quoted

if TYPE_CHECKING:
    from bulkrate.pipeline.disk import DiskUse
    from bulkrate.pipeline.prepare import Rejection

SHOWN_PER_CODE = 20


def check(
    context: typer.Context, file: options.File, json: options.Json = False, model: options.Model = None
) -> int:
    """Render and check every row of a job, and quote it. No network, no key, nothing is kept.

    Exit code 1 when any row is rejected.
    """
    from bulkrate.cli.approving import show_quote
    from bulkrate.cli.choosing import job_of
    from bulkrate.cli.preparing import counting
    from bulkrate.ledger.home import Home
    from bulkrate.pipeline.clock import SystemClock
    from bulkrate.pipeline.disk import disk_use
    from bulkrate.pipeline.prepare import assemble_and_check, packer_for, quote_of, rejections
    from bulkrate.pipeline.prices import find_prices
    from bulkrate.pipeline.run_folder import RunFolder
    from bulkrate.pipeline.setup import Setup

    terminal: Terminal = context.obj
    job = job_of(file, model=model)
    setup = Setup(job, terminal.env, find_prices(Home.place(terminal.cwd, terminal.env), terminal.env))
    setup.check()
    with tempfile.TemporaryDirectory(prefix="bulkrate-check-") as scratch:
        folder = RunFolder(Path(scratch))
        checked = assemble_and_check(setup, folder, on_progress=counting(terminal))
        packer = packer_for(setup, "check", folder, checked.partitions)
        shards = packer.pending(
            enumerate(checked.vectors), first_number=0, max_tokens=setup.limits.queued_tokens
        )
        quote = quote_of(setup, folder, checked, SystemClock().now(), shards=shards)
        disk = disk_use(folder, quote.rows, quote.output_tokens_max, setup.output)
        problems = Problems()
        for rejection in rejections(folder, checked.partitions, iter(checked.vectors)):
            problems.add(rejection)
    balance = checked.balance
    if json:
        terminal.document(
            {
                "job": job.name,
                "model": f"{job.provider}/{setup.model}",
                "rows": {
                    "total": balance.rows,
                    "to_send": quote.rows,
                    "rejected": balance.rejected,
                    "repeated": checked.aliases,
                },
                "problems": {
                    code: {"count": problems.counts[code], "first": problems.first[code]}
                    for code in problems.counts
                },
                "shards": len(shards),
                "disk": {"assembled_bytes": disk.assembled_bytes, "results_bytes": disk.results_bytes},
                "quote": quote.to_json(),
            }
        )
    else:
        for code, count in problems.counts.most_common():
            for problem in problems.first[code]:
                terminal.say(f"{problem['where']}: {code}: {quoted(problem['message'])}")
            if count > SHOWN_PER_CODE:
                terminal.say(f"… and {count - SHOWN_PER_CODE:,} more rows: {code}")
        show_quote(terminal, quote, f"{job.name}, {balance.rows:,} rows", rejected=balance.rejected)
        batches = "1 batch" if len(shards) == 1 else f"{len(shards):,} batches"
        terminal.note(f"disk: {size(disk.assembled_bytes)} once prepared; {_added(disk, setup.kind)}")
        terminal.note(f"{batches} to send; answers of earlier runs are not taken into account here")
    return 1 if balance.rejected else 0


def _added(disk: DiskUse, kind: str) -> str:
    from bulkrate.pipeline.disk import NUMBER_BYTES, TOKEN_BYTES

    if disk.results_bytes is not None:
        return f"answers add up to {size(disk.results_bytes)}"
    if kind == "embed":
        return f"vectors add {NUMBER_BYTES} bytes for each of their numbers"
    return f"answers, not capped, add {TOKEN_BYTES} bytes a token"


def size(size_bytes: int) -> str:
    """A size for people, in decimal units."""
    for unit, whole in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= whole:
            return f"{size_bytes / whole:,.1f} {unit}"
    return f"{size_bytes} bytes"


class Problems:
    """Rejected rows by code: how many, and the first of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.first: dict[str, list[dict[str, Any]]] = {}

    def add(self, rejection: Rejection) -> None:
        """Count a rejected row."""
        self.counts[rejection.code] += 1
        shown = self.first.setdefault(rejection.code, [])
        if len(shown) < SHOWN_PER_CODE:
            shown.append({"row": rejection.row + 1, "where": rejection.where, "message": rejection.message})
