"""Landing: a batch's result files onto the disk as they came, whole and synced, before anything reads them.

Files that had landed and are lost before they are collected land once more while the provider has them. When
it has not, the rows are not simply asked again: they were paid for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from bulkrate.core.arrival import Arrival
from bulkrate.core.identity import request_number, shard_prefix
from bulkrate.core.shard_states import ShardEvent
from bulkrate.errors import LedgerError, NotFoundError, QuotaError, Unreachable
from bulkrate.ledger.records import BatchRecord, ShardRecord
from bulkrate.pipeline.context import MOST_ABSENCES, RunContext, absences
from bulkrate.pipeline.packed import is_whole, lines_of, packed_file
from bulkrate.pipeline.row_files import DAMAGED, LOST
from bulkrate.pipeline.submit import wait_after_failure
from bulkrate.providers.provider import ResultFile
from bulkrate.signals import signal

# A disk that has lost a shard's files as often as this is not trusted with them again.
MOST_LOSSES = 3
GONE = "results_gone"
# What keeps a shard from being collected, and no other one.
UNCOLLECTED = frozenset({LOST, DAMAGED, GONE})


def batch_of(context: RunContext, shard: ShardRecord) -> BatchRecord | None:
    """The batch a shard was submitted as; None for one whose requests were sent one by one."""
    if shard.batch_id is None:
        return None
    for batch in context.ledger.batches(shard.run):
        if batch.id == shard.batch_id:
            return batch
    raise AssertionError(f"shard {shard.number} has no batch record")


async def land(context: RunContext, shard: ShardRecord, *, cancelling: bool) -> None:
    """Download the batch's result files.

    Raises LedgerError when they had landed before, and are neither here nor with the provider any more.
    """
    batch = batch_of(context, shard)
    assert batch is not None
    landed_before = _losses(context, shard) > 0
    files = [ResultFile(kind, file_id) for kind, file_id in orjson.loads(batch.results_json)]
    arrived: dict[ResultFile, Arrival] = {}
    gone: list[str] = []
    try:
        for file in files:
            path = context.folder.raw_path(shard.number, file.kind)
            if landed_before and is_whole(path):
                continue
            signal("download.before")
            try:
                arrived[file] = await _download(context, path, file)
            except NotFoundError:
                # A lagging replica, or results past their retention: their rows then count as missing. Only
                # what was said of this very file counts: after an outage the first "not found" is no proof.
                if absences(context, shard, file.id) < MOST_ABSENCES:
                    raise
                if landed_before and not cancelling:
                    raise answers_lost(shard, path, f"and {context.provider} has it no more") from None
                gone.append(file.id)
                with packed_file(path):  # an empty one: a landed shard has all its files
                    pass
            signal("download.after")
        # Of files some of which are here since another time, or nowhere, the lines tell nothing.
        if arrived.keys() == set(files) and _lines(arrived) < shard.requests:
            await _look_again(context, shard, arrived)
    except (Unreachable, QuotaError, NotFoundError) as error:
        wait_after_failure(context, shard.number, error.retry_after_s)
        return
    with context.transaction("results_landed") as tx:
        detail = {"gone": gone} if gone else None
        tx.move_shard(shard.run, shard.number, ShardEvent.RESULTS_LANDED, context.clock.now(), detail)
    context.failures.pop(shard.number, None)


async def _download(context: RunContext, path: Path, file: ResultFile) -> Arrival:
    arrival = Arrival()
    with packed_file(path) as write:
        async for chunk in context.connection.download(file):
            write(chunk)
            arrival.add(chunk)
            # A slow download outlasts the lease: two processes would take the run from each other for ever.
            context.renew()
    return arrival


def _lines(arrived: Mapping[ResultFile, Arrival]) -> int:
    return sum(arrival.whole_lines for arrival in arrived.values())


async def _look_again(context: RunContext, shard: ShardRecord, arrived: Mapping[ResultFile, Arrival]) -> None:
    """Rows without a line are sent, and paid for, again: the provider has to say so twice.

    Raises `Unreachable` when a second download is not as the first, or when no line of either is of this
    shard: such files are asked for as often as one that is not found.
    """
    for file, before in arrived.items():
        if await _download(context, context.folder.raw_path(shard.number, file.kind), file) != before:
            raise Unreachable(f"download: {file.id} was not the same the second time")
    for file in arrived:
        if _holds_ours(context, shard, context.folder.raw_path(shard.number, file.kind)):
            return
    if arrived and absences(context, shard, f"results in {next(iter(arrived)).id}") < MOST_ABSENCES:
        raise Unreachable("download: the files hold no result of the shard")


def _holds_ours(context: RunContext, shard: ShardRecord, path: Path) -> bool:
    prefix = shard_prefix(shard.run, shard.number)
    for line in filter(bytes.strip, lines_of(path)):
        decoded = context.wire.decode(line, context.output)
        if decoded is not None and request_number(decoded.custom_id, prefix) is not None:
            return True
    return False


def land_again(context: RunContext, shard: ShardRecord, error: LedgerError) -> None:
    """Files of a landed shard are lost, as `error` says: they are fetched again. Raises it when that was
    done too often."""
    if _losses(context, shard) >= MOST_LOSSES:
        raise error
    with context.transaction("results_lost") as tx:
        detail = {"error": error.message}
        tx.move_shard(shard.run, shard.number, ShardEvent.RESULTS_LOST, context.clock.now(), detail)


def answers_lost(shard: ShardRecord, path: Path, others: str) -> LedgerError:
    """The error for answers that were here, and are not any more."""
    return LedgerError(
        f"the answers to {shard.requests} requests of shard {shard.number} were here and are gone, {others}: "
        f"{path}",
        code=GONE,
        hint="put it back and run the job again; or end the run with the answers there are (`bulkrate cancel "
        f"{shard.run}`, `bulkrate wait {shard.run}`), after which `bulkrate retry {shard.run}` pays for the "
        "others anew",
    )


def _losses(context: RunContext, shard: ShardRecord) -> int:
    events = context.ledger.events(shard.run, kind=ShardEvent.RESULTS_LOST)
    return sum(event.shard == shard.number for event in events)
