"""Whole runs against the misbehaving provider: moving sources, sinks, recollect, cancel, strays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from table_desk import ROWS, Desk

from bulkrate import signals
from bulkrate.core.run_states import RunState
from bulkrate.core.shard_states import ShardState
from bulkrate.datasets.sink import SinkError
from bulkrate.errors import Refused, RowsRejected
from bulkrate.jobs.load import openai_batch_job
from bulkrate.pipeline.report import exit_code, report


def test_a_finished_run_is_not_run_again(desk: Desk) -> None:
    desk.write(ROWS)
    first, second = desk.run(), desk.run()
    assert first["run"] == second["run"]
    assert desk.accepted() == 30


@pytest.mark.parametrize("include", ["key", "all"])
def test_a_line_inserted_during_the_run_joins_nothing_wrong(desk: Desk, include: str) -> None:
    desk.write(ROWS)
    moved = [*ROWS[:7], ("T-inserted", "somebody else"), *ROWS[7:]]
    result = desk.run(
        desk.job(sink={"path": "answers.jsonl", "include": include}), between=lambda: desk.write(moved)
    )
    answers = desk.answers()
    assert [line["id"] for line in answers] == [key for key, _ in ROWS]
    assert [line["output"] for line in answers] == [body.upper() for _, body in ROWS]
    assert result["source"] == {"changed": 0, "added": 1}


def test_an_edited_row_is_a_named_error_and_no_other_row_suffers(desk: Desk) -> None:
    desk.write(ROWS)
    edited = [("T-3", "something else")] + [row for row in ROWS if row[0] not in ("T-3", "T-9")]
    result = desk.run(between=lambda: desk.write(edited))
    answers = {line["id"]: line for line in desk.answers()}
    assert len(answers) == 30
    assert {key for key, line in answers.items() if line["status"] != "succeeded"} == {"T-3", "T-9"}
    assert answers["T-3"]["error"]["class"] == "source_changed"
    assert answers["T-3"]["output"] is None
    assert answers["T-9"]["error"]["class"] == "source_changed"
    assert result["failures"] == {"source_changed": 2}
    run = desk.workspace.run(result["run"])
    assert exit_code(desk.workspace.ledger, run, 0.0) == 1
    # The next run takes the difference: T-3 as it is now; nothing else is sent.
    assert desk.run()["requests"] == {"sent": 1}
    assert {line["id"]: line["output"] for line in desk.answers()}["T-3"] == "SOMETHING ELSE"


def test_results_are_read_whatever_became_of_the_source(desk: Desk) -> None:
    rows = [(f"T-{number}", f"ticket {number}") for number in range(1_200)]
    desk.write(rows)
    run = desk.run()["run"]
    desk.write([*rows[:900], ("T-900", "edited"), *rows[901:1_100], ("T-new", "brand new")])
    read = {row["id"]: row["status"] for block in desk.workspace.rows(run) for row in block}
    assert [key for key, status in read.items() if status == "failed"] == [
        "T-900",
        *(f"T-{number}" for number in range(1_100, 1_200)),
    ]
    assert len(read) == 1_200


def test_without_a_key_an_inserted_line_is_caught_too(desk: Desk) -> None:
    desk.write(ROWS)
    job = desk.job(source={"path": "rows.csv"})
    moved = [*ROWS[:7], ("T-inserted", "somebody else"), *ROWS[7:]]
    desk.run(job, between=lambda: desk.write(moved))
    answers = desk.answers()
    assert [line["status"] for line in answers[:7]] == ["succeeded"] * 7
    assert {line["error"]["class"] for line in answers[7:30]} == {"source_changed"}
    assert all(line["output"] is None for line in answers[7:30])


def test_rejected_rows_are_reported_and_the_others_go_on(desk: Desk) -> None:
    desk.write([("a", "fine"), ("a", "twice"), ("", "no key"), ("b", "   "), ("c", "fine too")])
    result = desk.run()
    assert result["rows"] == {"total": 5, "succeeded": 2, "failed": 0, "rejected": 3, "pending": 0}
    errors = [line["error"] and line["error"]["class"] for line in desk.answers()]
    assert errors == [None, "duplicate_key", "empty_key", "empty_prompt", None]
    assert "row 1" in desk.answers()[1]["error"]["message"]
    assert "rows.csv:4" in desk.answers()[2]["error"]["message"]


def test_on_rejected_fail_spends_nothing(desk: Desk) -> None:
    desk.write([("a", "fine"), ("a", "twice")])
    run = desk.workspace.prepare(desk.job(on_rejected="fail"))
    with pytest.raises(RowsRejected):
        desk.workspace.approve(run, decide=lambda quote: True)
    assert desk.accepted() == 0


def test_a_no_spends_nothing_and_a_later_yes_goes_on(desk: Desk) -> None:
    desk.write(ROWS)
    run = desk.workspace.prepare(desk.job())
    with pytest.raises(Refused):
        desk.workspace.approve(run, decide=lambda quote: False)
    assert desk.provider.meter.uploads == 0
    assert desk.run()["run"] == run.id


def test_recollect_gives_the_same_answers(tmp_path: Path, misbehaving_provider: Any) -> None:
    desk = Desk(tmp_path, misbehaving_provider("missing=3 bad_rows=2"))
    desk.write(ROWS)
    result = desk.run()
    before = (desk.folder / "answers.jsonl").read_bytes()
    balance = desk.workspace.ledger.balance(result["run"])
    (desk.folder / "answers.jsonl").unlink()
    for path in desk.workspace.home.run_dir(result["run"]).glob("outcomes/*.parquet"):
        path.unlink()
    desk.workspace.recollect(result["run"])
    assert (desk.folder / "answers.jsonl").read_bytes() == before
    assert desk.workspace.ledger.balance(result["run"]) == balance
    assert desk.accepted() == 33


def test_cancel_keeps_what_was_answered(tmp_path: Path, misbehaving_provider: Any, fake_clock: Any) -> None:
    desk = Desk(tmp_path, misbehaving_provider("stuck=1,done=12"), fake_clock)
    desk.write(ROWS)
    run = desk.workspace.prepare(desk.job())
    desk.workspace.approve(run, decide=lambda quote: True)
    waited = anyio.run(lambda: desk.workspace.advance(run.id, poll_s=10, timeout_s=55))
    assert waited.state == RunState.ACTIVE
    desk.workspace.cancel(run.id)
    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01))
    result = report(desk.workspace.ledger, desk.workspace.run(run.id))
    assert result["state"] == RunState.FINISHED
    assert result["rows"] == {"total": 30, "succeeded": 12, "failed": 18, "rejected": 0, "pending": 0}
    assert result["failures"] == {"cancelled": 18}
    assert desk.workspace.retry(run.id) == 18
    desk.run()
    assert desk.workspace.ledger.balance(run.id).succeeded == 30


def test_a_ready_made_openai_batch_runs_as_it_is(tmp_path: Path, misbehaving_provider: Any) -> None:
    desk = Desk(tmp_path, misbehaving_provider("missing=2"))
    lines = [
        {
            "custom_id": f"mine-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {
                "model": "gpt-4o-mini",
                "messages": [{"role": "user", "content": f"hello {number}"}],
                "max_tokens": 30,
                "logit_bias": {"50256": -100},
            },
        }
        for number in range(12)
    ]
    (tmp_path / "batch.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8"
    )
    result = desk.run(openai_batch_job(tmp_path / "batch.jsonl"))
    assert result["rows"]["succeeded"] == 12
    answers = [json.loads(line) for line in Path(result["sink"]).read_text(encoding="utf-8").splitlines()]
    assert [line["custom_id"] for line in answers] == [f"mine-{number}" for number in range(12)]


def test_rows_whose_batch_was_refused_for_others_have_used_up_no_attempt(desk: Desk) -> None:
    """The provider names a hundred bad lines at a time, and refuses the batch each time."""
    models = ["gpt-4o-mini" if number % 2 == 0 else "gpt-4o" for number in range(700)]
    lines = [
        {
            "custom_id": f"mine-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": f"hello {number}"}]},
        }
        for number, model in enumerate(models)
    ]
    path = desk.folder / "batch.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    result = desk.run(openai_batch_job(path))
    assert result["rows"]["succeeded"] == desk.accepted() == 350
    assert result["failures"] == {"bad_request": 350}


def test_an_empty_source_finishes(desk: Desk) -> None:
    desk.write([])
    assert desk.run()["rows"]["total"] == 0
    assert desk.answers() == []


def test_a_second_batch_of_one_create_call_is_cancelled_and_told(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    provider = misbehaving_provider("duplicate_create=1", polls=3)
    desk = Desk(tmp_path, provider, fake_clock)
    desk.write(ROWS)
    result = desk.run()
    assert result["rows"]["succeeded"] == 30
    assert provider.meter.rows_accepted == 60, "the provider's doing"
    assert result["possibly_billed"] == 30
    client = openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)
    assert sorted(batch.status for batch in client.batches.list()) == ["cancelling", "completed"]


def test_a_batch_that_never_ends_is_cancelled_when_it_is_overdue(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    """A state nobody knows is polled on, said once, and forced to its end when it should be over long ago."""
    provider = misbehaving_provider("stuck=1 unknown_status=3")
    desk = Desk(tmp_path, provider, fake_clock)
    desk.workspace.env["BULKRATE_LIMITS__OVERDUE_S"] = "1800"
    desk.write(ROWS)
    run = desk.workspace.approve(desk.workspace.prepare(desk.job()), decide=lambda quote: True)
    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=60))
    assert desk.workspace.ledger.balance(run.id).succeeded == 30
    kinds = [event.kind for event in desk.workspace.ledger.events(run.id)]
    assert kinds.count("unknown_status") == kinds.count("overdue") == 1


@pytest.mark.parametrize(("keep", "left"), [("all", 2), ("results", 1), ("none", 0)])
def test_what_stays_with_the_provider(
    tmp_path: Path, misbehaving_provider: Any, keep: str, left: int
) -> None:
    provider = misbehaving_provider()
    desk = Desk(tmp_path, provider)
    desk.write(ROWS)
    desk.run(desk.job(keep_remote=keep))
    client = openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)
    assert len(list(client.files.list())) == left


def test_answers_never_replace_the_source(desk: Desk) -> None:
    desk.write(ROWS)
    source = (desk.folder / "rows.csv").read_bytes()
    (desk.folder / "link.csv").symlink_to("rows.csv")
    for path in ("rows.csv", "link.csv"):
        with pytest.raises(SinkError, match="file of the source"):
            desk.run(desk.job(sink={"path": path}))
    run = desk.run()["run"]
    with pytest.raises(SinkError, match="file of the source"):
        desk.workspace.deliver(run, desk.folder / "rows.csv")
    assert (desk.folder / "rows.csv").read_bytes() == source


@pytest.mark.parametrize(
    "path",
    ["a.xyz", "folder", "folder.jsonl", "a.parquet.gz", "rows.csv/a.jsonl", "a\0.jsonl", "a" * 300 + ".csv"],
)
def test_a_sink_that_cannot_be_is_said_before_anything_is_paid_for(desk: Desk, path: str) -> None:
    desk.write(ROWS)
    (desk.folder / "folder.jsonl").mkdir()
    with pytest.raises(SinkError):
        desk.run(desk.job(sink={"path": path}))
    assert desk.accepted() == 0


def test_answers_that_a_pattern_takes_for_rows_are_not_sent(desk: Desk) -> None:
    (desk.folder / "rows.jsonl").write_text('{"body": "one"}\n{"body": "two"}\n', encoding="utf-8")
    job = desk.job(source={"path": "*.jsonl"})
    desk.run(job)
    with pytest.raises(SinkError, match="file of the source"):
        desk.run(job)
    assert desk.accepted() == 2


def test_a_lost_sink_is_written_again_and_nothing_is_sent(desk: Desk) -> None:
    desk.write(ROWS)
    desk.run()
    before = (desk.folder / "answers.jsonl").read_bytes()
    (desk.folder / "answers.jsonl").unlink()
    desk.run()
    assert (desk.folder / "answers.jsonl").read_bytes() == before
    assert desk.accepted() == 30


def test_a_job_alike_in_all_but_its_source_is_another_run(desk: Desk, fake_clock: Any) -> None:
    desk.write(ROWS)
    first = desk.workspace.prepare(desk.job())
    desk.workspace.approve(first, decide=lambda quote: True)
    (desk.folder / "other.csv").write_text("id,body\nX-1,another table\n", encoding="utf-8")
    other = desk.workspace.prepare(desk.job(source={"path": "other.csv", "key": "id"}))
    assert other.id != first.id
    assert other.rows == 1


def test_result_files_that_are_gone_make_their_rows_missing(
    tmp_path: Path, misbehaving_provider: Any
) -> None:
    provider = misbehaving_provider()
    desk = Desk(tmp_path, provider)
    desk.write(ROWS)
    run = desk.workspace.prepare(desk.job())
    desk.workspace.approve(run, decide=lambda quote: True)
    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01, until_submitted=True))
    batch = desk.workspace.ledger.batches(run.id)[0]
    client = openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)
    provider.advance(steps=10)
    client.files.delete(client.batches.retrieve(batch.id).output_file_id or "")
    assert desk.run()["rows"]["succeeded"] == 30
    assert desk.accepted() == 60


def test_a_download_longer_than_the_lease_keeps_the_lease(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    desk = Desk(tmp_path, misbehaving_provider(now=fake_clock.now), fake_clock)
    desk.write(ROWS)
    moments: list[str] = []

    def listener(moment: str) -> None:
        moments.append(moment)
        if moment == "download.before":
            fake_clock.advance(400)  # more than half of the lease

    signals.listen(listener)
    try:
        desk.run()
    finally:
        signals.listen(None)
    began = moments.index("download.before")
    assert moments[began + 1 : began + 3] == ["ledger.renew.before", "ledger.renew.after"]


def test_a_result_file_is_not_given_up_because_nobody_could_be_asked_for_it(
    tmp_path: Path, misbehaving_provider: Any
) -> None:
    provider = misbehaving_provider("download_429=7")
    desk = Desk(tmp_path, provider)
    desk.write(ROWS)
    run = desk.workspace.approve(desk.workspace.prepare(desk.job()), decide=lambda quote: True)
    changes = iter(range(100))

    def change() -> None:
        # Once when it has ended, then after every download that failed.
        ended = desk.workspace.ledger.shard(run.id, 0).state is ShardState.ENDED
        if ended and next(changes) == 7:
            provider.set_faults("download_error=1,status=404")

    anyio.run(lambda: desk.workspace.advance(run.id, poll_s=0.01, on_change=change))
    assert next(changes) == 9
    assert desk.accepted() == 30
