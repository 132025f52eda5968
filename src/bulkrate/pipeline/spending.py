"""Spending: what runs used, out of the ledger and the outcomes, as lines for a bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal

import orjson

from bulkrate.core.run_states import RunState
from bulkrate.core.usage import NONE, Usage
from bulkrate.core.vector import RowState
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord, ShardRecord, UsageRecord
from bulkrate.pipeline.expected import expected_band
from bulkrate.pipeline.outcomes import REUSED
from bulkrate.pipeline.report import delivery_of, possibly_billed
from bulkrate.pipeline.row_files import read_parquet
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pricing import PriceList, Quote
from bulkrate.pricing.charges import ANSWERED, LATE, Used, charges
from bulkrate.pricing.statement import Statement, statement

_UNSPENT = (RunState.ASSEMBLING, RunState.READY)
_TOKENS = ("input_tokens", "output_tokens", "cached_tokens", "cache_write_tokens", "reasoning_tokens")


def spending_of(
    ledger: Ledger, home: Home, runs: Iterable[RunRecord], prices: PriceList, *, by: Sequence[str]
) -> Statement:
    """The statement of some runs. Those that spent nothing yet count for nothing."""
    spent = [run for run in runs if run.state not in _UNSPENT]
    found = charges((each for run in spent for each in used_of(ledger, home, run)), prices)
    added = statement(
        found,
        by=by,
        runs=len(spent),
        accepted_rows=sum(_accepted(ledger, run) for run in spent),
        quoted=_quoted(spent),
        expected=_expected(ledger, spent),
        possibly_billed=sum(possibly_billed(ledger, run) for run in spent),
    )
    return _with_reported(added, (record for run in spent for record in ledger.usage(run.id)))


def _with_reported(added: Statement, records: Iterable[UsageRecord]) -> Statement:
    """The statement with what the providers say themselves, where they do."""
    told = [(record.reported_cost, record.requests) for record in records if record.reported_cost is not None]
    if not told:
        return added
    cost = sum((cost for cost, _ in told), Decimal(0))
    return replace(added, reported=cost, reported_requests=sum(requests for _, requests in told))


def used_of(ledger: Ledger, home: Home, run: RunRecord) -> Iterator[Used]:
    """What a run's requests used, by shard and by how they ended."""
    shards = {shard.number: shard for shard in ledger.shards(run.id)}
    records = ledger.usage(run.id)
    late = _late(ledger, RunFolder(home.run_dir(run.id)), run, records)
    tags = tuple(sorted(orjson.loads(run.job_json)["job"].get("tags", {}).items()))
    for record in records:
        shard = shards[record.shard]
        kept = _used(run, shard, record, tags)
        spare = late.get((record.shard, record.model, record.over_tokens)) if not record.error else None
        if spare is not None:
            count, usage = spare
            yield replace(kept, ended=LATE, requests=count, usage=usage)
            kept = replace(kept, requests=kept.requests - count, usage=kept.usage - usage)
        if kept.usage or kept.requests:
            yield kept


def _used(run: RunRecord, shard: ShardRecord, record: UsageRecord, tags: tuple[tuple[str, str], ...]) -> Used:
    return Used(
        run=run.id,
        job=run.job_name,
        model=f"{run.provider}/{record.model or run.model}",
        lane=record.lane,
        attempt=str(record.reason),
        ended=record.error or ANSWERED,
        batch=shard.batch_id or "",
        # A row that failed without a token was refused or never had its turn: no request is paid for.
        requests=record.requests if record.usage else 0,
        usage=record.usage,
        ended_at=shard.ended_at or shard.collected_at or run.updated_at,
        priced_at=run.approved_at or run.created_at,
        tags=tags,
        over_tokens=record.over_tokens,
    )


def _accepted(ledger: Ledger, run: RunRecord) -> int:
    """Rows with an answer that this run paid for: taken over ones were paid for by another."""
    reused = sum(vector.shards.count(REUSED) for _, vector in ledger.vectors(run.id))
    changed = delivery_of(ledger, run).get("source_changed", 0)
    return max(ledger.balance(run.id).succeeded - reused - changed, 0)


def _quoted(runs: Sequence[RunRecord]) -> Decimal | None:
    """The sum of what the runs were approved to cost at most; None if one had no ceiling."""
    total = Decimal(0)
    for run in runs:
        if run.quote_json is None:
            return None
        most = Quote.from_json(orjson.loads(run.quote_json)).cost_max
        if most is None:
            return None
        total += most
    return total


def _expected(ledger: Ledger, runs: Sequence[RunRecord]) -> Decimal | None:
    """The sum of what the runs were expected to cost; None if of one nobody knew."""
    total = Decimal(0)
    for run in runs:
        band = expected_band(ledger, run)
        if band is None or band.expected is None:
            return None
        total += band.expected
    return total if runs else None


def _late(
    ledger: Ledger, folder: RunFolder, run: RunRecord, records: Sequence[UsageRecord]
) -> dict[tuple[int, str, int], tuple[int, Usage]]:
    """Answers that came when another lane had given one already, by shard, model and long-context step: how
    many, their usage.

    The ledger alone tells whether there are any; only then are outcomes read.
    """
    answered: Counter[int] = Counter()
    steps: dict[tuple[int, str], list[int]] = {}
    for record in records:
        if not record.error:
            answered[record.shard] += record.requests
            steps.setdefault((record.shard, record.model), []).append(record.over_tokens)
    aliases = {row for row, _ in folder.all_pairs(folder.aliases_path)} if len(answered) > 1 else set()
    won: Counter[int] = Counter()
    winner: dict[int, int] = {}
    if len(answered) > 1:
        for part, vector in ledger.vectors(run.id):
            for index, shard in enumerate(vector.shards):
                row = part.first_row + index
                if vector.states[index] == RowState.SUCCEEDED and row not in aliases:
                    won[shard] += 1
                    winner[row] = shard
    late: dict[tuple[int, str, int], tuple[int, Usage]] = {}
    for shard in answered:
        path = folder.outcomes_path(shard)
        if len(answered) == 1 or answered[shard] <= won[shard] or not path.exists():
            continue
        for row in read_parquet(path, ["row", "error", "model", *_TOKENS]).to_pylist():
            if row["error"] is None and winner.get(row["row"]) != shard:
                own, model = Usage(**{name: row[name] or 0 for name in _TOKENS}), row["model"] or ""
                over = max((each for each in steps[shard, model] if each < own.input_tokens), default=0)
                count, usage = late.get((shard, model, over), (0, NONE))
                late[shard, model, over] = (count + 1, usage + own)
    return late
