"""A plan shown to people, and written to its file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from bulkrate.cli.terminal import Terminal
from bulkrate.errors import BulkrateError
from bulkrate.pipeline.durable import whole_file
from bulkrate.pricing.plan_table import HEADER, lines, table

if TYPE_CHECKING:
    from bulkrate.pricing.plan import Plan


def write(made: Plan, target: Path) -> None:
    """The plan file, whole or not at all; the job file by its path from there."""
    document = made.to_json()
    if made.job_file is not None:
        document["job_file"] = os.path.relpath(made.job_file, target.absolute().parent)
    try:
        with whole_file(target) as part:
            part.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    except OSError as error:
        raise BulkrateError(
            f"{target} cannot be written: {error.strerror}", code="out", hint="say where with --out"
        ) from None


def show(terminal: Terminal, made: Plan) -> None:
    """The plan for people: about the rows on standard error, the table on standard output."""
    for code, count in made.problems.items():
        rows = "1 row" if count == 1 else f"{count:,} rows"
        terminal.note(f"{rows} rejected ({code}); `bulkrate check` lists them")
    terminal.pairs(f"plan of {made.job}: {made.own.model}, {made.lane} lane", lines(made))
    terminal.table(HEADER, table(made))
    for each in made.models:
        for note in each.notes:
            terminal.note(f"{each.model}: {note}")
        if each is not made.own and each.rows_too_long:
            terminal.note(f"{each.model}: {each.rows_too_long:,} rows are over its context window")
