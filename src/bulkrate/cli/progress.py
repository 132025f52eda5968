"""Progress: redrawn in place on a terminal, a plain line every few seconds elsewhere.

The driver only says that something changed. Reading the ledger for the display is this module's own affair:
in a thread of its own, at most twice a second, and only after a change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from bulkrate.cli.snapshot import Pace, Snapshot, duration, take_snapshot, utc_now
from bulkrate.cli.terminal import Terminal

if TYPE_CHECKING:
    from rich.console import Group

    from bulkrate.ledger.ledger import Ledger

LOOK_S = 0.5
LINE_S = 5.0
SHOWN_BATCHES = 8


Outlook = Callable[[], str]


class Progress(Protocol):
    """A display while a run is driven: a context manager that is told of changes."""

    def changed(self) -> None:
        """Something happened; cheap, from any thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def progress(terminal: Terminal, ledger: Ledger, run: str, outlook: Outlook = str) -> Progress:
    """The display that suits the terminal. `outlook` says what the run comes to, asked after each batch."""
    if terminal.quiet:
        return NoProgress()
    if terminal.live:
        return LiveProgress(terminal, ledger, run, outlook)
    return PlainProgress(terminal, ledger, run, outlook)


class NoProgress:
    """Says nothing."""

    def changed(self) -> None:
        """Nobody wants to know."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


class PlainProgress:
    """A line at the first change, then every few seconds if something changed."""

    def __init__(self, terminal: Terminal, ledger: Ledger, run: str, outlook: Outlook) -> None:
        self._terminal, self._ledger, self._run = terminal, ledger, run
        self._outlook, self._done = outlook, 0
        self._changed, self._stopped = threading.Event(), threading.Event()
        self._pace = Pace(utc_now())
        self._said = ""
        self._thread = threading.Thread(target=self._talk, name="bulkrate-progress", daemon=True)

    def changed(self) -> None:
        """Something happened."""
        self._changed.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._changed.set()
        self._thread.join()

    def _talk(self) -> None:
        while True:
            self._changed.wait()
            if self._stopped.is_set():
                return
            self._changed.clear()
            snapshot = take_snapshot(self._ledger, self._run)
            line = "" if snapshot is None else line_of(snapshot)
            if snapshot is not None and line != self._said:
                self._said = line
                self._terminal.say(f"{line}, {timing(self._pace, snapshot)}")
            if snapshot is not None and snapshot.batches_done > self._done:
                self._done = snapshot.batches_done
                if said := self._outlook():
                    self._terminal.say(said)
            if self._stopped.wait(LINE_S):
                return


def line_of(snapshot: Snapshot) -> str:
    """Where a run stands, in one line."""
    balance = snapshot.balance
    parts = [f"{snapshot.state}: {snapshot.rows_done:,} of {balance.rows:,} rows"]
    if balance.failed:
        parts.append(f"{balance.failed:,} failed")
    if snapshot.open:
        parts.append(f"batches: {snapshot.words()}")
    if snapshot.usage:
        parts.append(f"{snapshot.usage.input_tokens:,} tokens in, {snapshot.usage.output_tokens:,} out")
    return ", ".join(parts)


def timing(pace: Pace, snapshot: Snapshot) -> str:
    """Elapsed time, and the estimated end where there is one."""
    now = utc_now()
    said = duration(pace.elapsed(now))
    end = pace.end_at(snapshot, now)
    return said if end is None else f"{said}, about {duration(end - now)} left"


class LiveProgress:
    """A small table, redrawn in place."""

    def __init__(self, terminal: Terminal, ledger: Ledger, run: str, outlook: Outlook) -> None:
        self._terminal, self._ledger, self._run = terminal, ledger, run
        self._outlook, self._done, self._said = outlook, 0, ""
        self._dirty = True
        self._looked: Any = None
        self._pace = Pace(utc_now())
        self._snapshot: Snapshot | None = None
        self._stack = ExitStack()

    def changed(self) -> None:
        """Something happened."""
        self._dirty = True

    def __enter__(self) -> Self:
        import sys

        from rich.console import Console
        from rich.live import Live

        console = Console(file=sys.stderr)
        live = Live(
            get_renderable=self._draw,
            console=console,
            refresh_per_second=4,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._stack.enter_context(live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _look(self) -> None:
        now = utc_now()
        if not self._dirty or (self._looked is not None and (now - self._looked).total_seconds() < LOOK_S):
            return
        self._dirty, self._looked = False, now
        self._snapshot = take_snapshot(self._ledger, self._run)
        if self._snapshot is not None and self._snapshot.batches_done > self._done:
            self._done, self._said = self._snapshot.batches_done, self._outlook()

    def _draw(self) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        self._look()
        shown = self._snapshot
        if shown is None:
            return Group(Text("…"))
        balance = shown.balance
        head = Table.grid(padding=(0, 2))
        head.add_row(
            Text(f"run {self._run}", style="bold"),
            ProgressBar(total=max(balance.rows, 1), completed=shown.rows_done, width=30),
            Text(f"{shown.rows_done:,} of {balance.rows:,}"),
            Text(timing(self._pace, shown), style="dim"),
        )
        states = Text("  ")
        for name, count, style in (
            ("succeeded", balance.succeeded, "green"),
            ("failed", balance.failed, "red"),
            ("rejected", balance.rejected, "yellow"),
            ("pending", balance.pending, "cyan"),
        ):
            states.append(f"{count:,} {name}  ", style=style if count else "dim")
        used = shown.usage
        states.append(f"{used.input_tokens:,} tokens in, {used.output_tokens:,} out", style="dim")
        table = Table.grid(padding=(0, 2))
        for view in shown.open[:SHOWN_BATCHES]:
            table.add_row(
                Text(f"  {view.id or f'shard {view.shard}'}"),
                Text(view.word),
                Text(f"{view.completed:,} of {view.total:,}"),
            )
        rest = len(shown.open) - SHOWN_BATCHES
        parts: list[Table | Text] = [head, states]
        if shown.open:
            parts.append(table)
        if rest > 0:
            parts.append(Text(f"  and {rest:,} more", style="dim"))
        if shown.batches_done:
            done = "1 batch" if shown.batches_done == 1 else f"{shown.batches_done:,} batches"
            parts.append(Text(f"  {done} done", style="dim"))
        if self._said:
            parts.append(Text(f"  {self._said}"))
        return Group(*parts)
