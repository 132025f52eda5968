"""Run the true pipeline through every fault, and write the table: `python tests/integration/fault_table.py`.

A run's time is virtual (`FakeClock`), its provider answers over HTTP on loopback; only calls that are never
answered are waited for, a second each.
"""

from __future__ import annotations

import csv
import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anyio
from fault_cases import SECTIONS, Case

from bulkrate.core.run_states import RunState
from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.answers import TokenCounter

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "fault-table.md"
ROWS = 1_000
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

    def cells(self) -> list[str]:
        """The line of the table."""
        ended = ", ".join(f"{count} {word}" for word, count in sorted(self.ended.items()))
        counts = (self.delivered, self.failed, self.accepted, self.allowed, self.batches)
        return [self.case.name(self.rows), *[f"{count:,}" for count in counts], ended]


def measure(case: Case, rows: int, folder: Path, *, count_tokens: TokenCounter | None = None) -> Measured:
    """Run `rows` rows through the case's faults in `folder`, which is empty."""
    clock = FakeClock()
    faults = case.faults_for(rows)
    # A window of an hour: a stuck batch is asked often enough.
    with MisbehavingProvider(
        faults, seed=case.seed, now=clock.now, window_s=3_600, count_tokens=count_tokens
    ) as provider:
        limits = {"REQUESTS": str(-(-rows // case.shards)), **case.limits}
        workspace = Workspace(
            Home.find(folder, env={}),
            clock=clock,
            env={
                "OPENAI_API_KEY": provider.api_key,
                "OPENAI_BASE_URL": provider.base_url,
                **{f"BULKRATE_LIMITS__{name}": value for name, value in limits.items()},
            },
        )
        try:
            run = workspace.prepare(_job(folder, rows, structured=case.structured))
            run = workspace.approve(run, decide=lambda quote: True)
            poll_s = 60.0 if "stuck" in case.faults and "polls" not in case.faults else 1.0
            run = anyio.run(lambda: workspace.advance(run.id, poll_s=poll_s, timeout_s=LONGEST_S))
            found = report(workspace.ledger, run)
            finished = run.state is RunState.FINISHED
        finally:
            workspace.close()
        meter, snapshot = provider.meter, provider.snapshot()
    answers = _answers(folder) if finished else {}
    expected = clean_answers(rows, case.structured) if case.faults else answers
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
def clean_answers(rows: int, structured: bool) -> dict[str, str | None]:
    """The answers of a provider that behaves."""
    with tempfile.TemporaryDirectory() as folder:
        measure(Case("", structured=structured), rows, Path(folder))
        return _answers(Path(folder))


def _job(folder: Path, rows: int, *, structured: bool) -> Any:
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body"])
        writer.writerows(
            [f"T-{number}", f"Ticket {number:06d}: it is broken, as always."] for number in range(rows)
        )
    request = {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 20}
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
    """The page."""
    parts = [HEAD.format(rows=ROWS)]
    for title, lines in sections.items():
        head = ["fault", "delivered", "failed", "accepted", "allowed", "batches", "ended"]
        rule = ["---", *["---:"] * 5, "---"]
        body = [head, rule, *[line.cells() for line in lines]]
        parts.append(f"## {title}\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in body))
    return "\n".join(parts)


def written() -> Iterator[list[str]]:
    """The lines of the table as it was last written, as cells."""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.match(r"\| `", line):
            yield cells


def main() -> int:
    """Measure everything at a thousand rows; 1 when a line is over what is allowed."""
    worst, sections = 0, dict[str, list[Measured]]()
    for title, cases in SECTIONS.items():
        sections[title] = []
        for case in cases:
            with tempfile.TemporaryDirectory() as folder:
                done = measure(case, ROWS, Path(folder))
            sections[title].append(done)
            print(" ".join(done.cells()), flush=True)
            worst |= done.accepted > done.allowed or not done.finished or bool(done.wrong)
    PAGE.write_text(table(sections), encoding="utf-8")
    return worst


if __name__ == "__main__":
    sys.exit(main())
