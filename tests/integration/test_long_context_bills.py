"""Bills where long requests cost more: each row by its own length, whatever else was in its batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from bulkrate.core.budget import Scope
from bulkrate.core.usage import Usage
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.report import bill_of
from bulkrate.pipeline.row_files import read_parquet
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pipeline.spending import spending_of, used_of
from bulkrate.pipeline.workspace import Workspace
from bulkrate.pricing import price
from bulkrate.pricing.charges import charges
from bulkrate.pricing.focus import focus_rows
from bulkrate.testing import FakeClock, MisbehavingProvider

DAY = datetime(2026, 11, 24, 9, tzinfo=UTC)
# Above 40 tokens a request costs ten times as much.
PRICES = """
[[price]]
model = "openai/gpt-4o-mini"
from = 2020-01-01
source = "a contract"
live = { input = 2, output = 2, steps = [{ over_tokens = 40, input = 20, output = 20 }] }
batch = { input = 1, output = 1, steps = [{ over_tokens = 40, input = 10, output = 10 }] }
"""

Finish = Callable[[str, list[int]], tuple[Workspace, RunRecord, MisbehavingProvider]]


@pytest.fixture
def finish(tmp_path: Path) -> Iterator[Finish]:
    """A finished run of rows with so many words each."""
    opened: list[Any] = []

    def run(faults: str, words: list[int]) -> tuple[Workspace, RunRecord, MisbehavingProvider]:
        provider = MisbehavingProvider(faults, seed=7)
        provider.start()
        (tmp_path / "rows.jsonl").write_text(
            "\n".join(
                json.dumps({"id": n, "body": f"{n} " + "word " * count}) for n, count in enumerate(words)
            )
        )
        (tmp_path / "prices.toml").write_text(PRICES)
        env = {
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
            "BULKRATE_LIMITS__LISTING_LAG_S": "0",
        }
        space = Workspace(Home.find(tmp_path, env={}), env=env, clock=FakeClock(DAY))
        opened.extend([space.close, provider.stop])
        request = {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 20}
        job = load_job_mapping(
            {
                "name": "mixed",
                "source": {"path": "rows.jsonl", "key": "id"},
                "request": request,
                "sink": {"path": "answers.jsonl"},
            },
            tmp_path,
        )
        prepared = space.approve(space.prepare(job), decide=lambda quote: True)
        return space, anyio.run(lambda: space.advance(prepared.id, poll_s=0.01)), provider

    yield run
    for close in opened:
        close()


def costs(space: Workspace, run: RunRecord) -> set[Decimal | None]:
    """The cost by everything that tells one: they must be the same."""
    found = spending_of(space.ledger, space.home, [run], space.prices, by=("ended",))
    bill = bill_of(space.ledger, run, space.prices)
    assert bill.live == found.whole.live
    held = space.ledger.held(run.id, DAY)[Scope.RUN]
    return {found.whole.cost, bill.cost, held.spent}


def test_a_batch_of_short_and_long_rows_is_billed_row_by_row(finish: Finish) -> None:
    space, run, _ = finish("", [5] * 20 + [120] * 3)
    rate = space.prices.rate("openai", "gpt-4o-mini", "batch", DAY)
    assert rate is not None
    path = RunFolder(space.home.run_dir(run.id)).outcomes_path(0)
    found = read_parquet(path, ["input_tokens", "output_tokens"]).to_pylist()
    outcomes = [Usage(row["input_tokens"], row["output_tokens"]) for row in found]
    assert len(outcomes) == 23
    assert {usage.input_tokens > 40 for usage in outcomes} == {True, False}
    assert sum(usage.input_tokens for usage in outcomes) < 40 * 23, "on average they are short"
    exact = sum((price(rate, usage) for usage in outcomes), Decimal(0))
    assert costs(space, run) == {exact}
    rows = focus_rows(charges(used_of(space.ledger, space.home, run), space.prices))
    prices = {(row["SkuPriceId"], row["ContractedUnitPrice"]) for row in rows}
    assert len(prices) == len({name for name, _ in prices}) == 4, "one price for one id"
    assert sum(row["BilledCost"] for row in rows) == exact
    space.recollect(run.id)
    assert costs(space, space.run(run.id)) == {exact}


def test_what_no_row_explains_is_as_long_as_the_rows_are(finish: Finish) -> None:
    space, run, provider = finish("missing=9", [5] * 30)
    meter = provider.meter
    short = Decimal(meter.billed_input_tokens + meter.billed_output_tokens) / 1_000_000
    assert costs(space, run) == {short}, "nine short rows together are no long one"
    (lost,) = [each for each in space.ledger.usage(run.id) if each.error == "unattributed"]
    assert (lost.over_tokens, lost.requests) == (0, 9)


def test_lost_rows_of_a_batch_of_long_ones_are_long(finish: Finish) -> None:
    space, run, provider = finish("missing=4", [120] * 12)
    meter = provider.meter
    long = Decimal(meter.billed_input_tokens + meter.billed_output_tokens) / 100_000
    assert costs(space, run) == {long}
