"""Ctrl-C and SIGTERM at known moments: the waiting ends, the work does not, and nothing is sent twice."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from command_line import ROWS, CommandLine

WithProvider = Callable[..., CommandLine]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_waiting_is_stopped_and_resumed(with_provider: WithProvider, number: int) -> None:
    command = with_provider("stuck=1")
    process = command.start("run", command.tickets(20), "--yes", "--poll", "0.02")
    command.provider.wait("status_answered", count=3)
    stopped = command.interrupt(process, number)
    assert stopped.code == 130
    assert "; 1 batch is with openai and will go on\n" in stopped.err
    assert stopped.err.splitlines()[-1].startswith("hint: `bulkrate wait ")
    (batch,) = command.provider.snapshot()["batches"]
    assert batch["phase"] == "in_progress", "remote work is never cancelled by Ctrl-C"

    if number == signal.SIGTERM:
        return
    command.provider.advance()
    assert command("wait", "tickets").code == 0
    assert command.provider.meter.rows_accepted == 20


@pytest.mark.parametrize("moment", ["after", "before"])
def test_a_create_that_was_cut_off_is_found_or_fenced_never_repeated(
    with_provider: WithProvider, clean_answers: dict[str, str], moment: str
) -> None:
    command = with_provider(f"hold_create=1,when={moment}")
    command.env["BULKRATE_LIMITS__CREATE_TIMEOUT_S"] = "5"
    job = command.tickets()
    process = command.start("run", job, "--yes", "--poll", "0.02")
    command.provider.wait("create_held")
    stopped = command.interrupt(process)
    assert stopped.code == 130
    assert "error[interrupted]: stopped waiting for run " in stopped.err
    command.provider.release()  # the create goes on, whoever asked for it

    done = command("run", job, "--poll", "0.02")
    assert done.code == 0, done.err
    assert "note: resuming run " in done.err
    assert {row["id"]: row["output"] for row in command.answers()} == clean_answers
    assert command.provider.meter.rows_accepted == ROWS


def test_an_upload_that_was_cut_off_is_begun_again(with_provider: WithProvider) -> None:
    command = with_provider("hold_upload=1")
    job = command.tickets(20)
    process = command.start("run", job, "--yes", "--poll", "0.02")
    command.provider.wait("upload_held")
    stopped = command.interrupt(process)
    assert stopped.code == 130
    assert "; nothing is with openai now\n" in stopped.err
    assert command("run", job, "--poll", "0.02").code == 0
    meter = command.provider.meter
    assert (meter.uploads, meter.rows_accepted) == (2, 20)


def test_two_processes_do_not_drive_one_run(with_provider: WithProvider) -> None:
    command = with_provider("hold_status=1")
    job = command.tickets(20)
    process = command.start("run", job, "--yes", "--poll", "0.02")
    command.provider.wait("status_held")
    second = command("run", job, "--yes")
    assert second.code == 3
    assert f" is being driven by process {process.pid}\n" in second.err
    # `wait` looks on instead, and is there when it ends.
    watching = command.start("wait", "tickets", "--json")
    assert watching.stderr is not None
    said = watching.stderr.readline()
    assert said.endswith("; following it\n")
    command.provider.release()
    assert command.end(process).code == 0
    watched = command.end(watching)
    assert watched.code == 0
    assert watched.json()["rows"]["succeeded"] == 20
    assert command.provider.meter.rows_accepted == 20


def test_a_run_that_another_process_drives_can_be_cancelled(with_provider: WithProvider) -> None:
    command = with_provider("stuck=1")
    driving = command.start("run", command.tickets(20), "--yes", "--poll", "0.02")
    command.provider.wait("status_answered", count=3)
    cancelled = command("cancel", "tickets", "--yes", "--json")
    assert cancelled.code == 0, cancelled.err
    assert cancelled.json()["failures"] == {"cancelled": 20}
    assert command.end(driving).code == 1
