"""`bulkrate.run` from a script, from a notebook's running loop, and from async code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from command_line import KEY, MODEL, QUICK, CommandLine

import bulkrate
from bulkrate.errors import Refused
from bulkrate.testing import MisbehavingProvider

Options = Callable[[MisbehavingProvider], dict[str, Any]]


@pytest.fixture
def provider() -> Iterator[MisbehavingProvider]:
    with MisbehavingProvider("bad_rows=2", seed=7, api_key=KEY) as provider:
        yield provider


@pytest.fixture
def options(provider: MisbehavingProvider, tmp_path: Path) -> dict[str, Any]:
    env = {"OPENAI_BASE_URL": provider.base_url, "OPENAI_API_KEY": KEY, **QUICK}
    return {"env": env, "home": tmp_path / "state", "poll_s": 0.02}


@pytest.fixture
def job(tmp_path: Path) -> bulkrate.Job:
    CommandLine(tmp_path).tickets(20)
    return bulkrate.Job.create(
        name="tickets",
        source={"path": "tickets.csv", "key": "id"},
        request={"model": MODEL, "prompt": "{{ text }}", "max_output_tokens": 20},
        base=tmp_path,
    )


def test_a_run_and_its_results(
    job: bulkrate.Job, options: dict[str, Any], provider: MisbehavingProvider
) -> None:
    run = bulkrate.run(job, yes=True, **options)
    assert run.state == "finished"
    assert run.rows == bulkrate.RowCounts(20, 18, 2, 0, 0)
    assert run.exit_code == 1
    assert run.report()["failures"] == {"bad_request": 2}
    assert run.quote is not None and run.quote.rows == 20
    assert run.bill.batch is not None

    table = pa.table(run.results())
    assert table["id"].to_pylist() == [f"t{number}" for number in range(20)]
    assert table.schema == run.results().schema
    assert table.schema.names == [
        "id",
        "status",
        "output",
        "error",
        "finish_reason",
        "model",
        "input_tokens",
        "output_tokens",
        "attempts",
    ]
    assert table.schema.field("error").type == pa.struct([("class", pa.string()), ("message", pa.string())])
    assert sorted(table["status"].to_pylist()) == ["failed"] * 2 + ["succeeded"] * 18
    assert [row["output"] for row in run.results()] == table["output"].to_pylist()
    assert "<td" in run._repr_html_() and run.id in run._repr_html_()
    assert "18 succeeded, 2 failed" in repr(run)

    # The same again is the same run.
    again = bulkrate.run(job, **options)
    assert again.id == run.id
    assert provider.meter.rows_accepted == 20


def test_without_a_yes_the_quote_is_in_the_refusal(
    job: bulkrate.Job, options: dict[str, Any], provider: MisbehavingProvider
) -> None:
    with pytest.raises(Refused, match=r"20 rows with \d+ input tokens .* at most 0\.\d+ USD, prices of 20"):
        bulkrate.run(job, **options)
    with pytest.raises(Refused, match="over the limit"):
        bulkrate.run(job, yes=True, max_cost="0.0000001", **options)
    assert provider.meter.uploads == 0


def test_inside_a_running_loop(job: bulkrate.Job, options: dict[str, Any]) -> None:
    async def cell() -> bulkrate.Run:
        return bulkrate.run(job, yes=True, **options)

    assert asyncio.run(cell()).rows.succeeded == 18


def test_from_async_code(job: bulkrate.Job, options: dict[str, Any]) -> None:
    async def main() -> bulkrate.Run:
        return await bulkrate.arun(job, yes=True, **options)

    assert asyncio.run(main()).rows.succeeded == 18


def test_a_run_that_is_late_is_returned_unfinished(
    job: bulkrate.Job, options: dict[str, Any], provider: MisbehavingProvider
) -> None:
    provider.set_faults("stuck=1")
    late = bulkrate.run(job, yes=True, timeout_s=0.1, **options)
    assert (late.state, late.exit_code) == ("active", 3)
    assert late.rows.pending == 20
    assert {row["status"] for row in late.results()} == {"pending"}
    provider.advance()
    assert bulkrate.run(job, **options).exit_code == 0
    assert late.state == "finished", "a run tells how it stands now"


def test_a_job_file_by_path(options: dict[str, Any], tmp_path: Path) -> None:
    path = CommandLine(tmp_path).tickets(3)
    run = bulkrate.run(path, yes=True, **options)
    assert run.rows.total == 3
    assert (tmp_path / "answers.jsonl").exists()


def test_a_plan_with_a_pilot_and_a_run_of_it(
    job: bulkrate.Job, options: dict[str, Any], provider: MisbehavingProvider
) -> None:
    provider.set_faults("")
    with pytest.raises(Refused, match="not approved: 10 rows"):
        bulkrate.plan(job, pilot=10, **options)
    plan = bulkrate.plan(job, ["openai/gpt-5-mini"], pilot=10, yes=True, **options)
    assert (plan.rows["to_send"], plan.own.output.basis) == (10, "pilot")
    shown = plan._repr_html_()
    assert "openai/gpt-5-mini" in shown
    assert "10 answered by the pilot" in shown
    assert bulkrate.run(plan, yes=True, **options).rows.succeeded == 20
    assert provider.meter.rows_accepted == 20
