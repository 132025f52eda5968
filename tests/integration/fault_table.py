"""Run the true pipeline through every fault, and write the tables: `python tests/integration/fault_table.py`,
and with `--dialect all` those of every deep dialect.

A run's time is virtual (`FakeClock`), its provider answers over HTTP on loopback; only calls that are never
answered are waited for, a second each.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import tempfile
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anyio
from dialects import DIALECTS, Dialect
from fault_cases import SECTIONS, Case
from fault_dialects import cases_of

from bulkrate.core.run_states import RunState
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.answers import TokenCounter

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "fault-table.md"
WIDE_PAGE = PAGE.with_name("fault-table-dialects.md")
ROWS = 1_000
FEW = 200
"""Rows per line of the page of all dialects."""
LONGEST_S = 4 * 3_600.0
"""Virtual seconds after which a run that has not ended never will: four windows."""

HEAD = """\
# What each fault costs

Written by `python tests/integration/fault_table.py`, which runs {rows:,} rows through the true pipeline for
every line; do not edit. The faults are those of the
[misbehaving provider](../how-to/misbehaving-provider.md).

*Accepted* is what the provider counted: rows in batches that it would run and bill. *Allowed* is the most
the rules permit: each row once, and again what the provider took and did not answer in a usable way.
*Batches* are those that it would run; *ended* is how it left all of them. Every delivered answer was compared
with that of a provider without faults.
"""

WIDE_HEAD = """\
# What each fault costs, dialect by dialect

Written by `python tests/integration/fault_table.py --dialect all`, which runs {rows} rows through the true
pipeline for every cell; do not edit. It is the [fault table](fault-table.md) of OpenAI once more, for the six
deep dialects, each against its own counterpart.

A cell says how many rows the provider *accepted* (rows in batches that it would run and bill) and the most
the rules *allow*; then how many rows failed, where any did. All the others were delivered, each with the
answer that a provider without faults gives it. An empty cell: the dialect has no such thing (an upload at
Anthropic, a queue of tokens at Mistral), or nothing in it to tell the fault by.

More is allowed where a dialect keeps less: a Gemini batch that was cut short has no results, so all its rows
are sent again. Bedrock itself knows a create call that comes twice.
"""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a run through a fault ended. `wrong` rows were delivered with an answer that is not theirs."""

    case: Case
    rows: int
    finished: bool
    delivered: int
    failed: int
    accepted: int
    batches: int
    ended: dict[str, int]
    wrong: int
    twice: int
    unattributed: int

    @property
    def allowed(self) -> int:
        """The most rows the rules allow to be accepted."""
        return self.rows + self.case.again(self.rows)

    @property
    def kept(self) -> bool:
        """Whether the run ended as the rules have it: all rows, the right answers, none paid for in vain."""
        delivered, failed = self.rows - self.case.failed(self.rows), self.case.failed(self.rows)
        whole = self.finished and (self.delivered, self.failed) == (delivered, failed) and not self.wrong
        return whole and self.rows <= self.accepted <= self.allowed and (self.run_twice or not self.twice)

    @property
    def run_twice(self) -> bool:
        """Whether the provider itself ran a batch twice: two of one call, or one that no list shows."""
        return "duplicate_create" in self.case.faults or "list_lag=100000" in self.case.faults

    def cell(self) -> str:
        """The cell of the page of all dialects."""
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.accepted} / {self.allowed}{failed}"

    def cells(self) -> list[str]:
        """The line of the table."""
        ended = ", ".join(f"{count} {word}" for word, count in sorted(self.ended.items()))
        counts = (self.delivered, self.failed, self.accepted, self.allowed, self.batches)
        return [self.case.name(self.rows), *[f"{count:,}" for count in counts], ended]


def measure(
    case: Case,
    rows: int,
    folder: Path,
    *,
    dialect: Dialect = DIALECTS["openai"],
    count_tokens: TokenCounter | None = None,
) -> Measured:
    """Run `rows` rows through the case's faults in `folder`, which is empty."""
    clock = FakeClock()
    faults = case.faults_for(rows)
    # A window of an hour: a stuck batch is asked often enough.
    with MisbehavingProvider(
        faults,
        seed=case.seed,
        dialect=dialect.name,
        limits=dialect.limits,
        now=clock.now,
        window_s=3_600,
        count_tokens=count_tokens,
    ) as provider:
        # Where nothing expires, the end is ours.
        limits = {"OVERDUE_S": "7200", "REQUESTS": str(-(-rows // case.shards)), **case.limits}
        workspace = Workspace(
            Home.find(folder, env={}),
            clock=clock,
            env={
                **dialect.env_for(provider),
                **{f"BULKRATE_LIMITS__{name}": value for name, value in limits.items()},
            },
        )
        try:
            run = workspace.prepare(_job(folder, rows, dialect.model, structured=case.structured))
            run = workspace.approve(run, decide=lambda quote: True)
            poll_s = 60.0 if "stuck" in case.faults and "polls" not in case.faults else 1.0
            run = anyio.run(lambda: workspace.advance(run.id, poll_s=poll_s, timeout_s=LONGEST_S))
            found = report(workspace.ledger, run)
            finished = run.state is RunState.FINISHED
        finally:
            workspace.close()
        meter, snapshot = provider.meter, provider.snapshot()
    answers = _answers(folder) if finished else {}
    expected = clean_answers(rows, dialect.name, case.structured) if case.faults else answers
    return Measured(
        case=case,
        rows=rows,
        finished=finished,
        delivered=found["rows"]["succeeded"],
        failed=found["rows"]["failed"],
        accepted=meter.rows_accepted,
        batches=meter.batches_created - meter.batches_refused,
        ended=dict(Counter(item["phase"] for item in snapshot["batches"] if not item["foreign"])),
        wrong=sum(text is not None and text != expected[key] for key, text in answers.items()),
        twice=sum(count > 1 for count in meter.accepted_by_custom_id.values()),
        unattributed=found["unattributed"]["output_tokens"],
    )


@cache
def clean_answers(rows: int, dialect: str, structured: bool) -> dict[str, str | None]:
    """The answers of a provider that behaves."""
    with tempfile.TemporaryDirectory() as folder:
        measure(Case("", structured=structured), rows, Path(folder), dialect=DIALECTS[dialect])
        return _answers(Path(folder))


def _job(folder: Path, rows: int, model: str, *, structured: bool) -> Any:
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body"])
        writer.writerows(
            [f"T-{number}", f"Ticket {number:06d}: it is broken, as always."] for number in range(rows)
        )
    request = {"model": model, "prompt": "{{ body }}", "max_output_tokens": 20}
    if structured:
        request = {**request, "output": {"choice": ["bug", "question", "praise"]}}
    document = {
        "name": "faults",
        "source": {"path": "rows.csv", "key": "id"},
        "request": request,
        "sink": {"path": "answers.jsonl"},
    }
    return load_job_mapping(document, folder)


def _answers(folder: Path) -> dict[str, str | None]:
    lines = (folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    return {answer["id"]: answer["output"] for answer in map(json.loads, lines)}


def table(sections: dict[str, list[Measured]]) -> str:
    """OpenAI's page."""
    parts = [HEAD.format(rows=ROWS)]
    for title, lines in sections.items():
        head = ["fault", "delivered", "failed", "accepted", "allowed", "batches", "ended"]
        rule = ["---", *["---:"] * 5, "---"]
        body = [head, rule, *[line.cells() for line in lines]]
        parts.append(f"## {title}\n\n" + _lines(body))
    return "\n".join(parts)


def wide_table(columns: dict[str, dict[str, str]]) -> str:
    """The page of all dialects, from each one's cells by fault."""
    parts = [WIDE_HEAD.format(rows=FEW)]
    for title, cases in SECTIONS.items():
        names = [case.name(FEW) for case in cases]
        body = [[name, *[columns.get(dialect, {}).get(name, "") for dialect in DIALECTS]] for name in names]
        parts.append(f"## {title}\n\n" + _lines([["fault", *DIALECTS], ["---", *["---:"] * 6], *body]))
    return "\n".join(parts)


def _lines(table: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def written(page: Path = PAGE) -> Iterator[list[str]]:
    """The lines of a page as it was last written, as cells."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| `", line):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def columns_written() -> dict[str, dict[str, str]]:
    """The cells of the page of all dialects, by dialect and fault; empty ones left out."""
    lines = list(written(WIDE_PAGE)) if WIDE_PAGE.exists() else []
    return {
        dialect: {line[0]: line[number] for line in lines if line[number]}
        for number, dialect in enumerate(DIALECTS, 1)
    }


def _measured(case: Case, rows: int, dialect: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        done = measure(case, rows, Path(folder), dialect=DIALECTS[dialect])
    print(dialect, " ".join(done.cells()), "" if done.kept else "<<<", flush=True)
    return done


def main() -> int:
    """Measure what is asked for and write its page; 1 when a line is not as the rules have it.

    Without `--dialect`: OpenAI at a thousand rows. With it: that dialect's column of the other page, or all.
    """
    parser = ArgumentParser()
    parser.add_argument("--dialect", choices=[*DIALECTS, "all"])
    asked = parser.parse_args().dialect
    if asked is None:
        sections = {
            title: [_measured(case, ROWS, "openai") for case in SECTIONS[title]] for title in SECTIONS
        }
        PAGE.write_text(table(sections), encoding="utf-8")
        return int(not all(line.kept for lines in sections.values() for line in lines))
    kept, columns = True, columns_written()
    for dialect in DIALECTS if asked == "all" else [asked]:
        lines = [_measured(case, FEW, dialect) for _, case in cases_of(dialect)]
        kept &= all(line.kept for line in lines)
        columns[dialect] = {line.case.name(FEW): line.cell() for line in lines}
        WIDE_PAGE.write_text(wide_table(columns), encoding="utf-8")
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
