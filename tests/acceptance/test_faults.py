"""A thousand rows through every fault: all delivered, each joined to its own row, none paid for twice."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from command_line import KEY, ROWS, CommandLine, Result

from bulkrate.testing import Meter, MisbehavingProvider

WithProvider = Callable[..., CommandLine]
IDS = [f"t{number}" for number in range(ROWS)]


def delivered(command: CommandLine) -> dict[str, str | None]:
    """The sink's answers by key, after a look at the rest of it."""
    rows = command.answers()
    assert [row["id"] for row in rows] == IDS, "every row once, in the order of the source"
    return {row["id"]: row["output"] for row in rows}


# The fault, and how many rows the provider may accept: what it took and did not answer is sent again.
ACCEPTED = {
    "missing=2": 1_002,
    "expire_after=600": 1_400,
    "token_queue=6000": 1_000,
    "status_503=4": 1_000,
    "create_unanswered=1": 1_000,
    "create_unanswered=1,when=before": 1_000,
    "upload_unanswered=1": 1_000,
}


@dataclass
class Ended:
    """A run through a fault: how it ended, and what the provider counted."""

    command: CommandLine
    done: Result
    meter: Meter


def run_through(fault: str, folder: Path) -> Ended:
    """Run a thousand tickets against a provider that has this fault."""
    with MisbehavingProvider(fault, seed=7, api_key=KEY) as provider:
        command = CommandLine(folder, provider)
        done = command("run", command.tickets(), "--yes", "--poll", "0.02", "--json")
        return Ended(command, done, provider.meter)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """All of them, two at a time: most of a run is waiting for its own imports."""
    folders = [tmp_path_factory.mktemp("fault") for _ in ACCEPTED]
    with ThreadPoolExecutor(max_workers=2) as pool:
        return dict(zip(ACCEPTED, pool.map(run_through, ACCEPTED, folders), strict=True))


@pytest.mark.parametrize("fault", ACCEPTED)
def test_everything_arrives_and_nothing_is_paid_twice(
    ended: dict[str, Ended], clean_answers: dict[str, str], fault: str
) -> None:
    command, done, meter = ended[fault].command, ended[fault].done, ended[fault].meter
    assert done.code == 0, done.err
    assert done.json()["rows"] == {
        "total": 1_000,
        "succeeded": 1_000,
        "failed": 0,
        "rejected": 0,
        "pending": 0,
    }
    assert delivered(command) == clean_answers
    assert meter.rows_accepted == ACCEPTED[fault]
    assert meter.rows_accepted_again == ACCEPTED[fault] - 1_000
    assert max(meter.accepted_by_custom_id.values()) == 1
    assert command.leaks(KEY) == []


def test_refused_rows_fail_with_the_reason_and_the_others_arrive(
    with_provider: WithProvider, clean_answers: dict[str, str]
) -> None:
    command = with_provider("bad_rows=2")
    done = command("run", command.tickets(), "--yes", "--poll", "0.02", "--json")
    assert done.code == 1
    assert done.json()["rows"]["succeeded"] == 998
    assert done.json()["failures"] == {"bad_request": 2}
    assert "2 bad_request; first: 400 invalid_request_error: " in done.err
    failed = [row for row in command.answers() if row["status"] == "failed"]
    assert len(failed) == 2
    for row in failed:
        assert row["output"] is None
        assert row["error"]["class"] == "bad_request"
        assert "Invalid request" in row["error"]["message"]
    refused = {row["id"] for row in failed}
    expected = {key: None if key in refused else answer for key, answer in clean_answers.items()}
    assert delivered(command) == expected
    assert command.provider.meter.rows_accepted == 1_000


def test_a_stuck_batch_is_left_at_the_timeout_and_taken_up_again(
    with_provider: WithProvider, clean_answers: dict[str, str]
) -> None:
    command = with_provider("stuck=1")
    job = command.tickets()
    late = command("run", job, "--yes", "--poll", "0.02", "--timeout", "1", "--json")
    assert late.code == 3
    assert late.json()["state"] == "active"
    assert late.json()["rows"]["pending"] == 1_000
    assert late.json()["sink"] is None
    run = late.json()["run"]
    assert f"hint: `bulkrate wait {run}` follows it" in late.err

    command.provider.advance()
    done = command("wait", run, "--poll", "0.02")
    assert done.code == 0, done.err
    assert delivered(command) == clean_answers
    assert command.provider.meter.rows_accepted == 1_000


def test_a_stuck_batch_can_be_cancelled_and_what_it_answered_is_kept(
    with_provider: WithProvider, clean_answers: dict[str, str]
) -> None:
    command = with_provider("stuck=1,done=400")
    waiting = command.start("run", command.tickets(), "--yes", "--poll", "0.02")
    command.provider.wait("status_answered", count=4)
    assert command.interrupt(waiting).code == 130
    unsaid = command("cancel", "tickets")
    assert unsaid.code == 4
    assert "in flight  1,000 requests in 1 batch:" in unsaid.err

    done = command("cancel", "tickets", "--yes", "--poll", "0.02", "--json")
    assert done.code == 0, done.err
    assert done.json()["state"] == "finished"
    assert done.json()["rows"]["succeeded"] == 400
    assert done.json()["failures"] == {"cancelled": 600}
    kept = {key: answer for key, answer in delivered(command).items() if answer is not None}
    assert len(kept) == 400
    assert kept.items() <= clean_answers.items()

    again = command("retry", "tickets", "--yes", "--poll", "0.02")
    assert again.code == 0, again.err
    assert delivered(command) == clean_answers
    assert command.provider.meter.rows_accepted == 1_600
    assert command.provider.meter.rows_billed == 1_000
