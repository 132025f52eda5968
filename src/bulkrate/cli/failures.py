"""What an exception becomes: a sentence for people, a document for programs, an exit code for both."""

from __future__ import annotations

import os
import sys

import typer

from bulkrate.cli.terminal import Terminal
from bulkrate.errors import BulkrateError, DiskError

INTERRUPTED = 130
PIPE_CLOSED = 141  # what a shell sees of a program that SIGPIPE ended
DEBUG = "BULKRATE_DEBUG"
ISSUES = "https://github.com/bulkrate/bulkrate/issues"


class Interrupted(BulkrateError):
    """Waiting was stopped by Ctrl-C or SIGTERM; the message says where things stand."""

    exit_code = INTERRUPTED
    default_code = "interrupted"


def exit_code_of(error: BaseException, terminal: Terminal) -> int:
    """Tell what happened, and return the exit code for it."""
    match error:
        case BrokenPipeError():
            # Whoever read our output has gone (`| head`): nothing is wrong, and nobody listens.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        case KeyboardInterrupt() | typer.Abort():
            return interrupted(terminal)
        case BulkrateError():
            return _tell(terminal, error.code, error.message, error.hint, error.exit_code, cause=error)
        case Exception() if (disk := DiskError.of(error)) is not None:
            return _tell(terminal, disk.code, disk.message, disk.hint, disk.exit_code, cause=error)
        case typer.Exit():
            return error.exit_code
        case typer.TyperException():
            return _usage(terminal, error)
        case SystemExit():
            return error.code if isinstance(error.code, int) else 2
        case _:
            hint = f"this is a defect of Bulkrate: please report it at {ISSUES}"
            if not terminal.env.get(DEBUG):
                hint += f" ({DEBUG}=1 shows where it happened)"
            return _tell(terminal, "unexpected", f"{type(error).__name__}: {error}", hint, 2, cause=error)


def interrupted(terminal: Terminal) -> int:
    """Tell of a Ctrl-C before anything was with a provider: there is no run to speak of. Returns the code."""
    hint = "the same command begins where this one was"
    return _tell(terminal, "interrupted", "stopped; state is saved", hint, INTERRUPTED)


def _usage(terminal: Terminal, error: typer.TyperException) -> int:
    message = str(getattr(error, "format_message", lambda: error)())
    if type(error).__name__ == "NoArgsIsHelpError":
        terminal.say(message)
        return 2
    context = getattr(error, "ctx", None)
    command = getattr(context, "command_path", "bulkrate")
    return _tell(terminal, "usage", message, f"`{command} --help` shows what it takes", 2)


def _tell(
    terminal: Terminal,
    code: str,
    message: str,
    hint: str | None,
    exit_code: int,
    *,
    cause: BaseException | None = None,
) -> int:
    if cause is not None and terminal.env.get(DEBUG):
        import traceback

        terminal.say("".join(traceback.format_exception(cause)).rstrip())
    terminal.error(code, message, hint)
    if terminal.json:
        terminal.document({"error": {"code": code, "message": message, "hint": hint}})
    return exit_code
