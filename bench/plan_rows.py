"""`bulkrate plan` over made-up tickets, its count beside tiktoken's: prints one JSON line.

    .venv/bin/python bench/plan_rows.py [--rows 1000000] [--models A,B] [--check]

``--check`` counts every row with tiktoken, too, after the plan was timed: a difference ends the run with exit
code 1. Peak memory is that of all processes together.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from itertools import islice
from pathlib import Path

import orjson

from measuring import measure, say
from tickets import MODEL, rows, write_source
from token_counts import reference

PROMPT = "Which department is this ticket for? {subject} {body}"
JOB = f"""\
name: bench
source: {{path: tickets.jsonl, key: id}}
request:
  model: openai/{MODEL}
  prompt: "{PROMPT.format(subject="{{ subject }}", body="{{ body }}")}"
  max_output_tokens: 10
"""
CHUNK_ROWS = 10_000


def tiktoken_count(count: int) -> int:
    """Prompt tokens of all tickets: 3 for the message, its role, its text, 3 for the opening of the reply."""
    encoding = reference("o200k_base")
    around = 3 + len(encoding.encode("user")) + 3
    total, source = 0, rows(count)
    while chunk := list(islice(source, CHUNK_ROWS)):
        texts = [PROMPT.format(**row) for row in chunk]
        total += sum(len(tokens) + around for tokens in encoding.encode_ordinary_batch(texts))
    return total


def main() -> int:
    """Time the plan, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--models", default="openai/gpt-5-mini,anthropic/claude-haiku-4-5")
    parser.add_argument("--check", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        write_source(place / "tickets.jsonl", asked.rows)
        (place / "bench.bulk.yaml").write_text(JOB)
        command = "import sys; from bulkrate.cli.app import main; sys.exit(main(sys.argv[1:]))"
        plan = measure(
            ["-c", command, "plan", place / "bench.bulk.yaml", "--models", asked.models],
            os.environ | {"BULKRATE_HOME": str(place / "state"), "BULKRATE_NO_PROGRESS": "1"},
        )
        found = orjson.loads((place / "bench.plan.json").read_bytes())
    counted = tiktoken_count(asked.rows) if asked.check else None
    say(
        rows=found["rows"]["to_send"],
        input_tokens=found["input_tokens"],
        tiktoken=counted,
        wall_s=round(plan.wall_s, 1),
        cpu_s=round(plan.cpu_s, 1),
        peak_mb=plan.peak_bytes // 10**6,
    )
    return int(counted not in (None, found["input_tokens"]))


if __name__ == "__main__":
    sys.exit(main())
