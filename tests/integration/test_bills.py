"""Bills of whole runs against what the provider metered, and what was wasted on the way."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import anyio
import pyarrow.parquet as pq
import pytest

from bulkrate.core.usage import Usage
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.spending import spending_of, used_of
from bulkrate.pipeline.workspace import Workspace
from bulkrate.pricing import price, rate
from bulkrate.pricing.charges import charges
from bulkrate.pricing.focus import focus_rows, write_focus
from bulkrate.pricing.statement import Statement
from bulkrate.testing import FakeClock, MisbehavingProvider

ROWS = 60
DAY = datetime(2026, 11, 24, 9, tzinfo=UTC)

Space = tuple[Workspace, MisbehavingProvider]
MakeSpace = Callable[[str], Space]


@pytest.fixture
def finished(tmp_path: Path) -> Iterator[MakeSpace]:
    """A workspace with a finished run against a provider with those faults."""
    with ExitStack() as stack:

        def make(faults: str) -> Space:
            provider = stack.enter_context(MisbehavingProvider(faults, seed=7, polls=2))
            lines = [json.dumps({"id": n, "body": f"ticket {n} " * (n % 7 + 1)}) for n in range(ROWS)]
            (tmp_path / "rows.jsonl").write_text("\n".join(lines))
            env = {
                "OPENAI_API_KEY": provider.api_key,
                "OPENAI_BASE_URL": provider.base_url,
                "BULKRATE_LIMITS__LISTING_LAG_S": "0",
            }
            workspace = Workspace(Home.find(tmp_path, env={}), env=env, clock=FakeClock(DAY))
            stack.callback(workspace.close)
            job = load_job_mapping(
                {
                    "name": "tickets",
                    "source": {"path": "rows.jsonl", "key": "id"},
                    "request": {
                        "model": "openai/gpt-4o-mini",
                        "prompt": "{{ body }}",
                        "max_output_tokens": 20,
                    },
                    "sink": {"path": "answers.jsonl"},
                },
                tmp_path,
            )
            run = workspace.approve(workspace.prepare(job), decide=lambda quote: True)
            anyio.run(lambda: workspace.advance(run.id, poll_s=0.01))
            return workspace, provider

        yield make


def _statement(workspace: Workspace, *by: str) -> Statement:
    return spending_of(
        workspace.ledger, workspace.home, workspace.ledger.runs(), workspace.prices, by=by or ("model",)
    )


@pytest.mark.parametrize(
    "faults",
    ["", "truncate=3 missing=4 bad_rows=2", "expire_after=25 missing=1", "cancel_after=10 truncate=2"],
)
def test_the_bill_is_the_providers_meter_to_the_last_digit(finished: MakeSpace, faults: str) -> None:
    workspace, provider = finished(faults)
    found = _statement(workspace, "model", "lane", "kind", "attempt", "ended")
    meter = provider.meter
    used = Usage(meter.billed_input_tokens, meter.billed_output_tokens, meter.billed_cached_tokens)
    batch, live = (rate("openai", "gpt-4o-mini", lane, DAY) for lane in ("batch", "live"))
    assert batch is not None and live is not None
    assert found.whole.cost == price(batch, used) > 0
    assert found.whole.live == price(live, used)
    assert found.whole.tokens == used.input_tokens + used.output_tokens
    assert sum((each.cost or 0 for each in found.groups.values()), Decimal(0)) == found.whole.cost
    assert found.quoted is not None
    assert found.accepted_rows == workspace.ledger.balance(workspace.ledger.runs()[0].id).succeeded
    assert found.per_accepted_row == found.whole.cost / found.accepted_rows


def test_what_was_wasted_stands_apart(finished: MakeSpace) -> None:
    workspace, _ = finished("truncate=3 missing=4 bad_rows=2")
    found = _statement(workspace, "ended")
    # Rows that were refused cost nothing; missing ones were run, and only the batch's total tells.
    assert set(found.wasted) == {"truncated", "unattributed"}
    assert all(each.cost for each in found.wasted.values())
    assert found.sent_again.cost
    answered = found.groups["answered",].cost
    assert answered is not None
    assert answered + sum((each.cost or 0 for each in found.wasted.values()), Decimal(0)) == found.whole.cost


def test_an_answer_that_came_second_is_late(finished: MakeSpace) -> None:
    workspace, _ = finished("truncate=3")
    (run,) = workspace.ledger.runs()
    whole = _statement(workspace).whole.cost
    (_, vector), *_ = workspace.ledger.vectors(run.id)
    moved = [index for index in range(ROWS) if vector.shards[index] == 0][:2]
    for index in moved:
        vector.shards[index] = 1  # as if the other lane had been first
    with workspace.ledger.transaction("moved") as tx:
        tx.save_vector(run.id, 0, vector)
    found = _statement(workspace, "ended")
    late = [each for each in used_of(workspace.ledger, workspace.home, run) if each.ended == "late"]
    assert [each.requests for each in late] == [2]
    assert found.wasted["late"].cost
    assert found.whole.cost == whole, "it is told apart, and counted once"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_focus_rows_add_up_to_the_bill(finished: MakeSpace, tmp_path: Path, ending: str) -> None:
    workspace, _ = finished("truncate=3 missing=4")
    (run,) = workspace.ledger.runs()
    rows = focus_rows(charges(used_of(workspace.ledger, workspace.home, run), workspace.prices))
    path = tmp_path / f"bill.{ending}"
    write_focus(rows, path)
    if ending == "csv":
        with path.open(newline="") as file:
            read = list(csv.DictReader(file))
    else:
        read = pq.read_table(path).to_pylist()
    whole = _statement(workspace).whole
    assert sum(Decimal(row["BilledCost"]) for row in read) == whole.cost
    assert sum(Decimal(row["ListCost"]) for row in read) == whole.live
    assert sum(Decimal(row["PricingQuantity"]) for row in read) == whole.tokens
    batches = {batch.id for batch in workspace.ledger.batches(run.id)}
    assert {row["ResourceId"] for row in read} == batches
    for row in read:
        assert Decimal(row["PricingQuantity"]) * Decimal(row["ContractedUnitPrice"]) == Decimal(
            row["ContractedCost"]
        )
