"""The soak: many small runs in virtual time, planted bugs, and real processes that are really killed.

    python tests/soak/soak.py --runs 5000 --seed 1      seeds 1 to 5000; 0 when no rule was broken
    python tests/soak/soak.py --replay 4711             one seed again, with its story
    python tests/soak/soak.py --planted                 every planted bug must be caught
    python tests/soak/soak.py --real 200 --seed 1       real processes, real SIGKILL

The parts may be combined; a summary of each is printed at its end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import planted

HERE = Path(__file__)
MOST_RUNS_PER_BUG = 1500


def main() -> int:
    """Run what is asked for; 1 when a rule was broken or a planted bug was not caught."""
    options = _parser().parse_args()
    if options.plant:
        planted.plant(options.plant)
        return _hunt(options)
    if options.replay is not None:
        return _replay(options.replay)
    failed = False
    if options.runs:
        failed |= virtual(options.runs, options.seed, options.jobs)
    if options.planted is not None:
        failed |= bugs(options.planted or list(planted.BUGS), options.seed, options.jobs)
    if options.real:
        from soak_real import real

        failed |= real(options.real, options.seed, options.jobs)
    return int(failed)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Seeded random runs with faults and kills.")
    parser.add_argument("--runs", type=int, default=0, help="runs in virtual time")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument("--real", type=int, default=0, help="runs with real processes and real SIGKILL")
    parser.add_argument(
        "--planted", nargs="*", metavar="BUG", help="planted bugs (default: all) to be caught"
    )
    parser.add_argument("--replay", type=int, metavar="SEED", help="one run again, and its story")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: the cores)"
    )
    parser.add_argument("--plant", metavar="BUG", help=argparse.SUPPRESS)
    return parser


def virtual(runs: int, seed: int, jobs: int) -> bool:
    """Runs in virtual time; whether a rule was broken."""
    began = time.monotonic()
    kills: Counter[str] = Counter()
    troubles: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, maxtasksperchild=500) as pool:
        for result in pool.imap_unordered(_one, range(seed, seed + runs), chunksize=5):
            kills += result.kills
            troubles += result.troubles
            totals += Counter(
                runs=1, moments=result.moments, calls=result.calls, batches=result.batches,
                virtual_s=int(result.virtual_s), overtaken=result.overtaken,
            )  # fmt: skip
            if result.violation is not None:
                broken.append((result.seed, result.violation))
                print(f"seed {result.seed}: {result.violation}", flush=True)
            if totals["runs"] % 500 == 0:
                print(f"{totals['runs']} runs, {len(broken)} violations", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    print(
        f"virtual: {totals['runs']} runs, seeds {seed} to {seed + runs - 1}: {len(broken)} violations; "
        f"{kills.total()} kills at {len(kills)} kinds of moment, "
        f"{totals['overtaken']} processes stopped past their lease, {troubles.total()} network troubles of "
        f"{len(troubles)} kinds, {totals['batches']} batches, {totals['calls']} calls, "
        f"{totals['moments']} moments checked, {totals['virtual_s'] / 86400:.0f} days of virtual time, "
        f"in {seconds:.0f} s ({totals['runs'] / seconds:.1f} runs a second, {jobs} processes)"
    )
    return bool(broken)


def _one(seed: int) -> Any:
    from soak_run import run_seed

    return run_seed(seed)


def _replay(seed: int) -> int:
    result = _one(seed)
    print("\n".join(result.story))
    print(f"seed {seed}: {result.violation or 'every rule held'}")
    return int(result.violation is not None)


def bugs(names: list[str], seed: int, jobs: int) -> bool:
    """Plant each bug in a process of its own and let the soak find it; whether one was not found."""

    def hunt(name: str) -> dict[str, Any]:
        command = [sys.executable, str(HERE), "--plant", name, "--seed", str(seed)]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        if found.returncode:
            said = f"exit code {found.returncode} {found.stderr.strip()[-300:]}"
            return {"bug": name, "seed": None, "runs": 0, "violation": said}
        caught: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
        return caught

    print("| planted bug | caught by seed | runs it took | what was seen |\n|---|---|---|---|")
    missed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for row in pool.map(hunt, names):
            missed += row["seed"] is None
            meaning = planted.BUGS[row["bug"]].meaning
            print(
                f"| `{row['bug']}`: {meaning} | {row['seed'] or '**not caught**'} | {row['runs']} "
                f"| {row['violation'] or ''} |",
                flush=True,
            )
    print(f"planted: {len(names) - missed} of {len(names)} caught")
    return bool(missed)


def _hunt(options: argparse.Namespace) -> int:
    """In the process of a planted bug: run until a rule is broken."""
    for nth, seed in enumerate(range(options.seed, options.seed + MOST_RUNS_PER_BUG), 1):
        result = _one(seed)
        if result.violation is not None:
            said = re.sub(r"/\S*/", "…/", " ".join(result.violation.split()))[:160].replace("|", "/")
            print(json.dumps({"bug": options.plant, "seed": seed, "runs": nth, "violation": said}))
            return 0
    print(json.dumps({"bug": options.plant, "seed": None, "runs": MOST_RUNS_PER_BUG, "violation": None}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
