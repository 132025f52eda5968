"""Preparing a run under the eyes of its user: rows counted as they are read, rejected ones told."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from bulkrate.cli.terminal import Terminal, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from bulkrate.jobs.spec import Job
    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.prepare import Rejection
    from bulkrate.pipeline.workspace import Workspace

SAY_EVERY_S = 5.0


def prepare(terminal: Terminal, workspace: Workspace, job: Job, *, fresh: bool) -> RunRecord:
    """The run that running this job means now."""
    return workspace.prepare(job, fresh=fresh, on_progress=counting(terminal))


def counting(terminal: Terminal) -> Callable[[int], None]:
    """A progress callback for assembly: silent for small sources, a line now and then for large ones."""
    said = time.monotonic()

    def on_progress(rows: int) -> None:
        nonlocal said
        if not terminal.quiet and time.monotonic() - said >= SAY_EVERY_S:
            said = time.monotonic()
            terminal.say(f"assembling: {rows:,} rows so far")

    return on_progress


def tell_rejected(terminal: Terminal, workspace: Workspace, run: RunRecord) -> None:
    """Say how many rows of a prepared run will not be sent, and the first of each kind."""
    from bulkrate.pipeline.prepare import rejections
    from bulkrate.pipeline.run_folder import Partitions, RunFolder

    if not workspace.ledger.balance(run.id).rejected:
        return
    from bulkrate.pipeline.assemble import PARTITION_ROWS

    folder = RunFolder(workspace.home.run_dir(run.id))
    vectors = (vector for _, vector in workspace.ledger.vectors(run.id))
    found = rejections(folder, Partitions(PARTITION_ROWS, run.rows), vectors)
    tell_kinds(terminal, found)


def tell_kinds(terminal: Terminal, found: Iterable[Rejection]) -> None:
    """One line per kind of rejection."""
    counts: Counter[str] = Counter()
    first: dict[str, Rejection] = {}
    for rejection in found:
        counts[rejection.code] += 1
        first.setdefault(rejection.code, rejection)
    for code, count in counts.most_common():
        example = first[code]
        rows = "1 row" if count == 1 else f"{count:,} rows"
        terminal.note(f"{rows} rejected ({code}); first: {example.where}: {quoted(example.message)}")
