"""`bulkrate init`: an example that runs as it is, on this machine and without a key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bulkrate.cli.terminal import Terminal
from bulkrate.errors import BulkrateError

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write it.", show_default="here")]

TICKETS = """\
id,text
1,I was charged twice for my subscription this month.
2,The app crashes whenever I open the settings page.
3,How do I change the e-mail address of my account?
4,My parcel says delivered but nothing has arrived.
5,Please refund the order that I cancelled on Monday.
6,Since the last update the login button does nothing.
7,"Can I use one account on two phones, or do I need a second one?"
8,The courier left the box in the rain and it is soaked.
"""

JOB = """\
# yaml-language-server: $schema=tickets.schema.json
# (`bulkrate schema > tickets.schema.json` writes that schema: editors then complete and check this file)
name: tickets

source:
  path: tickets.csv
  key: id                # names a row for ever: answers are joined, and kept, by it

request:
  model: local/smollm2-135m-instruct   # a small model on this machine; or, say, openai/gpt-5-mini
  system: You sort the messages of customers into departments.
  prompt: |
    Message: {{ text }}
    Department:
  output:
    choice: [billing, technical, account, delivery]

sink:
  path: tickets.answers.jsonl
  include: all
"""


def init(context: typer.Context, folder: Folder = Path()) -> int:
    """Write an example: a job file and a small table to run it on. Overwrites nothing."""
    terminal: Terminal = context.obj
    files = {folder / "tickets.csv": TICKETS, folder / "tickets.bulk.yaml": JOB}
    there = [str(path) for path in files if path.exists()]
    if there:
        raise BulkrateError(
            f"{' and '.join(there)} {'exists' if len(there) == 1 else 'exist'} already; nothing was written",
            code="exists",
            hint="give another folder: `bulkrate init FOLDER`",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(content)
        terminal.note(f"wrote {path}")
    job = folder / "tickets.bulk.yaml"
    terminal.hint(f"`bulkrate check {job}` looks it over, `bulkrate run {job}` runs it")
    return 0
