"""What the command says when it will not or cannot: the sentence, the hint, the exit code."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from command_line import CommandLine

WithProvider = Callable[..., CommandLine]


def test_a_wrong_field_is_named_with_file_line_and_what_was_meant(bulkrate: CommandLine) -> None:
    job = bulkrate.tickets(3)
    job.write_text(job.read_text().replace("max_output_tokens", "max_ouput_tokens"))
    done = bulkrate("check", "tickets.bulk.yaml")
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        "error[job]: tickets.bulk.yaml:8: request.max_ouput_tokens: there is no such field\n"
        "hint: did you mean `max_output_tokens`?\n"
    )


def test_a_column_that_is_not_there_is_named(bulkrate: CommandLine) -> None:
    job = bulkrate.tickets(3)
    job.write_text(job.read_text().replace("{{ text }}", "{{ txt }}"))
    done = bulkrate("check", "tickets.bulk.yaml")
    assert done.code == 2
    assert done.err.startswith("error[")
    assert "txt" in done.err
    assert "did you mean" in done.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chekc"], "error[usage]: No such command 'chekc'"),
        (["run"], "error[usage]: Missing argument 'FILE'"),
        (["run", "x.yaml", "--timeout", "soon"], "error[usage]: Invalid value for '--timeout'"),
        (["run", "x.yaml", "--max-cost", "1,000"], "error[usage]: Invalid value for '--max-cost'"),
        (["run", "x.yaml"], "error[job]: x.yaml: cannot be read: No such file or directory"),
        (["budget", "--month", "13"], "error[usage]: Invalid value for '--month': must be a month such as"),
        (["run", "x.jsonl"], "error[no_files]: there is no file x.jsonl\n"),
        (["status"], "error[no_such_run]: there are no runs in "),
        (["wait", "nothing"], "error[no_such_run]: no run, job or job file is called 'nothing' in "),
    ],
)
def test_what_cannot_be_done_ends_with_2(bulkrate: CommandLine, arguments: list[str], said: str) -> None:
    done = bulkrate(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith(said), done.err


def test_no_key_is_said_before_anything_is_sent(bulkrate: CommandLine) -> None:
    done = bulkrate("run", bulkrate.tickets(3), "--yes")
    assert done.code == 2
    assert "error[no_key]: OPENAI_API_KEY is not set\n" in done.err


def test_a_wrong_key_stops_the_run_and_the_right_one_resumes_it(with_provider: WithProvider) -> None:
    command = with_provider()
    job = command.tickets(20)
    command.env["OPENAI_API_KEY"] = "sk-somebody-else"
    refused = command("run", job, "--yes", "--poll", "0.02")
    assert refused.code == 2
    assert ": the provider answered 401: " in refused.err
    assert "error[invalid_api_key]: " in refused.err
    assert "sk-somebody-else" not in refused.err
    del command.env["OPENAI_API_KEY"]
    assert command("run", job, "--poll", "0.02").code == 0
    assert command.provider.meter.rows_accepted == 20


def test_nothing_is_spent_without_a_yes(with_provider: WithProvider) -> None:
    command = with_provider()
    job = command.tickets(20)
    unasked = command("run", job)
    assert (unasked.code, unasked.out) == (4, "")
    assert "rows to send   20\n" in unasked.err
    assert "batch price    at most 0.000" in unasked.err
    assert "prices of      20" in unasked.err
    assert unasked.err.endswith(
        "error[not_approved]: this costs money, and standard input is no terminal to ask on; "
        "nothing was spent\n"
        "hint: pass --yes to approve the quote, and --max-cost to bound it\n"
    )
    # A yes that comes down a pipe was typed by nobody.
    assert command("run", job, stdin="y\n").code == 4
    over = command("run", job, "--yes", "--max-cost", "0.000001")
    assert over.code == 4
    assert "error[over_max_cost]: the ceiling of 0.000" in over.err
    assert "submit" not in over.err
    unspent = command("submit", job)
    assert unspent.code == 4
    meter = command.provider.meter
    assert (meter.uploads, meter.batches_created) == (0, 0)
    waited = command("wait", "tickets")
    assert waited.code == 2
    assert "error[not_started]: " in waited.err


def test_rejected_rows_are_listed_by_line_and_the_others_go_on(with_provider: WithProvider) -> None:
    command = with_provider()
    job = command.tickets(20)
    with (command.folder / "tickets.csv").open("a") as table:
        table.write("t3,a key that was there before\nt20,  \n")
    job.write_text(job.read_text().replace("Which department? {{ text }}", "{{ text }}"))
    checked = command("check", job)
    assert checked.code == 1
    assert "row 21: duplicate_key: the key was seen before, at row 4\n" in checked.err
    assert "tickets.csv:23: empty_prompt: " in checked.err
    done = command("run", job, "--yes", "--poll", "0.02", "--json")
    assert done.code == 1
    assert done.json()["rows"] == {
        "total": 22,
        "succeeded": 20,
        "failed": 0,
        "rejected": 2,
        "pending": 0,
    }
    assert "note: 1 row rejected (duplicate_key); first: " in done.err
    assert [row["status"] for row in command.answers()[-2:]] == ["rejected", "rejected"]
    assert command.provider.meter.rows_accepted == 20


def test_a_job_that_wants_no_row_rejected_sends_nothing(with_provider: WithProvider) -> None:
    command = with_provider()
    job = command.tickets(3, more="on_rejected: fail\n")
    with (command.folder / "tickets.csv").open("a") as table:
        table.write("t1,again\n")
    done = command("run", job, "--yes")
    assert done.code == 1
    assert "error[rows_rejected]: 1 of 4 rows" in done.err
    assert command.provider.meter.uploads == 0


def test_many_problems_are_counted_and_the_first_twenty_shown(bulkrate: CommandLine) -> None:
    job = bulkrate.tickets(3)
    with (bulkrate.folder / "tickets.csv").open("a") as table:
        table.write("t1,again\n" * 30)
    done = bulkrate("check", job)
    assert done.code == 1
    assert done.err.count(": duplicate_key: the key was seen before") == 20
    assert "… and 10 more rows: duplicate_key\n" in done.err
    assert not (bulkrate.folder / ".bulkrate").exists(), "check keeps nothing"


def test_init_writes_what_check_accepts_and_overwrites_nothing(bulkrate: CommandLine) -> None:
    assert bulkrate("init", "demo").code == 0
    before = (bulkrate.folder / "demo" / "tickets.bulk.yaml").read_bytes()
    again = bulkrate("init", "demo")
    assert again.code == 2
    assert again.err.startswith("error[exists]: demo/tickets.csv and demo/tickets.bulk.yaml exist already")
    assert (bulkrate.folder / "demo" / "tickets.bulk.yaml").read_bytes() == before


def test_output_that_nobody_reads_is_no_error(bulkrate: CommandLine) -> None:
    process = bulkrate.start("schema")
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    done = bulkrate.end(process)
    assert done.err == ""


def test_the_version_is_printed(bulkrate: CommandLine) -> None:
    assert bulkrate("--version").out.startswith("bulkrate 0.")


def test_an_unexpected_error_is_one_sentence(bulkrate: CommandLine) -> None:
    (bulkrate.folder / ".bulkrate").mkdir()
    (bulkrate.folder / ".bulkrate" / "ledger.sqlite").write_bytes(b"this is no database" * 100)
    done = bulkrate("list")
    assert done.code == 2
    assert done.err.startswith("error[ledger")
