"""On a terminal: the question that is asked before spending, and the display that is redrawn."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pexpect
from command_line import BULKRATE, CommandLine

WithProvider = Callable[..., CommandLine]
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")


def spawn(command: CommandLine, *arguments: str, **env: str) -> pexpect.spawn[str]:
    """The command on a pseudo-terminal of its own."""
    return pexpect.spawn(
        str(BULKRATE),
        list(arguments),
        cwd=str(command.folder),
        env={**command.environment(), "TERM": "xterm-256color", **env},
        encoding="utf-8",
        timeout=60,
        dimensions=(40, 120),
    )


def end(command: CommandLine, terminal: pexpect.spawn[str]) -> tuple[int | None, str]:
    """Exit code, and what was shown since the last match."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    command.said.append(terminal.before or "")
    return terminal.exitstatus, terminal.before or ""


def test_a_typed_yes_spends_and_the_display_follows(with_provider: WithProvider) -> None:
    command = with_provider("hold_status=1,skip=2", polls=4)
    command.tickets(20)
    terminal = spawn(command, "run", "tickets.bulk.yaml", "--poll", "0.02")
    terminal.expect(r"Send 20 rows to openai for at most 0\.000\d+ USD\? \[y/N\] ")
    assert command.provider.meter.uploads == 0, "asked first"
    terminal.sendline("y")
    command.provider.wait("status_held")
    terminal.expect(r"run .*\d+ of 20")
    terminal.expect("20 pending")
    terminal.expect(r"batch_\w+.*in_progress.*of 20")
    command.provider.release()
    terminal.expect("20 succeeded")
    terminal.expect(r"answers\s+/")
    code, _ = end(command, terminal)
    assert code == 0


def test_anything_else_is_a_no(with_provider: WithProvider) -> None:
    command = with_provider()
    command.tickets(5)
    terminal = spawn(command, "run", "tickets.bulk.yaml")
    terminal.expect(r"\[y/N\] ")
    terminal.sendline("")
    code, shown = end(command, terminal)
    assert code == 4
    assert "not approved; nothing was spent" in shown
    assert command.provider.meter.uploads == 0


def test_ctrl_c_at_the_keyboard(with_provider: WithProvider) -> None:
    command = with_provider("stuck=1")
    command.tickets(5)
    terminal = spawn(command, "run", "tickets.bulk.yaml", "--yes", "--poll", "0.02")
    command.provider.wait("status_answered", count=3)
    terminal.sendintr()
    terminal.expect("1 batch is with openai and will go on")
    terminal.expect("bulkrate wait ")
    code, _ = end(command, terminal)
    assert code == 130


def test_ctrl_c_at_the_question(with_provider: WithProvider) -> None:
    command = with_provider()
    command.tickets(5)
    terminal = spawn(command, "run", "tickets.bulk.yaml")
    terminal.expect(r"\[y/N\] ")
    terminal.kill(signal.SIGINT)
    terminal.expect("interrupted")
    code, _ = end(command, terminal)
    assert code == 130


def test_colours_and_display_can_be_turned_off(with_provider: WithProvider) -> None:
    command = with_provider()
    command.tickets(5)
    quiet = spawn(
        command, "run", "tickets.bulk.yaml", "--yes", "--poll", "0.02", NO_COLOR="1", BULKRATE_NO_PROGRESS="1"
    )
    code, shown = end(command, quiet)
    assert code == 0
    assert "\x1b" not in shown
    coloured = spawn(command, "run", "nowhere.yaml")
    _, shown = end(command, coloured)
    assert COLOUR.search(shown)
