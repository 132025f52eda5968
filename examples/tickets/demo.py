"""The demo: a table of support tickets goes the whole way of the data, answered by a model on this machine.

Three commands do the work, each announced; what came back is held against gold labels. Exit code 1 when a
row is missing, an answer is not one of the labels, or accuracy is under three times chance.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.markup import escape

import bulkrate
from bulkrate.providers.local.launch import find_server

HERE = Path(__file__).resolve().parent
JOB = "tickets.bulk.yaml"
MODEL = "smollm2-135m-instruct"
STATE = HERE / ".bulkrate"
ANSWERS = HERE / "out" / "tickets.answers.csv"
BULKRATE = Path(sys.executable).with_name("bulkrate")
SHOWN = 8

INTRO = """\
[bold]240 support tickets, each to get one of six labels, from a real model on this machine.[/]
No key, no network, nothing to pay. The way of the data has ten steps; three commands walk it
(`bulkrate run` is the three in one)."""

STAGES = {
    "check": """\
 1 assemble   a request is made of every row: the job's prompt around the row's own words
 2 check      a row that cannot be sent (no key, key twice, empty or too long) would be named here
 3 pack       requests are put into shards, within what the provider takes in one batch
 4 quote      tokens are counted and priced; nothing is spent without a yes""",
    "submit": """\
 5 submit     the shard is uploaded and a batch created. The provider is `local`: a server on this
              machine with OpenAI's batch API (the first start converts the model, a few seconds)""",
    "wait": """\
 6 poll       the batch is asked how far it is
 7 collect    its result files are saved as they came, then read
 8 reconcile  what came back is held against what was sent, by id; what is missing would be sent again
 9 deliver    answers are joined to the tickets, in the order of the table
10 report     every row by how it ended, and what it cost""",
}

# The state is in `.bulkrate` beside the job, whatever the user has elsewhere.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "BULKRATE_HOME"}

out = Console(highlight=False, soft_wrap=True)


def main() -> int:
    began = time.monotonic()
    # Ctrl-C is for the command that runs; it says how things stand and how to go on.
    signal.signal(signal.SIGINT, lambda *_: None)
    out.print(INTRO)
    for verb, steps in STAGES.items():
        fresh = verb == "submit" and not interrupted_before()
        command = [verb, JOB, *(["--fresh"] if fresh else [])]
        out.print(f"\n[cyan]{steps}[/]\n\n[bold]$ bulkrate {' '.join(command)}[/]")
        code = subprocess.Popen([BULKRATE, *command], cwd=HERE, env=ENVIRONMENT).wait()
        if code != 0:
            out.print(f"\nThe demo stopped: exit code {code}. `make demo` goes on from here.")
            return code
    code = judge(time.monotonic() - began)
    server = find_server(STATE / "server" / MODEL)
    if server is not None:  # it would end by itself after a quarter of an hour without work
        os.kill(server.pid, signal.SIGTERM)
    return code


def interrupted_before() -> bool:
    """Whether the last demo did not come to its end: then it is resumed, else a new run is begun."""
    command = [str(BULKRATE), "list", "--json", "--limit", "1"]
    listed = subprocess.run(command, cwd=HERE, env=ENVIRONMENT, capture_output=True, check=True)
    return any(run["state"] != "finished" for run in json.loads(listed.stdout)["runs"])


def judge(seconds: float) -> int:
    """Hold the answers against the gold labels, which the prompt never showed."""
    with (HERE / "tickets.csv").open(encoding="utf-8", newline="") as file:
        tickets = list(csv.DictReader(file))
    with ANSWERS.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    request = bulkrate.load_job(HERE / JOB).request
    labels = list((request and request.output and request.output.choice) or ())

    out.print("\n[bold]Some answers[/], the model's beside the gold label")
    for row in rows[:SHOWN]:
        text = f"{row['subject']}. {row['body']}"
        text = escape(text if len(text) <= 62 else text[:61] + "…")
        verdict = "[green]right[/]" if row["output"] == row["label"] else f"[red]wrong[/], {row['label']}"
        out.print(f"  {text:62}  {row['output']:9} ", verdict, sep="")

    out.print("\n[bold]Label by label[/]")
    for label in labels:
        given = Counter(row["output"] for row in rows if row["label"] == label)
        taken = [f"{other} {count}" for other, count in given.most_common() if other != label]
        line = f"  {label:9}  {given[label]:2} of {given.total():2} right"
        out.print(line + (f"; taken for {', '.join(taken[:3])}" if taken else ""))

    right = sum(row["output"] == row["label"] for row in rows)
    accuracy, chance = right / max(len(rows), 1), 1 / len(labels)
    name, most = Counter(ticket["label"] for ticket in tickets).most_common(1)[0]
    often = most / len(tickets)
    out.print(
        f"\n[bold]Accuracy {accuracy:.3f}[/]: {right} of {len(rows)} tickets, none of them used in tuning"
    )
    out.print(
        f"  chance is {chance:.3f}, so {accuracy / chance:.1f} times that; '{name}' every time: {often:.3f}"
    )
    out.print(f"  {seconds:.0f} seconds in all; the answers are in {relative(ANSWERS)}")

    problems = []
    if [row["id"] for row in rows] != [ticket["id"] for ticket in tickets]:
        problems.append(f"{len(tickets)} tickets went in, and other rows came out")
    if strange := sum(row["status"] != "succeeded" or row["output"] not in labels for row in rows):
        problems.append(f"{strange} rows have no answer among the labels")
    if accuracy < 3 * chance:
        problems.append("accuracy is under three times chance")
    for problem in problems:
        out.print(f"[red]The demo failed[/]: {problem}")
    if not problems:
        command = relative(BULKRATE)
        out.print("\n[bold]Try next[/]")
        out.print("  stop `make demo` in the middle with Ctrl-C, and start it again: it goes on")
        out.print(f"  BULKRATE_HOME={relative(STATE)} {command} status")
        out.print(f"  {command} init mine && {command} run mine/{JOB}")
    return 1 if problems else 0


def relative(path: Path) -> Path:
    """`path` as seen from here, if it is below."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


if __name__ == "__main__":
    sys.exit(main())
