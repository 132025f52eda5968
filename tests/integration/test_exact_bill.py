"""A run that goes wrong in every way that costs money: its bill is the provider's meter to the last digit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import orjson
from live_app import LiveProvider, answer, serving

from bulkrate.cli.bill import pairs
from bulkrate.cli.summary import summary_pairs
from bulkrate.core.budget import Held, Scope
from bulkrate.core.run_states import RunState
from bulkrate.core.usage import Usage
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.reforecast import full_report
from bulkrate.pipeline.spending import spending_of
from bulkrate.pipeline.workspace import Workspace
from bulkrate.pricing import price, rate
from bulkrate.pricing.statement import Statement
from bulkrate.testing import FakeClock, MisbehavingProvider

ROWS = 80
DAY = datetime(2026, 11, 24, 9, tzinfo=UTC)
# In order: a batch that expires half-way, one with lost lines that were run, one with answers cut off, and
# when their rows are sent again, one that is stuck until the rescue cancels it.
FAULTS = "expire_after=11 missing=4,skip=1 truncate=3,skip=2 stuck=1,skip=4,done=2"


def test_bill_and_unattributed_are_the_providers_meter(tmp_path: Path) -> None:
    clock = FakeClock(DAY)
    batch = MisbehavingProvider(FAULTS, seed=5, now=clock.now)
    rows = [json.dumps({"id": n, "body": f"ticket {n} " * (n % 7 + 1)}) for n in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    with serving(LiveProvider(batch=batch.app)) as live:
        env = {"OPENAI_API_KEY": batch.api_key, "OPENAI_BASE_URL": live.base_url}
        env |= {f"BULKRATE_LIMITS__{name}": value for name, value in LIMITS.items()}
        space = Workspace(Home.find(tmp_path, env={}), env=env, clock=clock)
        run = space.approve(space.prepare(job(tmp_path)), decide=lambda quote: True)
        run = anyio.run(lambda: space.advance(run.id, timeout_s=4 * 3600))

    assert run.state is RunState.FINISHED
    document = full_report(space, run)
    assert document["rows"]["succeeded"] == ROWS
    found = spending_of(space.ledger, space.home, [run], space.prices, by=("lane", "attempt", "ended"))
    assert set(found.wasted) == {"truncated", "unattributed"}
    assert {group[:2] for group in found.groups} >= {
        ("batch", "first"),
        ("batch", "resend"),
        ("live", "rescue"),
    }
    assert live.answered, "the rest was rescued"

    # The meter: what ran in batches, and what was answered live, each at its own rate.
    meter = batch.meter
    batched = Usage(meter.billed_input_tokens, meter.billed_output_tokens, meter.billed_cached_tokens)
    one = answer("", "")["usage"]
    calls = sum(live.answered.values())
    lived = Usage(calls * one["prompt_tokens"], calls * one["completion_tokens"])
    assert tokens(document["usage"]) == tokens_of(batched + lived)
    unattributed = tokens(document["unattributed"])
    assert all(unattributed[:2])
    explained = [whole - part for whole, part in zip(tokens_of(batched + lived), unattributed, strict=True)]
    assert explained == by_rows(space, run.id)
    metered = at("batch", batched) + at("live", lived)
    assert found.whole.cost == metered
    assert Decimal(document["bill"]["cost"]) == metered
    assert space.ledger.held(run.id, clock.now())[Scope.RUN] == Held(spent=metered), "what budgets count"
    the_error_of_the_quote_is_told(space, run, found, document)
    space.close()


LIMITS = {"REQUESTS": "20", "LISTING_LAG_S": "0", "CANCEL_LATENCY_S": "600", "ANSWERS_PER_S": "1"}


def job(folder: Path) -> Any:
    request = {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 20}
    return load_job_mapping(
        {
            "name": "tickets",
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": request,
            "lane": {"deadline": "20m", "rescue": "live", "poll": 30},
            "sink": {"path": "answers.jsonl"},
        },
        folder,
    )


def at(lane: str, usage: Usage) -> Decimal:
    known = rate("openai", "gpt-4o-mini", lane, DAY)
    assert known is not None
    return price(known, usage)


def tokens(document: dict[str, int]) -> list[int]:
    return [document[name] for name in ("input_tokens", "output_tokens", "cached_tokens")]


def tokens_of(usage: Usage) -> list[int]:
    return [usage.input_tokens, usage.output_tokens, usage.cached_tokens]


def by_rows(space: Workspace, run: str) -> list[int]:
    """What the rows' own usage adds up to, out of the raw files as they came."""
    import zstandard

    total = [0, 0, 0]
    for path in sorted((space.home.run_dir(run) / "raw").glob("*.output.jsonl.zst")):
        content = zstandard.ZstdDecompressor().stream_reader(path.open("rb")).read()
        for line in content.splitlines():
            used = orjson.loads(line)["response"]["body"]["usage"]
            cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            for index, count in enumerate((used["prompt_tokens"], used["completion_tokens"], cached)):
                total[index] += count
    return total


def the_error_of_the_quote_is_told(
    space: Workspace, run: Any, found: Statement, document: dict[str, Any]
) -> None:
    quote = space.quote(run)
    assert quote is not None and quote.cost_max is not None
    assert found.quote_error == quote.cost_max - Decimal(document["bill"]["cost"])
    for shown in (dict(pairs(found)), dict(summary_pairs(space, run, document))):
        assert "the quote was too " in shown["quote error"]
