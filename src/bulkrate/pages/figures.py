"""The figures of one run, out of its ledger and files: what its page shows. No prompt, no answer, no key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import accumulate

import pyarrow.compute as pc

from bulkrate.core.retry import SendReason
from bulkrate.ledger.records import RunRecord, ShardRecord
from bulkrate.pages.charts import Span
from bulkrate.pipeline.expected import expected_band
from bulkrate.pipeline.report import report
from bulkrate.pipeline.row_files import read_parquet
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pipeline.spending import used_of
from bulkrate.pipeline.workspace import Workspace
from bulkrate.pricing import Quote
from bulkrate.pricing.charges import Charge, charges

MOST_SPANS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a run did. Money is None where no price is known; `spent` and `live` add up over time.

    `expected` is what it was to cost when it was approved; `wasted` is what was paid for without an answer
    that was kept, by how the requests ended.
    """

    run: RunRecord
    rows: Mapping[str, int]
    failures: Mapping[str, int]
    quote: Quote | None
    expected: Decimal | None
    spent: Sequence[tuple[datetime, Decimal]] | None
    live: Sequence[tuple[datetime, Decimal]] | None
    wasted: Mapping[str, Decimal] | None
    tokens: Sequence[tuple[datetime, int]]
    input_sizes: Sequence[tuple[str, int]]
    output_sizes: Sequence[tuple[str, int]]
    spans: Sequence[Span]
    more_spans: int


def figures_of(workspace: Workspace, run: RunRecord) -> Figures:
    """Read them. Row-sized files are read one at a time, two columns of each."""
    document = report(workspace.ledger, run, workspace.prices)
    found = sorted(
        charges(used_of(workspace.ledger, workspace.home, run), workspace.prices),
        key=lambda charge: charge.used.ended_at,
    )
    band = expected_band(workspace.ledger, run)
    shards = workspace.ledger.shards(run.id)
    spans = [span for shard in shards if (span := _span(shard)) is not None]
    sizes = _sizes(RunFolder(workspace.home.run_dir(run.id)), shards)
    return Figures(
        run=run,
        rows=document["rows"],
        failures=document["failures"],
        quote=workspace.quote(run),
        expected=None if band is None else band.expected,
        spent=_over_time(found, [charge.cost for charge in found]),
        live=_over_time(found, [charge.live for charge in found]),
        wasted=_wasted(found),
        tokens=list(
            zip(
                (charge.used.ended_at for charge in found),
                accumulate(0 if charge.kind == "request" else charge.quantity for charge in found),
                strict=True,
            )
        ),
        input_sizes=ranges(sizes["input_tokens"]),
        output_sizes=ranges(sizes["output_tokens"]),
        spans=spans[:MOST_SPANS],
        more_spans=max(len(spans) - MOST_SPANS, 0),
    )


def _over_time(
    found: Sequence[Charge], amounts: Sequence[Decimal | None]
) -> list[tuple[datetime, Decimal]] | None:
    known = [amount for amount in amounts if amount is not None]
    if len(known) < len(amounts):  # a part would look like the whole
        return None
    return list(zip((charge.used.ended_at for charge in found), accumulate(known), strict=True))


def _wasted(found: Sequence[Charge]) -> dict[str, Decimal] | None:
    sums: dict[str, Decimal] = {}
    for charge in found:
        if charge.cost is None:
            return None
        if charge.wasted:
            sums[charge.used.ended] = sums.get(charge.used.ended, Decimal(0)) + charge.cost
    return sums


def _span(shard: ShardRecord) -> Span | None:
    if shard.submitted_at is None or shard.ended_at is None:
        return None
    again = "" if shard.reason is SendReason.FIRST else "*"
    fetched_at = shard.collected_at or shard.ended_at
    return Span(f"{shard.number}{again}", shard.submitted_at, shard.ended_at, fetched_at)


def _sizes(folder: RunFolder, shards: Iterable[ShardRecord]) -> dict[str, Counter[int]]:
    """For each kind of token, how many requests used between 2**(n-1) and 2**n - 1, by n; 0 for none."""
    found: dict[str, Counter[int]] = {"input_tokens": Counter(), "output_tokens": Counter()}
    for shard in shards:
        path = folder.outcomes_path(shard.number)
        if not path.exists():
            continue
        table = read_parquet(path, list(found))
        for name, counts in found.items():
            for pair in pc.value_counts(pc.fill_null(table[name], 0)).to_pylist():
                counts[int(pair["values"]).bit_length()] += pair["counts"]
    return found


def ranges(sizes: Mapping[int, int]) -> list[tuple[str, int]]:
    """Counts by powers of two as ranges with a name, without a gap; requests without a token left out."""
    kept = {n: count for n, count in sizes.items() if n and count}
    if not kept:
        return []
    return [
        (f"{1 << (n - 1):,}–{(1 << n) - 1:,}" if n > 1 else "1", kept.get(n, 0))
        for n in range(min(kept), max(kept) + 1)
    ]
