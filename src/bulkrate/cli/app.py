"""The `bulkrate` command: its verbs, and what happens to errors.

Everything heavy is imported inside the verbs: `bulkrate --help` is to be there at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bulkrate.cli import (
    bill,
    budget,
    cancel,
    check,
    clean,
    doctor,
    estimate,
    init,
    list_runs,
    plan,
    providers,
    recollect,
    rehearse,
    report,
    results,
    retry,
    run,
    schema,
    serve,
    status,
    submit,
    testing,
    tick,
    wait,
    worker,
)
from bulkrate.cli.failures import INTERRUPTED, exit_code_of, interrupted
from bulkrate.cli.signals import treat_sigterm_as_ctrl_c
from bulkrate.cli.terminal import Terminal

app = typer.Typer(
    name="bulkrate",
    help="Deferrable language-model work, done at the bulk rate.",
    epilog="Exit codes: 0 all rows succeeded; 1 rows failed, or check found errors; 2 could not do it; "
    "3 not finished yet; 4 refused (not approved, or over the limit); 130 interrupted, state saved.",
    rich_markup_mode=None,  # rich costs a third of the time --help may take
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

VERBS: dict[str, Callable[..., int]] = {
    "init": init.init,
    "estimate": estimate.estimate,
    "check": check.check,
    "plan": plan.plan,
    "rehearse": rehearse.rehearse,
    "run": run.run,
    "submit": submit.submit,
    "wait": wait.wait,
    "tick": tick.tick,
    "worker": worker.worker,
    "status": status.status,
    "list": list_runs.list_runs,
    "results": results.results,
    "bill": bill.bill,
    "report": report.report,
    "budget": budget.budget,
    "retry": retry.retry,
    "recollect": recollect.recollect,
    "cancel": cancel.cancel,
    "schema": schema.schema,
    "serve": serve.serve,
    "clean": clean.clean,
    "providers": providers.providers,
    "models": providers.models,
    "doctor": doctor.doctor,
}
for name, verb in VERBS.items():
    app.command(name)(verb)
app.add_typer(testing.app)


def _version(asked: bool) -> None:
    if asked:
        from bulkrate import __version__

        print(f"bulkrate {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def bulkrate(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Deferrable language-model work, done at the bulk rate."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    The process environment is read here and nowhere else.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    terminal = Terminal(env=dict(os.environ), cwd=Path.cwd(), json="--json" in given)
    treat_sigterm_as_ctrl_c()
    try:
        code = app(given, prog_name="bulkrate", standalone_mode=False, obj=terminal)
    except BaseException as error:  # whatever it is, people get a sentence and programs a code
        return exit_code_of(error, terminal)
    # This is what typer makes of a KeyboardInterrupt.
    return interrupted(terminal) if code == INTERRUPTED else code if isinstance(code, int) else 0
