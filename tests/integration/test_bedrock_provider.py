"""Whole runs on Bedrock's counterpart: what only this provider makes difficult."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from dialect_desk import Desk, shouted, upper

from bulkrate.core.run_states import RunState
from bulkrate.errors import ConfigError, RequestRefused
from bulkrate.pipeline.report import report
from bulkrate.testing import FakeClock
from bulkrate.testing.pytest_plugin import ProviderFactory

NOVA = "bedrock/us.amazon.nova-lite-v1:0"
CLAUDE = "bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0"
LLAMA = "bedrock/us.meta.llama3-3-70b-instruct-v1:0"
LABELS = ("billing", "delivery", "other")
ROWS = 120
UPPER = shouted(ROWS)


@pytest.fixture
def desk_for(tmp_path: Path, misbehaving_provider: ProviderFactory, fake_clock: FakeClock) -> Any:
    def make(
        faults: str = "", *, rows: int = ROWS, env: dict[str, str] | None = None, **options: Any
    ) -> Desk:
        options = {"dialect": "bedrock", "answer": upper, **options}
        provider = misbehaving_provider(faults, now=fake_clock.now, **options)
        return Desk(tmp_path, provider, fake_clock, model=NOVA, rows=rows, env=env)

    return make


# -- the least size of a batch -----------------------------------------------------------------------------


def test_a_small_rest_goes_live_and_is_billed_as_such(desk_for: Any) -> None:
    desk: Desk = desk_for("missing=3")
    found = desk.run()
    assert (found["rows"]["succeeded"], desk.answers()) == (ROWS, UPPER)
    assert desk.sizes() == [ROWS]
    assert desk.provider.snapshot()["events"]["answer_done"] == 3
    assert any(
        "at least 100 requests: fewer, sent again, go live" in note for note in found["quote"]["notes"]
    )
    with desk.begun() as (space, run):
        assert {record.lane for record in space.ledger.usage(run)} == {"batch", "live"}


def test_few_rows_make_no_batch_at_all(desk_for: Any) -> None:
    desk: Desk = desk_for(rows=7)
    found = desk.run()
    assert found["rows"]["succeeded"] == 7
    assert desk.provider.meter.batches_created == 0
    assert "7 rows are too few for a batch of at least 100: they go live" in found["quote"]["notes"]


@pytest.mark.parametrize(("rows", "sizes"), [(310, [105, 205]), (250, [100, 150])])
def test_a_last_batch_is_filled_up_from_the_one_before(desk_for: Any, rows: int, sizes: list[int]) -> None:
    desk: Desk = desk_for(rows=rows, env={"BULKRATE_LIMITS__REQUESTS": "205"})
    assert desk.run()["rows"]["succeeded"] == rows
    assert sorted(desk.sizes()) == sizes


def test_without_a_bucket_a_batch_is_not_sent_and_a_few_rows_are(desk_for: Any) -> None:
    desk: Desk = desk_for(env={"BULKRATE_BEDROCK_S3": ""})
    with pytest.raises(ConfigError, match="BULKRATE_BEDROCK_S3 is not set"):
        desk.run()
    assert desk.provider.meter.uploads == 0
    shutil.rmtree(desk.folder / ".bulkrate")  # that run had a yes for batches
    assert desk.run(desk.job(lane="live"))["rows"]["succeeded"] == ROWS


# -- bodies and forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [NOVA, CLAUDE, LLAMA])
def test_labels_by_tool_by_schema_and_in_words(desk_for: Any, model: str) -> None:
    def answer(body: Any) -> str:
        label = LABELS[len(upper(body)) % 3]
        return json.dumps({"label": label}) if "response_format" in body else f" {label}\n"

    desk: Desk = desk_for(answer=answer)
    desk.run(desk.job(model=model, output={"choice": list(LABELS)}))
    assert desk.answers() == [LABELS[len(text) % 3] for text in UPPER]


@pytest.mark.parametrize("model", [NOVA, CLAUDE, LLAMA])
def test_json_and_a_repair_on_the_live_lane(desk_for: Any, model: str) -> None:
    schema = {"type": "object", "properties": {"why": {"type": "string"}}, "required": ["why"]}
    faults = "" if model == LLAMA else "bad_json=2"  # in words, nobody can tell a structured answer
    desk: Desk = desk_for(faults, answer=lambda body: json.dumps({"why": upper(body)}))
    assert desk.run(desk.job(model=model, output={"json_schema": schema}))["rows"]["succeeded"] == ROWS
    assert desk.answers() == [{"why": text} for text in UPPER]


def test_images_that_differ_from_row_to_row(desk_for: Any) -> None:
    parts = [{"text": "{{ body }}"}, {"image": "{{ image }}"}]
    desk: Desk = desk_for()
    with desk.begun(desk.job(messages=[{"role": "user", "content": parts}])) as (space, run):
        anyio.run(lambda: space.advance(run, poll_s=60, until_submitted=True))
        (file,) = desk.provider.state.files.values()
        sent = json.loads(next(file.blob.lines()))["modelInput"]["messages"][0]["content"][1]
        anyio.run(lambda: space.advance(run, poll_s=60))
    assert sent == {"image": {"format": "png", "source": {"bytes": "iVBORw=="}}}
    assert desk.answers() == UPPER


def test_truncated_rows_come_again_with_more_room(desk_for: Any) -> None:
    desk: Desk = desk_for("truncate=3")
    assert desk.run(desk.job(model=CLAUDE))["rows"]["succeeded"] == ROWS
    assert desk.answers() == UPPER


# -- doubt -------------------------------------------------------------------------------------------------

DOUBTS = {
    "its answer is lost": "create_unanswered=1",
    "it never arrives": "create_unanswered=1,when=before",
    "it is cut after its effect": "create_cut=1",
    "it is cut before": "create_cut=1,when=before",
    "it comes very late": "late_create=1,calls=6",
    "it comes when the second has gone": "late_create=1,calls=9",
    "others have nearly our name": "create_cut=1 lookalikes=2",
    "the listing lags": "create_cut=1 list_lag=2",
    "a proxy says 502": "create_error=1,status=502,when=after",
}


@pytest.mark.parametrize("case", DOUBTS)
def test_a_create_in_doubt_makes_one_batch(desk_for: Any, case: str) -> None:
    env = {"BULKRATE_LIMITS__CREATE_TIMEOUT_S": "0.3", "BULKRATE_LIMITS__LISTING_LAG_S": "60"}
    desk: Desk = desk_for(DOUBTS[case], env=env)
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert desk.answers() == UPPER
    assert desk.provider.meter.rows_accepted == ROWS


def test_a_create_that_the_service_forgot_to_refuse_is_the_same_job(desk_for: Any) -> None:
    """The input is deleted, the create comes late all the same and is accepted: the token makes them one."""
    desk: Desk = desk_for("create_cut=1 list_lag=9")
    found = desk.run()
    assert found["rows"]["succeeded"] == ROWS
    assert (desk.provider.meter.rows_accepted, desk.provider.meter.batches_created) == (ROWS, 1)


def test_quotas_are_waited_for_and_use_up_no_attempt(desk_for: Any) -> None:
    desk: Desk = desk_for("create_429=3 upload_429=2 token_queue=1000,at=create", rows=240)
    desk.env["BULKRATE_LIMITS__REQUESTS"] = "120"
    assert desk.run()["rows"]["succeeded"] == 240
    assert desk.provider.meter.rows_accepted == 240


# -- ends --------------------------------------------------------------------------------------------------


def test_what_a_batch_that_ran_out_of_time_has_answered_is_kept(desk_for: Any) -> None:
    desk: Desk = desk_for("expire_after=15")
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert desk.provider.meter.rows_accepted == 2 * ROWS - 15
    assert [batch["word"] for batch in words(desk)] == ["PartiallyCompleted", "Completed"]


def test_a_batch_that_never_began_is_sent_again(desk_for: Any) -> None:
    desk: Desk = desk_for("expire_after=0")
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert [batch["word"] for batch in words(desk)] == ["Expired", "Completed"]


def words(desk: Desk) -> list[dict[str, Any]]:
    with desk.begun() as (space, run):
        return [{"word": batch.word} for batch in space.ledger.batches(run)]


def test_cancelling_keeps_what_was_answered(desk_for: Any) -> None:
    desk: Desk = desk_for("stuck=1,done=40 slow_cancel=2")
    with desk.begun() as (space, run):
        anyio.run(lambda: space.advance(run, poll_s=60, until_submitted=True))
        anyio.run(lambda: space.advance(run, poll_s=60, timeout_s=240))
        space.cancel(run)
        done = anyio.run(lambda: space.advance(run, poll_s=60))
        rows = report(space.ledger, done)["rows"]
    assert (rows["succeeded"], rows["failed"]) == (40, ROWS - 40)


def test_a_refused_job_tells_why_and_a_retry_after_mending_it_works(desk_for: Any) -> None:
    """Also on an empty disk: the failed job has the name and the token for ever, and the next has another."""
    desk: Desk = desk_for()
    given = desk.provider.state.limits
    desk.provider.state.limits = replace(given, min_requests=500)
    found = desk.run()
    assert (found["rows"]["failed"], found["failures"]) == (ROWS, {"bad_request": ROWS})
    first = json.loads((desk.folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert "fewer records (120) than the required minimum of 500" in first["error"]["message"]
    desk.provider.state.limits = given
    shutil.rmtree(desk.folder / ".bulkrate")
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert desk.provider.meter.rows_accepted == ROWS


def test_the_state_directory_is_lost_in_the_middle(desk_for: Any) -> None:
    desk: Desk = desk_for(rows=300, env={"BULKRATE_LIMITS__REQUESTS": "100"})
    with desk.begun() as (space, run):
        anyio.run(lambda: space.advance(run, poll_s=60, until_submitted=True))
    desk.provider.advance()
    shutil.rmtree(desk.folder / ".bulkrate")
    assert desk.run()["rows"]["succeeded"] == 300
    assert (desk.provider.meter.rows_accepted, desk.sizes()) == (300, [100, 100, 100])


def test_slices_of_a_lost_ledger_are_found_by_their_names(desk_for: Any) -> None:
    desk: Desk = desk_for(rows=400, env={"BULKRATE_LIMITS__MIN_REQUESTS": "1"})
    with desk.begun() as (space, run):
        with space.ledger.transaction("test") as tx:
            tx.set_run(run, queued_tokens=500)  # learned from a refusal, say
        anyio.run(lambda: space.advance(run, poll_s=60, timeout_s=300))
    assert desk.provider.meter.batches_created > 1
    before = desk.provider.meter.rows_accepted
    assert before < 400
    shutil.rmtree(desk.folder / ".bulkrate")
    assert desk.run()["rows"]["succeeded"] == 400
    assert desk.provider.meter.rows_accepted == 400


def test_a_wrong_role_is_an_error_with_a_hint_and_no_batch(desk_for: Any) -> None:
    desk: Desk = desk_for(env={"BULKRATE_BEDROCK_KMS_KEY": "no such key"})
    desk.provider.set_faults("create_error=9,status=400")
    with pytest.raises(RequestRefused):
        desk.run()
    assert desk.provider.meter.batches_created == 0
    with desk.begun() as (space, run):
        assert space.run(run).state is RunState.ACTIVE


# -- what is left behind -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep", "left"), [("none", 0), ("results", 2), ("all", 3)])
def test_what_stays_in_the_bucket(desk_for: Any, keep: str, left: int) -> None:
    desk: Desk = desk_for()
    desk.run(desk.job(keep_remote=keep))
    assert len(desk.provider.snapshot()["files"]) == left


def test_the_secret_is_nowhere(desk_for: Any) -> None:
    desk: Desk = desk_for("create_error=2,status=502 status_503=2 download_cut=1")
    desk.run()
    secret = desk.env["AWS_SECRET_ACCESS_KEY"].encode()
    files = [path for path in desk.folder.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert not [path for path in files if secret in path.read_bytes()]
