"""A slice of the soak in every test run: virtual seeds, a planted bug, and a few real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import planted
import pytest
from soak_real import real_run
from soak_run import run_seed

SOAK = Path(__file__).with_name("soak.py")


@pytest.mark.parametrize("first", [1, *(pytest.param(first, marks=pytest.mark.soak) for first in (11, 21))])
def test_virtual_runs(first: int) -> None:
    broken = {seed: run_seed(seed).violation for seed in range(first, first + 10)}
    assert not any(broken.values()), {seed: said for seed, said in broken.items() if said}


def test_the_same_seed_is_the_same_run() -> None:
    first, second = run_seed(7), run_seed(7)
    assert (first.moments, first.calls, first.virtual_s) == (second.moments, second.calls, second.virtual_s)


@pytest.mark.parametrize(
    "bug", ["doubt_is_not_sent", pytest.param("trust_the_order", marks=pytest.mark.soak)]
)
def test_a_planted_bug_is_caught(bug: str) -> None:
    command = [sys.executable, str(SOAK), "--plant", bug, "--seed", "1"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(found.stdout)["violation"]


@pytest.mark.parametrize("bug", planted.BUGS)
def test_a_planted_bug_has_its_place(bug: str) -> None:
    """The list of bugs follows the code: each text is there exactly once."""
    source = Path(__file__).parents[2] / "src" / planted.BUGS[bug].module.replace(".", "/")
    assert source.with_suffix(".py").read_text(encoding="utf-8").count(planted.BUGS[bug].text) == 1


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_real_processes(seed: int) -> None:
    assert real_run(seed) is None
