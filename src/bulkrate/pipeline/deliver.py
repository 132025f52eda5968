"""Deliver: the joined rows into the job's sink; atomically, and harmless to repeat."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from bulkrate.core.request import Embedding
from bulkrate.core.run_states import RUN_TABLE, RunEvent
from bulkrate.datasets.arrow_values import embedding_type
from bulkrate.datasets.sink import Column, is_table, open_sink
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.assemble import PARTITION_ROWS
from bulkrate.pipeline.join import ANSWER, RESULT_COLUMNS, ROW_NUMBER, Delivery, Joiner, result_names
from bulkrate.pipeline.run_folder import Partitions, RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.signals import signal


def deliverer_for(ledger: Ledger, home: Home, setup: Setup, run: RunRecord, *, table: bool = False) -> Joiner:
    """The joiner of a run, with the columns its job asks for; for a `table` each of them has a name."""
    key = setup.job.key
    copied = _copied(setup, table)

    def include(values: Mapping[str, Any]) -> Mapping[str, Any]:
        if copied is None:
            return values
        return {name: values.get(name) for name in copied}

    return Joiner(
        run=run.id,
        ledger=ledger,
        folder=RunFolder(home.run_dir(run.id)),
        partitions=Partitions(PARTITION_ROWS, run.rows),
        output=setup.output,
        key=key,
        names=result_names(_source_names(setup)),
        include=include,
        row_numbers=setup.row_numbers,
    )


def _copied(setup: Setup, table: bool) -> tuple[str, ...] | None:
    """Source columns that stand beside the answer; None: whatever each row has (JSON lines to JSON lines)."""
    if setup.job.sink.include == "key":
        return setup.job.key or ()
    return setup.column_names if table else setup.source.columns()


def _source_names(setup: Setup) -> list[str]:
    """Names of the source that stand in the sink; ours give way. JSON lines are read once for that."""
    if setup.job.sink.include == "key":
        return list(setup.job.key or ())
    return list(setup.column_names)


def sink_columns(setup: Setup, folder: RunFolder, *, table: bool) -> list[Column]:
    """The columns of the sink, in order: source columns, then the results."""
    answer = embedding_type(folder.dimensions()) if isinstance(setup.output, Embedding) else None
    key = setup.job.key
    names = list(_copied(setup, table) or key or ())
    types = setup.source.column_types() if hasattr(setup.source, "column_types") else {}
    renamed = result_names(_source_names(setup))
    columns = [] if key is not None else [Column(renamed[ROW_NUMBER], "integer")]
    columns += [Column(name, types.get(name, "json")) for name in names]
    for column in RESULT_COLUMNS:
        kind = column.type if column.name != ANSWER or answer is None else answer
        columns.append(Column(renamed[column.name], kind))
    return columns


def deliver_run(
    ledger: Ledger, home: Home, setup: Setup, run_id: str, at: datetime, *, path: Path | None = None
) -> Delivery:
    """Write a run's rows to its sink (or to `path`), and record it."""
    run = ledger.run(run_id)
    assert run is not None
    job = setup.job
    target = path or Path(run.sink or job.sink_path)
    setup.check_sink(target)
    written_as = None if path is not None else job.sink.format
    table = is_table(target, written_as)
    joiner = deliverer_for(ledger, home, setup, run, table=table)
    signal("deliver.before")
    columns = sink_columns(setup, RunFolder(home.run_dir(run.id)), table=table)
    delivery = joiner.deliver(setup.source, lambda: open_sink(target, columns, written_as))
    signal("deliver.after")
    detail = {
        "rows": delivery.rows,
        "source_changed": delivery.source_changed,
        "added": delivery.added,
        "succeeded": delivery.by_status.get("succeeded", 0),
        "failed": delivery.by_status.get("failed", 0),
    }
    with ledger.transaction("delivered") as tx:
        # It may have been reopened since: what was written then is not its end.
        if path is None and RUN_TABLE.knows(tx.run(run_id).state, RunEvent.DELIVERED):
            tx.move_run(run_id, RunEvent.DELIVERED, at, finished_at=run.finished_at or at)
        tx.add_event(run_id, "delivery", at, detail=detail)
    return delivery
