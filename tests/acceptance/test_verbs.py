"""The verbs in the order people use them."""

from __future__ import annotations

import json
from collections.abc import Callable

import pyarrow.parquet as pq
from command_line import CommandLine, Result

WithProvider = Callable[..., CommandLine]


def rows_of(done: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_running_twice_sends_nothing_twice(with_provider: WithProvider) -> None:
    command = with_provider()
    job = command.tickets(20)
    first = command("run", job, "--yes", "--poll", "0.02")
    assert first.code == 0, first.err
    assert first.out == "", "without --json a run has nothing to say on standard output"
    answers = command.answers()
    (command.folder / "answers.jsonl").unlink()

    # No yes is needed: there is nothing to pay for.
    second = command("run", job)
    assert second.code == 0, second.err
    assert "has answered this already: nothing to send (--fresh starts anew)\n" in second.err
    assert command.answers() == answers, "the answers are there again"
    assert command("run", job, "--sink", "elsewhere.csv").code == 0
    assert (command.folder / "elsewhere.csv").read_text().startswith("id,status,output,")
    assert command.provider.meter.rows_accepted == 20

    fresh = command("run", job, "--fresh", "--yes", "--poll", "0.02")
    assert fresh.code == 0, fresh.err
    assert command.provider.meter.rows_accepted == 40


def test_a_longer_table_sends_only_what_is_new(with_provider: WithProvider) -> None:
    command = with_provider()
    command.ran(command.tickets(20))
    more = command("run", command.tickets(25), "--yes", "--poll", "0.02")
    assert more.code == 0, more.err
    assert "rows to send   5; 20 answered without sending\n" in more.err
    assert len(command.answers()) == 25
    assert command.provider.meter.rows_accepted == 25


def test_submit_then_status_then_wait(with_provider: WithProvider) -> None:
    command = with_provider("stuck=1")
    sent = command("submit", command.tickets(20), "--yes", "--poll", "0.02")
    assert (sent.code, sent.out) == (0, "")
    (hint,) = [line for line in sent.err.splitlines() if line.startswith("hint: ")]
    run = hint.split("`")[1].split()[-1]
    assert f"`bulkrate wait {run}` follows it" in hint
    assert command.provider.meter.rows_accepted == 20

    shown = command("status")
    assert shown.code == 0
    assert shown.out.startswith(f"run {run} of tickets: active\n  rows     20: 20 pending\n")
    assert "  20 requests\n" in shown.out
    early = command("results", run)
    assert early.code == 0
    assert "note: 20 of 20 rows are pending\n" in early.err
    assert {row["status"] for row in rows_of(early)} == {"pending"}
    waited = command("wait", run[:6], "--timeout", "0.1", "--poll", "0.02", "--json")
    assert waited.code == 3
    assert waited.json()["state"] == "active"

    command.provider.advance()
    done = command("wait", "tickets.bulk.yaml", "--poll", "0.02")
    assert done.code == 0, done.err
    assert command.provider.meter.rows_accepted == 20


def test_results_are_written_anywhere_and_read_again_from_the_raw_files(with_provider: WithProvider) -> None:
    command = with_provider("missing=2")
    command.ran(command.tickets(20))
    lines = command("results", "tickets")
    assert lines.code == 0
    assert rows_of(lines) == command.answers()
    written = command("results", "tickets", "-o", "out/table.parquet", "--json")
    assert written.code == 0, written.err
    assert written.json()["rows"] == {"total": 20, "succeeded": 20}
    table = pq.read_table(command.folder / "out" / "table.parquet")
    assert table["id"].to_pylist() == [f"t{number}" for number in range(20)]
    assert table["output"].to_pylist() == [row["output"] for row in command.answers()]

    answers = command.answers()
    before = command("status", "--json").json()
    for outcomes in command.folder.glob(".bulkrate/runs/*/outcomes/*.parquet"):
        outcomes.unlink()
    (command.folder / "answers.jsonl").unlink()
    command.provider.stop()  # nobody is asked
    done = command("recollect", "tickets")
    assert done.code == 0, done.err
    assert command.answers() == answers
    after = command("status", "--json").json()
    assert after == before


def test_retry_sends_the_failed_rows_and_nothing_else(with_provider: WithProvider) -> None:
    command = with_provider("bad_rows=2")
    job = command.tickets(20)
    command.ran(job, code=1)
    job.write_text(job.read_text() + "max_failed: 0.1\n")
    assert command("run", job).code == 0, "two of twenty may fail now"
    unasked = command("retry", "tickets")
    assert unasked.code == 4
    assert "rows to send   2\n" in unasked.err
    assert command.provider.meter.rows_accepted == 20
    done = command("retry", "tickets", "--yes", "--poll", "0.02", "--json")
    assert done.code == 0, done.err
    assert done.json()["rows"]["succeeded"] == 20
    assert done.json()["requests"] == {"sent": 22}
    assert command.provider.meter.rows_accepted == 22
    nothing = command("retry", "tickets", "--yes")
    assert nothing.code == 0
    assert "note: no row has failed: there is nothing to retry\n" in nothing.err


def test_an_openai_batch_file_runs_as_it_is(with_provider: WithProvider) -> None:
    command = with_provider()
    body = {"model": "gpt-3.5-turbo", "messages": [{"role": "user", "content": "hello"}]}
    request = {"method": "POST", "url": "/v1/chat/completions", "body": body}
    lines = [json.dumps({"custom_id": f"mine-{number}", **request}) for number in range(5)]
    (command.folder / "batch.jsonl").write_text("\n".join(lines) + "\n")
    checked = command("check", "batch.jsonl", "--json")
    assert checked.code == 0, checked.err
    assert checked.json()["rows"]["to_send"] == 5
    done = command("run", "batch.jsonl", "--yes", "--poll", "0.02")
    assert done.code == 0, done.err
    assert [row["custom_id"] for row in command.answers("batch.answers.jsonl")] == [
        f"mine-{number}" for number in range(5)
    ]
    moved = command("check", "batch.jsonl", "--model", "openai/gpt-4.1-mini", "--json")
    assert moved.json()["model"] == "openai/gpt-4.1-mini"


def test_clean_forgets_what_is_finished_and_nothing_else(with_provider: WithProvider) -> None:
    command = with_provider("stuck=1,polls=0")
    job = command.tickets(5)
    assert command("submit", job, "--yes").code == 0
    assert command("clean", "--older-than", "0").out == "", "a run under way is never touched"
    command.provider.advance()
    assert command("wait", "tickets", "--poll", "0.02").code == 0
    run = command("list", "--json").json()["runs"][0]["run"]
    assert command("clean", "--older-than", "30d").out == ""
    assert command("clean", "--older-than", "0", "--dry-run").out == f"{run}\n"
    gone = command("clean", "--older-than", "0", "--json")
    assert gone.json() == {"dry_run": False, "runs": [run]}
    assert command("list", "--json").json() == {"runs": []}
    assert list(command.folder.glob(".bulkrate/runs/*/*")) == []
    assert len(command.answers()) == 5, "the sink stays"


def test_where_the_answers_go_may_change_at_any_time(with_provider: WithProvider) -> None:
    command = with_provider("stuck=1")
    job = command.tickets(20)
    assert command("submit", job, "--yes").code == 0
    command.provider.advance()
    # The answers are to go elsewhere, and the source has moved on, too: the run answers what it was sent.
    command.tickets(25)
    job.write_text(job.read_text().replace("path: answers.jsonl", "path: answers.csv\n  include: all"))
    late = command("run", job, "--poll", "0.02")
    assert late.code == 0, late.err
    assert "hint: the source changed during the run: run the job again to answer 5 rows" in late.err
    assert (command.folder / "answers.csv").read_text().startswith("id,text,status,output,")
    assert not (command.folder / "answers.jsonl").exists()
    rest = command("run", job, "--yes", "--poll", "0.02")
    assert rest.code == 0, rest.err
    assert command.provider.meter.rows_accepted == 25

    job.write_text(job.read_text().replace("  include: all", "  include: key"))
    assert command("run", job).code == 0
    assert (command.folder / "answers.csv").read_text().startswith("id,status,output,")
    assert command.provider.meter.rows_accepted == 25


def test_the_server_is_stopped_like_any_server(bulkrate: CommandLine) -> None:
    process = bulkrate.start("serve", "--engine", "echo", "--model", "echo", "--port", "0")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("serving echo on http://127.0.0.1:")
    stopped = bulkrate.interrupt(process)
    assert stopped.code == 0, stopped.err
