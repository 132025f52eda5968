"""A disk that refuses in the middle of a run: one sentence, and the same command goes on from there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from command_line import CommandLine

WithProvider = Callable[..., CommandLine]


def run_folder(command: CommandLine) -> Path:
    (folder,) = (command.folder / ".bulkrate" / "runs").iterdir()
    return folder


def test_answers_that_cannot_be_kept_are_fetched_again_once_they_can(with_provider: WithProvider) -> None:
    command = with_provider()
    assert command("submit", command.tickets(20), "--yes").code == 0
    in_the_way = run_folder(command) / "raw"
    in_the_way.write_text("not a folder")
    stopped = command("wait", "tickets", "--poll", "0.02")
    assert stopped.code == 2
    told = stopped.err.splitlines()
    assert told[-2].startswith("error[disk]: the disk refused: ")
    assert str(in_the_way) in told[-2]
    assert "goes on from there" in told[-1]
    assert any("its state is saved" in line for line in told)
    ticked = command("tick")
    assert ticked.code == 1
    assert "error[disk]: run " in ticked.err
    in_the_way.unlink()
    assert command("wait", "tickets", "--poll", "0.02").code == 0
    assert len(command.answers()) == 20
    assert command.provider.meter.rows_accepted == 20
