"""Report: one document about a run; the stable contract of `run --json` and `status --json`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson

from bulkrate.core.outcome import CLASS_OF_CODE
from bulkrate.core.run_states import RunState
from bulkrate.core.shard_states import ShardState
from bulkrate.core.usage import NONE, Usage
from bulkrate.core.vector import RowState
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord
from bulkrate.pricing import PUBLISHED, Bill, PriceList, bill

# States of a shard that the provider does not have, or is not known to.
NOT_YET = frozenset(
    {
        ShardState.PACKED,
        ShardState.SENDING,
        ShardState.UPLOADING,
        ShardState.UPLOADED,
        ShardState.CREATING,
        ShardState.IN_DOUBT,
        ShardState.FENCED,
    }
)


def report(ledger: Ledger, run: RunRecord, prices: PriceList = PUBLISHED) -> dict[str, Any]:
    """The run as one JSON-able document. Reads the vectors only when rows have failed or were rejected."""
    balance = ledger.balance(run.id)
    shards = ledger.shards(run.id)
    # A shard that was superseded or refused never ran: its rows were sent as part of another one.
    sent = [s for s in shards if s.batch_id is not None and s.state is not ShardState.SUPERSEDED]
    singly = [s for s in shards if s.batch_id is None and s.collected_at is not None]
    batches = {batch.id: batch for batch in ledger.batches(run.id)}
    used = sum((record.usage for record in ledger.usage(run.id)), NONE)
    delivery = delivery_of(ledger, run)
    failures = failures_of(ledger, run) if balance.failed else {}
    succeeded, failed = balance.succeeded, balance.failed
    if changed := delivery.get("source_changed"):
        # What was delivered: an answer to content that is no longer there is none.
        failures["source_changed"] = changed
        succeeded, failed = delivery["succeeded"], delivery["failed"]
    return {
        "run": run.id,
        "job": run.job_name,
        "state": str(run.state),
        "model": f"{run.provider}/{run.model}",
        "rows": {
            "total": balance.rows,
            "succeeded": succeeded,
            "failed": failed,
            "rejected": balance.rejected,
            "pending": balance.pending,
        },
        "requests": {"sent": sum(shard.requests for shard in sent + singly)},
        "batches": [
            {
                "provider": run.provider,
                "id": shard.batch_id,
                "state": batches[shard.batch_id].word if shard.batch_id in batches else str(shard.state),
                "requests": shard.requests,
            }
            for shard in sent
        ],
        "usage": usage_document(used),
        "unattributed": usage_document(
            sum((r.usage for r in ledger.usage(run.id) if r.error == "unattributed"), NONE)
        ),
        "possibly_billed": possibly_billed(ledger, run),
        "failures": failures,
        "source": {"changed": delivery.get("source_changed", 0), "added": delivery.get("added", 0)},
        "quote": None if run.quote_json is None else orjson.loads(run.quote_json),
        "bill": bill_of(ledger, run, prices).to_json(),
        "sink": run.sink if run.state is RunState.FINISHED else None,
    }


def usage_document(usage: Usage) -> dict[str, int]:
    """Usage under its stable names."""
    return {
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def failures_of(ledger: Ledger, run: RunRecord) -> dict[str, int]:
    """Failed rows by error class."""
    counts: Counter[str] = Counter()
    for _, vector in ledger.vectors(run.id):
        for index in vector.rows_in(RowState.FAILED):
            error = CLASS_OF_CODE.get(vector.errors[index])
            counts[str(error) if error is not None else "cancelled"] += 1
    return dict(sorted(counts.items()))


def possibly_billed(ledger: Ledger, run: RunRecord) -> int:
    """Requests of which nobody knows whether they were answered and billed: single ones that were begun when
    the process died, and those of a second batch that one create call made."""
    details = [e.detail_json for e in ledger.events(run.id) if e.kind in ("possibly_billed", "stray")]
    return sum(orjson.loads(detail)["requests"] for detail in details if detail)


def delivery_of(ledger: Ledger, run: RunRecord) -> dict[str, int]:
    """What the last delivery saw of the source."""
    found: dict[str, int] = {}
    for event in ledger.events(run.id):
        if event.kind == "delivery" and event.detail_json:
            found = orjson.loads(event.detail_json)
    return found


def bill_of(ledger: Ledger, run: RunRecord, prices: PriceList = PUBLISHED) -> Bill:
    """What the run's reported usage costs, at the rates of the day it was approved."""
    records = [
        (f"{run.provider}/{record.model or run.model}", record.usage, record.requests, record.lane)
        for record in ledger.usage(run.id)
        if record.usage
    ]
    return bill(records, run.approved_at or run.created_at, prices)


def in_flight(ledger: Ledger, run: str) -> int:
    """Batches that are with the provider now."""
    return sum(shard.state is ShardState.SUBMITTED for shard in ledger.shards(run))


def submitted(ledger: Ledger, run: str) -> bool:
    """Whether everything packed so far is, or was, with the provider."""
    return all(shard.state not in NOT_YET for shard in ledger.shards(run))


def exit_code(ledger: Ledger, run: RunRecord, max_failed: float) -> int:
    """0: all rows succeeded, or failures within `max_failed`; 1: more failed; 3: not finished.

    A rejected row, and one whose source changed, count as failed: they have no answer.
    """
    if run.state is not RunState.FINISHED:
        return 3
    balance = ledger.balance(run.id)
    lost = balance.failed + balance.rejected + delivery_of(ledger, run).get("source_changed", 0)
    return 0 if lost <= max_failed * balance.rows else 1
