"""One stage of Bulkrate in a process of its own, measured: `run.py` calls it.

stages.py assemble SOURCE HOME [--workers N]   rows to manifests, request lines and packed shards
stages.py land SOURCE HOME RESULTS             results of every shard, as if downloaded (not measured)
stages.py collect SOURCE HOME [--workers N]    landed results to outcomes, ledger and the joined sink
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path

import genai_prices  # noqa: F401  (imports are not measured, those of the plain loops are not either)
import pyarrow.parquet  # noqa: F401
import zstandard

from bulkrate.core.identity import shard_prefix
from bulkrate.core.run_states import RunEvent
from bulkrate.core.shard_states import ShardEvent
from bulkrate.ledger.home import Home
from bulkrate.ledger.records import BatchRecord
from bulkrate.pipeline.collect import collect
from bulkrate.pipeline.deliver import deliver_run
from bulkrate.pipeline.prepare import assemble_run, begin_run
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pipeline.workspace import Workspace
from measuring import Stopwatch, say
from no_count import NoCount
from tickets import custom_ids, job_over, results

ENV = {"OPENAI_API_KEY": "none"}
AT = datetime(2026, 1, 1, tzinfo=UTC)


def assemble(workspace: Workspace, setup: Setup) -> None:
    setup.make_counter = NoCount
    watch = Stopwatch()
    snapshot = setup.source.snapshot()
    run = begin_run(workspace.ledger, setup, snapshot, nonce="", at=AT)
    assemble_run(workspace.ledger, workspace.home, setup, run, at=AT)
    say(**watch.read())


def land(workspace: Workspace, folder: Path) -> None:
    """Move every shard to `landed`. The same lines with the rows' keys go to `folder`, for the plain loop."""
    (run,) = workspace.ledger.runs()
    files = RunFolder(workspace.home.run_dir(run.id))
    folder.mkdir(parents=True, exist_ok=True)
    with workspace.ledger.transaction("bench") as tx:
        tx.move_run(run.id, RunEvent.APPROVED, AT)
    for shard in workspace.ledger.shards(run.id):
        path = files.raw_path(shard.number, "output")
        path.parent.mkdir(parents=True, exist_ok=True)
        ids = custom_ids(shard_prefix(run.id, shard.number), shard.requests)
        with path.open("wb") as file, zstandard.ZstdCompressor(level=3).stream_writer(file) as packed:
            for line in results(ids, shard.number):
                packed.write(line)
        keys = [f"T-{row:08d}" for row in files.rows(shard.number)]
        with (folder / f"{shard.number:05d}.jsonl").open("wb") as file:
            file.writelines(results(keys, shard.number))
        batch = BatchRecord(
            run=run.id,
            shard=shard.number,
            provider=run.provider,
            id=f"batch-{shard.number}",
            word="completed",
            seen_at=AT,
            results_json=f'[["output", "file-{shard.number}"]]',
        )
        with workspace.ledger.transaction("bench") as tx:
            tx.put_batch(batch)
            for event in (ShardEvent.FOUND, ShardEvent.BATCH_ENDED, ShardEvent.RESULTS_LANDED):
                tx.move_shard(run.id, shard.number, event, AT, batch_id=batch.id)
    say(run=run.id)


def collect_and_join(workspace: Workspace) -> None:
    (run,) = workspace.ledger.runs()
    setup = workspace.setup(run)
    context = workspace._context(run, setup, None, None)
    watch = Stopwatch()
    for shard in workspace.ledger.shards(run.id):
        collect(context, shard, cancelling=False)
    collected = watch.read()
    with workspace.ledger.transaction("bench") as tx:
        tx.move_run(run.id, RunEvent.SETTLED, AT)
    delivery = deliver_run(workspace.ledger, workspace.home, setup, run.id, AT)
    assert delivery.by_status == {"succeeded": run.rows}, delivery
    say(**watch.read(), collect_cpu_s=collected["cpu_s"], collect_wall_s=collected["wall_s"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stage", choices=["assemble", "land", "collect"])
    parser.add_argument("source", type=Path)
    parser.add_argument("home", type=Path)
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("--workers", type=int, default=None)
    options = parser.parse_args()
    options.home.mkdir(parents=True, exist_ok=True)
    env = dict(ENV)
    if options.workers is not None:
        env["BULKRATE_WORKERS"] = str(options.workers)
    workspace = Workspace(Home(options.home), env=env)
    if options.stage == "assemble":
        assemble(workspace, Setup(job_over(options.source), env))
    elif options.stage == "land":
        land(workspace, options.results)
    else:
        collect_and_join(workspace)
    workspace.close()


if __name__ == "__main__":
    main()
