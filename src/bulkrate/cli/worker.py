"""`bulkrate worker`: the daemon that drives whatever was approved. Several may share a ledger."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from bulkrate.cli import options
from bulkrate.cli.terminal import Terminal
from bulkrate.cli.tick import describe
from bulkrate.errors import ConfigError

if TYPE_CHECKING:
    from bulkrate.ledger.records import RunRecord
    from bulkrate.pipeline.hints import Bell
    from bulkrate.pipeline.workspace import Workspace


Listen = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        parser=options.address,
        help="Hear the providers' webhooks there, at /webhooks/openai. Default: only ask.",
    ),
]


def worker(context: typer.Context, poll: options.Poll = None, listen: Listen = None) -> int:
    """Drive every approved run until stopped by Ctrl-C or SIGTERM; runs approved meanwhile join in."""
    import anyio

    from bulkrate.cli.choosing import workspace_of
    from bulkrate.cli.signals import cancelled_by_signals
    from bulkrate.pipeline.hints import Bell

    terminal: Terminal = context.obj
    with workspace_of(terminal) as workspace:
        reporter = Reporter(terminal, workspace)

        async def main() -> None:
            scope, bell = anyio.CancelScope(), Bell()
            with cancelled_by_signals(scope), scope, _ears(terminal, workspace, listen, bell):
                terminal.note(f"working on the runs of {workspace.home.root}; Ctrl-C stops it")
                await workspace.work(
                    poll_s=poll, on_error=reporter.failed, on_finished=reporter.finished, bell=bell
                )

        anyio.run(main)
        terminal.note("stopped; state is saved, remote work goes on")
    return 0


@contextmanager
def _ears(terminal: Terminal, workspace: Workspace, address: str | None, bell: Bell) -> Iterator[None]:
    """Hear webhooks at this address, if any; each new hint rings the bell."""
    if address is None:
        yield
        return
    try:
        from bulkrate.webhooks.hearing import hearing
    except ImportError as error:
        raise ConfigError(
            f"the package {error.name} is not installed",
            code="missing_extra",
            hint="pip install 'bulkrate[webhooks]'",
        ) from None
    host, _, port = address.rpartition(":")
    ears = hearing(
        terminal.env,
        workspace.ledger,
        bell,
        host=host.strip("[]"),
        port=int(port),
        now=workspace.clock.now,
    )
    with ears as urls:
        for url in urls.values():
            terminal.note(f"webhooks are heard at {url}")
        yield


class Reporter:
    """Says what became of runs; an error that stays the same is said once."""

    def __init__(self, terminal: Terminal, workspace: Workspace) -> None:
        self._terminal, self._workspace = terminal, workspace
        self._said: dict[str | None, str] = {}

    def failed(self, run: RunRecord | None, error: Exception) -> None:
        """A run could not be advanced, or the ledger not be read; it is tried again."""
        entry = describe(run, error)
        if self._said.get(entry["run"]) != entry["message"]:
            self._said[entry["run"]] = entry["message"]
            self._terminal.error(entry["code"], entry["message"], entry["hint"])

    def finished(self, run: RunRecord) -> None:
        """A run came to its end."""
        self._said.pop(run.id, None)
        balance = self._workspace.ledger.balance(run.id)
        rows = f"{balance.succeeded:,} of {balance.rows:,} rows succeeded"
        self._terminal.say(f"run {run.id} of {run.job_name} is finished: {rows}; {run.sink}")
