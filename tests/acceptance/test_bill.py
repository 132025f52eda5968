"""`bulkrate bill` as people and programs see it; what it adds up is tested in `tests/integration`."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import CommandLine

WithProvider = Callable[..., CommandLine]

CONTRACTS = """
[[price]]
model = "openai/gpt-3.5-turbo"
from = 2020-01-01
source = "old contract"
batch = { input = 1, output = 1 }

[[price]]
model = "openai/gpt-3.5-turbo"
from = 2999-01-01
source = "next age"
batch = { input = 9, output = 9 }
"""


def test_a_bill(with_provider: WithProvider) -> None:
    command = with_provider("truncate=2")
    (command.folder / "prices.toml").write_text(CONTRACTS)
    assert command("run", command.tickets(20), "--yes", "--poll", "0.02").code == 0

    done = command("bill", "--since", "1h", "--by", "model,attempt", "--focus", "bill.csv", "--json")
    assert done.code == 0, done.err
    found = done.json()
    assert (found["runs"], found["accepted_rows"], found["unpriced"]) == (1, 20, [])
    assert found["prices"] == [{"dated": "2020-01-01", "source": "old contract"}]
    assert Decimal(found["cost"]) == Decimal(found["tokens"]) / 1_000_000
    assert {group["attempt"] for group in found["groups"]} == {"first", "larger_cap"}
    assert set(found["wasted"]) == {"truncated"}
    with (command.folder / "bill.csv").open(newline="") as file:
        assert sum(Decimal(row["BilledCost"]) for row in csv.DictReader(file)) == Decimal(found["cost"])

    shown = command("bill", "tickets", "--since", "99999999d")
    assert shown.code == 0, shown.err
    assert shown.out.startswith("bill of run ")
    for part in (
        "by the tokens reported",
        "quoted",
        "quote error",
        " truncated\n",
        "2020-01-01 (old contract)",
        "MODEL",
    ):
        assert part in shown.out
    later = command("bill", "tickets", "--since", "2999-01-01")
    assert (later.code, later.out.splitlines()[0]) == (0, "bill of 0 runs")
    wrong = command("bill", "--by", "colour")
    assert (wrong.code, "--by takes model, lane" in wrong.err) == (2, True)


def test_a_bill_by_the_tags_of_jobs(with_provider: WithProvider) -> None:
    command = with_provider()
    job = command.tickets(4, more="tags: {team: support, env: prod}\n")
    command.ran(job)
    command.tickets(4, more="tags: {team: sales}\n")
    command.ran(job, fresh=True)
    done = command("bill", "--by", "tag", "--focus", "bill.csv", "--json")
    assert {group["tag"] for group in done.json()["groups"]} == {"env=prod team=support", "team=sales"}
    with (command.folder / "bill.csv").open(newline="") as file:
        tags = {row["Tags"] for row in csv.DictReader(file)}
    assert {json.loads(each)["team"] for each in tags} == {"support", "sales"}
    assert {json.loads(each)["bulkrate/job"] for each in tags} == {"tickets"}


def test_what_has_no_price_is_said_so(with_provider: WithProvider) -> None:
    command = with_provider("truncate=2")
    job = command.tickets(20, model="openai/of-no-price")
    assert command("run", job, "--yes", "--poll", "0.02").code == 0
    out = command("bill").out
    assert "cost        not known: no price for openai/of-no-price" in out
    assert "wasted      truncated: no price is known" in out


def test_no_runs_no_bill(bulkrate: CommandLine) -> None:
    done = bulkrate("bill", "--json")
    assert done.code == 0, done.err
    found = done.json()
    assert (found["runs"], found["cost"], found["per_accepted_row"], found["groups"]) == (0, "0", None, [])


@pytest.mark.skipif(
    shutil.which("focus-validator") is None,
    reason="focus-validator needs Python 3.12 and NumPy 1: `uv tool install --python 3.12 focus-validator`",
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_focus_validator_accepts_it(with_provider: WithProvider, ending: str) -> None:
    command = with_provider("truncate=2")
    assert command("run", command.tickets(20), "--yes", "--poll", "0.02").code == 0
    file = command.folder / f"bill.{ending}"
    assert command("bill", "--focus", str(file)).code == 0
    program = shutil.which("focus-validator")
    assert program is not None
    (package,) = Path(program).resolve().parents[1].glob("lib/python3*/site-packages/focus_validator")
    arguments = ["--data-file", file, "--validate-version", "1.2.0.1", "--block-download"]
    # It reads a file of its own by a path relative to where it is installed.
    done = subprocess.run(
        [program, *arguments], cwd=package.parent, capture_output=True, text=True, check=False
    )
    assert "Total: " in done.stdout, done.stderr
    failed = {line.split()[1] for line in done.stdout.splitlines() if ": FAIL " in line}
    # "Null without an invoice" and "not null with one" are both tried on every row: one always fails.
    assert failed == {"InvoiceId-C-005-C:"}
