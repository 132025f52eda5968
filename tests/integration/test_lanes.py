"""The flex and live lanes, the rescue before a deadline, and the canary, by whole runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from live_app import LiveProvider, serving

from bulkrate.core.run_states import RunState
from bulkrate.errors import CanaryFailed, Refused
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import exit_code, report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import FakeClock, MisbehavingProvider

ROWS = 40


def write(folder: Path, rows: int = ROWS, series: str = "T") -> None:
    lines = [json.dumps({"id": f"{series}-{n}", "body": f"ticket {n}"}) for n in range(rows)]
    (folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")


def job(folder: Path, **fields: Any) -> Any:
    document = {
        "name": "lanes",
        "source": {"path": "rows.jsonl", "key": "id"},
        "request": {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 20},
        "sink": {"path": "answers.jsonl"},
        **fields,
    }
    return load_job_mapping(document, folder)


def workspace(folder: Path, base_url: str, clock: Any = None, **limits: str) -> Workspace:
    env = {"OPENAI_API_KEY": "sk-test", "OPENAI_BASE_URL": base_url}
    env |= {f"BULKRATE_LIMITS__{name.upper()}": value for name, value in limits.items()}
    return Workspace(Home.find(folder, env={}), env=env, clock=clock)


def run(space: Workspace, declared: Any, max_cost: Decimal | None = None) -> dict[str, Any]:
    prepared = space.prepare(declared)
    prepared = space.approve(prepared, decide=lambda quote: True, max_cost=max_cost)
    done = anyio.run(lambda: space.advance(prepared.id, poll_s=0.01))
    return report(space.ledger, done)


def answers(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture
def fake_clock() -> FakeClock:
    """A day on which batch rates are published."""
    return FakeClock(datetime(2026, 11, 24, tzinfo=UTC))


@pytest.fixture
def live() -> Iterator[LiveProvider]:
    with serving(LiveProvider()) as provider:
        yield provider


def test_live_answers_every_row_once_and_in_order(tmp_path: Path, live: LiveProvider) -> None:
    write(tmp_path)
    live.refuse_first = 3
    result = run(workspace(tmp_path, live.base_url), job(tmp_path, lane="live"))
    assert result["rows"]["succeeded"] == ROWS
    assert [line["output"] for line in answers(tmp_path)] == [f"TICKET {n}" for n in range(ROWS)]
    assert set(live.answered.values()) == {1}
    assert live.refused == 3
    assert live.most_at_once > 1
    assert result["possibly_billed"] == 0
    assert result["quote"]["lane"] == "live"


def test_flex_asks_for_the_discounted_tier(tmp_path: Path, live: LiveProvider) -> None:
    write(tmp_path)
    assert run(workspace(tmp_path, live.base_url), job(tmp_path, lane="flex"))["rows"]["succeeded"] == ROWS
    assert live.tiers == {"flex": ROWS}


def test_a_bad_row_fails_alone(tmp_path: Path, live: LiveProvider) -> None:
    write(tmp_path)
    live.bad = "ticket 7"
    result = run(workspace(tmp_path, live.base_url), job(tmp_path, lane="live"))
    assert result["failures"] == {"bad_request": 1}
    assert "no such thing" in answers(tmp_path)[7]["error"]["message"]


def test_an_answer_that_never_came_is_asked_again_and_said(tmp_path: Path, live: LiveProvider) -> None:
    write(tmp_path, 5)
    live.hang_first = 1
    result = run(workspace(tmp_path, live.base_url, answer_timeout_s="0.5"), job(tmp_path, lane="live"))
    assert result["rows"]["succeeded"] == 5
    assert sorted(live.answered.values()) == [1, 1, 1, 1, 2]
    assert result["possibly_billed"] == 1


def test_a_cancel_ends_the_sending_and_keeps_what_was_answered(tmp_path: Path, live: LiveProvider) -> None:
    write(tmp_path, 400)
    space, other = workspace(tmp_path, live.base_url), workspace(tmp_path, live.base_url)
    begun = space.approve(space.prepare(job(tmp_path, lane="live")), decide=lambda quote: True)

    def change() -> None:
        if live.answered.total() > 20:
            other.cancel(begun.id)

    ended = anyio.run(lambda: space.advance(begun.id, on_change=change))
    result = report(space.ledger, ended)
    assert result["rows"]["succeeded"] == live.answered.total() < 100
    assert result["failures"] == {"cancelled": 400 - live.answered.total()}
    assert result["possibly_billed"] == 0


def test_a_time_limit_holds_while_single_calls_are_made(
    tmp_path: Path, live: LiveProvider, fake_clock: Any
) -> None:
    write(tmp_path, 200)
    space = workspace(tmp_path, live.base_url, fake_clock)
    begun = space.approve(space.prepare(job(tmp_path, lane="live")), decide=lambda quote: True)
    calls = []
    for limit_s in (5, 0, 60, None):
        ended = anyio.run(
            lambda limit_s=limit_s: space.advance(
                begun.id, timeout_s=limit_s, on_change=lambda: fake_clock.advance(1)
            )
        )
        calls.append(live.answered.total() - sum(calls))
        assert exit_code(space.ledger, ended, max_failed=0) == (0 if limit_s is None else 3)
    # What was under way at the limit is answered and kept: at most as many calls as there are slots.
    assert [5 <= calls[0] <= 20, 1 <= calls[1] <= 8, 60 <= calls[2] <= 130] == [True] * 3
    result = report(space.ledger, ended)
    assert (result["rows"]["succeeded"], set(live.answered.values())) == (200, {1})
    assert result["possibly_billed"] == 0
    (shard,) = space.ledger.shards(begun.id)
    told = [json.loads(event.detail_json or "") for event in space.ledger.events(begun.id, kind="answered")]
    assert [each["requests"] for each in told] == calls
    assert {each["lane"] for each in told} == {"live"}
    assert shard.requests == 200


def test_a_pause_does_not_outlast_a_time_limit(tmp_path: Path, live: LiveProvider, fake_clock: Any) -> None:
    write(tmp_path, 3)
    live.refuse_first, live.retry_after_s = 3, 7200
    space = workspace(tmp_path, live.base_url, fake_clock)
    begun = space.approve(space.prepare(job(tmp_path, lane="live")), decide=lambda quote: True)
    began_at = fake_clock.now()
    anyio.run(lambda: space.advance(begun.id, timeout_s=7))
    assert fake_clock.now() - began_at == timedelta(seconds=7)
    assert live.refused == 3
    anyio.run(lambda: space.advance(begun.id))
    assert report(space.ledger, space.run(begun.id))["rows"]["succeeded"] == 3


class Passing(FakeClock):
    """Time passes whenever somebody looks."""

    def now(self) -> datetime:
        self.advance(2)
        return super().now()


def test_a_tick_makes_single_calls_for_a_while_and_the_next_goes_on(
    tmp_path: Path, live: LiveProvider
) -> None:
    write(tmp_path, 200)
    space = workspace(tmp_path, live.base_url, Passing(datetime(2026, 11, 24, tzinfo=UTC)))
    begun = space.approve(space.prepare(job(tmp_path, lane="live")), decide=lambda quote: True)
    made = []
    while space.run(begun.id).state is not RunState.FINISHED:
        anyio.run(space.tick)
        made.append(live.answered.total() - sum(made))
        assert len(made) < 20
    assert len(made) > 2
    assert min(made[:-1]) >= 5
    assert set(live.answered.values()) == {1}
    assert report(space.ledger, space.run(begun.id))["rows"]["succeeded"] == 200


def test_a_call_that_never_ends_is_not_made_again_with_every_tick(tmp_path: Path, live: LiveProvider) -> None:
    write(tmp_path, 1)
    live.hang_first = 100
    space = workspace(tmp_path, live.base_url, answer_timeout_s="0.05")
    begun = space.approve(space.prepare(job(tmp_path, lane="live", attempts=1)), decide=lambda quote: True)
    for _ in range(20):
        ended = anyio.run(lambda: space.advance(begun.id, timeout_s=0))
    assert ended.state is RunState.FINISHED
    assert report(space.ledger, ended)["failures"] == {"transient": 1}
    assert live.answered.total() == 8


def test_a_pause_longer_than_the_lease_keeps_the_lease(tmp_path: Path, live: LiveProvider) -> None:
    class Watch(FakeClock):
        async def sleep(self, seconds: float) -> None:
            await super().sleep(seconds)
            until_at = space.run(begun.id).lease_until_at
            assert until_at is not None
            assert until_at > self.now()

    write(tmp_path, 1)
    live.refuse_first, live.retry_after_s = 1, 7200
    space = workspace(tmp_path, live.base_url, Watch(datetime(2026, 11, 24, tzinfo=UTC)))
    begun = space.approve(space.prepare(job(tmp_path, lane="live")), decide=lambda quote: True)
    anyio.run(lambda: space.advance(begun.id))
    assert live.answered.total() == 1


@pytest.mark.parametrize(
    ("odd", "output"),
    [
        (r'"half \ud83d"', "half \ufffd"),
        (f'"big", "refusal": null, "n": {10**30}', "big"),
        (f'"deep", "n": {"[" * 300 + "]" * 300}', None),
    ],
    ids=["half a character", "a number too big", "nested too deep"],
)
def test_an_answer_that_cannot_be_written_as_it_came(
    tmp_path: Path, live: LiveProvider, odd: str, output: str | None
) -> None:
    write(tmp_path, 8)
    live.odd = odd
    result = run(workspace(tmp_path, live.base_url), job(tmp_path, lane="live", attempts=1))
    assert answers(tmp_path)[3]["output"] == output
    assert result["rows"]["succeeded"] == (7 if output is None else 8)
    assert live.answered.total() == 8


def test_answers_outlive_a_lost_ledger_and_never_join_other_rows(tmp_path: Path, live: LiveProvider) -> None:
    write(tmp_path)
    for requests, asked in ((15, ROWS), (15, ROWS), (10, 2 * ROWS)):  # packed alike, then otherwise
        run(workspace(tmp_path, live.base_url, requests=str(requests)), job(tmp_path, lane="live"))
        assert [line["output"] for line in answers(tmp_path)] == [f"TICKET {n}" for n in range(ROWS)]
        assert live.answered.total() == asked
        for path in (tmp_path / ".bulkrate").glob("ledger.sqlite*"):
            path.unlink()


def test_a_broken_job_stops_at_its_canary(tmp_path: Path, misbehaving_provider: Any) -> None:
    provider = misbehaving_provider("bad_rows=6")
    write(tmp_path, 200)
    space = workspace(tmp_path, provider.base_url)
    space.env["OPENAI_API_KEY"] = provider.api_key
    with pytest.raises(CanaryFailed, match=r"6 of 20 rows.*Invalid request for this model.*it cost 0\."):
        run(space, job(tmp_path, canary={"rows": 20, "max_failed": 0.1}))
    assert provider.meter.rows_accepted == 20


def test_a_healthy_canary_lets_the_rest_go(tmp_path: Path, misbehaving_provider: Any) -> None:
    provider = misbehaving_provider("bad_rows=1")
    write(tmp_path, 200)
    space = workspace(tmp_path, provider.base_url)
    space.env["OPENAI_API_KEY"] = provider.api_key
    result = run(space, job(tmp_path, canary={"rows": 20, "max_failed": 0.1}))
    assert [batch["requests"] for batch in result["batches"]] == [20, 180]
    assert result["rows"]["succeeded"] == 199


def rescued(
    folder: Path,
    clock: Any,
    faults: str,
    *,
    max_cost: Decimal | None = None,
    series: str = "T",
) -> tuple[dict[str, Any], MisbehavingProvider, LiveProvider]:
    """A run whose batch is stuck, with a deadline in half an hour and a live endpoint beside."""
    write(folder, series=series)
    batch = MisbehavingProvider(faults, now=clock.now)
    with serving(LiveProvider(batch=batch.app)) as live:
        space = workspace(folder, live.base_url, clock, cancel_latency_s="600", answers_per_s="1")
        space.env["OPENAI_API_KEY"] = batch.api_key
        declared = job(folder, lane={"deadline": "30m", "rescue": "live", "poll": 60})
        prepared = space.prepare(declared)
        prepared = space.approve(prepared, decide=lambda quote: True, max_cost=max_cost)
        done = anyio.run(lambda: space.advance(prepared.id, timeout_s=3600))
        return report(space.ledger, done), batch, live


def test_a_stuck_batch_is_left_in_time_and_only_the_rest_is_sent_again(
    tmp_path: Path, fake_clock: Any
) -> None:
    began_at = fake_clock.now()
    result, batch, live = rescued(tmp_path, fake_clock, "stuck=1,done=15")
    assert result["state"] == RunState.FINISHED
    assert result["rows"]["succeeded"] == ROWS
    assert batch.meter.rows_billed == 15
    assert sum(live.answered.values()) == ROWS - 15
    assert set(live.answered.values()) == {1}
    # Cancel latency of 10 minutes and 25 rows at one a second: not before it must, and not too late.
    assert timedelta(minutes=15) < fake_clock.now() - began_at <= timedelta(minutes=30)


def test_a_stuck_batch_that_has_answered_all_is_cancelled_in_time_too(
    tmp_path: Path, fake_clock: Any
) -> None:
    """Nothing is left by its own word, but nothing is here either."""
    began_at = fake_clock.now()
    result, batch, live = rescued(tmp_path, fake_clock, f"stuck=1,done={ROWS},phase=finalizing")
    assert (result["state"], result["rows"]["succeeded"]) == (RunState.FINISHED, ROWS)
    assert (batch.meter.rows_billed, sum(live.answered.values())) == (ROWS, 0)
    assert fake_clock.now() - began_at <= timedelta(minutes=30)


def test_a_batch_that_is_in_time_is_left_alone(tmp_path: Path, fake_clock: Any) -> None:
    result, batch, live = rescued(tmp_path, fake_clock, "")
    assert result["rows"]["succeeded"] == ROWS
    assert batch.meter.rows_billed == ROWS
    assert not live.answered


def test_the_pace_of_an_earlier_run_tells_when_to_leave(tmp_path: Path, fake_clock: Any) -> None:
    """Configured is one answer a second; calls of the job took four each when they were last made."""
    write(tmp_path, 100)
    with serving(LiveProvider()) as live:
        space = workspace(tmp_path, live.base_url, fake_clock)
        slow = space.approve(space.prepare(job(tmp_path, lane="live")), decide=lambda quote: True)
        anyio.run(lambda: space.advance(slow.id, on_change=lambda: fake_clock.advance(4)))
    began_at = fake_clock.now()
    result, _, live = rescued(tmp_path, fake_clock, "stuck=1,done=15", series="U")
    assert (result["rows"]["succeeded"], sum(live.answered.values())) == (ROWS, ROWS - 15)
    (left,) = space.ledger.events(result["run"], kind="rescue")
    # 25 rows at one in four seconds and some, after ten minutes for the cancel; polls come every minute.
    needs = timedelta(seconds=600 + 1.15 * 25 * 4)
    assert needs <= began_at + timedelta(minutes=30) - left.at <= needs + timedelta(seconds=75)


def test_a_rescue_that_costs_more_than_was_approved_does_not_happen(tmp_path: Path, fake_clock: Any) -> None:
    # One row's ceiling on the live lane is more than this.
    with pytest.raises(Refused):
        rescued(tmp_path, fake_clock, "stuck=1", max_cost=Decimal("0.0000001"))
    # Enough for the batch; the live lane would take nearly twice as much.
    result, _, live = rescued(tmp_path, fake_clock, "stuck=1,done=5", max_cost=Decimal("0.0003"))
    assert result["state"] == RunState.ACTIVE
    assert not live.answered


@contextmanager
def beside_batches(
    folder: Path, faults: str = "", **limits: str
) -> Iterator[tuple[Workspace, MisbehavingProvider, LiveProvider]]:
    """A workspace over a provider that has both, batches and a live endpoint."""
    batch = MisbehavingProvider(faults)
    with serving(LiveProvider(batch=batch.app)) as live:
        space = workspace(folder, live.base_url, listing_lag_s="0", **limits)
        space.env["OPENAI_API_KEY"] = batch.api_key
        yield space, batch, live


def test_rows_too_few_for_a_batch_go_live_at_the_live_price(tmp_path: Path) -> None:
    write(tmp_path)
    with beside_batches(tmp_path, min_requests="100") as (space, batch, live):
        quote = space.quote(space.prepare(job(tmp_path)))
        assert quote is not None
        assert quote.batch_max == quote.live_max
        assert "40 rows are too few for a batch of at least 100: they go live" in quote.notes
        result = run(space, job(tmp_path))
    assert result["rows"]["succeeded"] == ROWS
    assert set(live.answered.values()) == {1}
    assert batch.meter.batches_created == 0
    assert {record.lane for record in space.ledger.usage(result["run"])} == {"live"}


def test_only_what_is_left_over_goes_live(tmp_path: Path) -> None:
    write(tmp_path, 50)
    faults = "missing=3,billed=0"
    with beside_batches(tmp_path, faults, min_requests="10", requests="23") as (space, batch, live):
        result = run(space, job(tmp_path))
    assert result["rows"]["succeeded"] == 50
    # 23, 23 and 4 rows were no three batches: the second gives six away.
    assert [shard.requests for shard in space.ledger.shards(result["run"])] == [23, 17, 10, 3]
    assert sum(live.answered.values()) == 3
    assert batch.meter.rows_accepted == 50
    assert any("fewer, sent again, go live" in note for note in result["quote"]["notes"])


def test_a_rescue_by_flex_takes_the_small_rest_too(tmp_path: Path) -> None:
    write(tmp_path)
    with beside_batches(tmp_path, min_requests="100") as (space, _, live):
        run(space, job(tmp_path, lane={"deadline": "20h", "rescue": "flex"}))
    assert live.tiers == {"flex": ROWS}
