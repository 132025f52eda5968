"""Where the command line talks: data on standard output, everything said to people on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NO_PROGRESS = "BULKRATE_NO_PROGRESS"
MAX_QUOTED = 300

_RED, _CYAN, _BOLD = "31;1", "36;1", "1"


@dataclass
class Terminal:
    """The surroundings of one invocation. `json` is whether the caller wants a document on stdout."""

    env: Mapping[str, str]
    cwd: Path
    json: bool = False

    @property
    def screen(self) -> bool:
        """Whether people watch standard error on something that can redraw."""
        return sys.stderr.isatty() and self.env.get("TERM") != "dumb"

    @property
    def live(self) -> bool:
        """Whether to redraw progress in place."""
        return self.screen and not self.quiet

    @property
    def quiet(self) -> bool:
        """Whether progress is unwanted altogether."""
        return bool(self.env.get(NO_PROGRESS))

    @property
    def can_ask(self) -> bool:
        """Whether somebody is there to answer."""
        return sys.stdin.isatty()

    # -- talk --------------------------------------------------------------------------------------------

    def say(self, text: str = "") -> None:
        """A line on standard error."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - the one place that talks

    def hint(self, text: str) -> None:
        """What to do next."""
        self.say(f"{self._style('hint', _CYAN)}: {text}")

    def note(self, text: str) -> None:
        """Something to know."""
        self.say(f"{self._style('note', _CYAN)}: {text}")

    def error(self, code: str, message: str, hint: str | None = None) -> None:
        """An error in its fixed form, `error[code]: sentence`, then `hint:`."""
        self.say(f"{self._style(f'error[{code}]', _RED)}: {message}")
        if hint:
            self.hint(hint)

    def pairs(self, title: str, pairs: Sequence[tuple[str, str]]) -> None:
        """A small table of labels and values under a title."""
        self.say(self._style(title, _BOLD))
        width = max((len(label) for label, _ in pairs), default=0)
        shown = None
        for label, value in pairs:
            self.say(f"  {(label if label != shown else ''):{width}}  {value}")
            shown = label

    def rows(self, title: str, pairs: Sequence[tuple[str, str]]) -> None:
        """The same as `pairs`, on standard output: for verbs that were asked for just this."""
        width = max((len(label) for label, _ in pairs), default=0)
        lines = [title, *(f"  {label:{width}}  {value}" for label, value in pairs)]
        self.data(f"{line}\n".encode() for line in lines)

    def ask(self, question: str) -> bool:
        """Ask on standard error; anything but y or yes is a no."""
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):
            self.say()
        return answer.strip().lower() in ("y", "yes")

    def _style(self, text: str, code: str) -> str:
        colour = self.screen and not self.env.get("NO_COLOR")
        return f"\x1b[{code}m{text}\x1b[0m" if colour else text

    # -- data --------------------------------------------------------------------------------------------

    def data(self, lines: Iterable[bytes]) -> None:
        """Bytes to standard output, as they are."""
        out = sys.stdout.buffer
        for line in lines:
            out.write(line)
        out.flush()

    def document(self, document: Any) -> None:
        """The one JSON document of this invocation."""
        import orjson

        self.data([orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)])

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """A table for people, on standard output: it is what they asked for."""
        widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
        lines = []
        for row in (header, *rows):
            cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip().encode() + b"\n")
        self.data(lines)


def quoted(text: str) -> str:
    """Somebody else's words made safe for a terminal: one line, no control characters, not too long."""
    line = "".join(char if char.isprintable() else " " for char in text)
    line = " ".join(line.split())
    return line if len(line) <= MAX_QUOTED else line[: MAX_QUOTED - 1] + "…"
