"""The help is there at once: nothing heavy is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command_line import BULKRATE, CommandLine

VERBS = "init check run submit wait status list results retry recollect cancel schema serve clean"
HEAVY = {
    "alembic",
    "anyio",
    "asyncio",
    "genai_prices",
    "minijinja",
    "numpy",
    "openai",
    "orjson",
    "pyarrow",
    "pydantic",
    "rich",
    "sqlalchemy",
    "yaml",
    "zstandard",
}


def imported(*command: str) -> set[str]:
    """Top-level modules that a Python command imports."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *command], capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["--help"], set()),
        (["--version"], {"pydantic"}),
        # typer checks the values of options with pydantic, those of the command before the verb included.
        (["run", "--help"], {"pydantic"}),
    ],
)
def test_help_imports_nothing_heavy(arguments: list[str], allowed: set[str]) -> None:
    assert imported(str(BULKRATE), *arguments) & HEAVY <= allowed


def test_importing_the_package_is_light() -> None:
    assert imported("-c", "import bulkrate") & (HEAVY | {"typer"}) == set()


def test_every_verb_has_help_by_both_names(bulkrate: CommandLine) -> None:
    shown = bulkrate("-h")
    assert shown.code == 0
    assert shown.out == bulkrate("--help").out
    for verb in VERBS.split():
        assert f"\n  {verb} " in shown.out
