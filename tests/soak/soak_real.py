"""Real processes and real SIGKILL: `bulkrate run`, killed at random moments, against a provider process."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from bulkrate.testing import ProviderProcess

DYING = Path(__file__).parents[1] / "integration" / "dying_run.py"
ATTEMPTS = 3
# Moments to die at: every effect, and every commit that a run with faults makes.
MOMENTS = [
    f"{name}.{side}"
    for name in (
        "adopt", "upload", "create", "create", "poll", "download", "find", "fence", "deliver",
        *(f"ledger.{commit}" for commit in (
            "begin", "assembled", "approved", "take", "upload_intended", "upload_answered", "create_intended",
            "create_answered", "create_unknown", "found", "fence", "absent", "progress", "batch_ended",
            "results_landed", "collected", "resend", "settled", "release", "delivered", "recover",
        )),
    )
    for side in ("before", "after")
]  # fmt: skip


def real(runs: int, seed: int, jobs: int) -> bool:
    """`runs` runs; whether a rule was broken."""
    began = time.monotonic()
    died: Counter[str] = Counter()
    with ThreadPoolExecutor(jobs) as pool:
        said = list(pool.map(lambda one: real_run(one, died), range(seed, seed + runs)))
    broken = {seed + nth: what for nth, what in enumerate(said) if what is not None}
    for one, what in broken.items():
        print(f"real seed {one}: {what}")
    print(
        f"real: {runs} runs, seeds {seed} to {seed + runs - 1}: {len(broken)} violations; {died.total()} "
        f"processes killed at {len(died)} kinds of moment, in {time.monotonic() - began:.0f} s"
    )
    return bool(broken)


def real_run(seed: int, died: Counter[str] | None = None) -> str | None:
    """One run: killed up to three times, then left to finish; says which rule was broken."""
    dice = random.Random(f"real/{seed}")
    rows, shard_rows = dice.randint(5, 30), dice.choice([5, 10, 30])
    faults = dice.choice(
        ["", "", f"missing={dice.randint(1, 4)}", f"bad_rows={dice.randint(1, 3)},status=503",
         f"expire_after={dice.randint(0, 5)}", "status_503=2,batches=all",
         f"missing=1 create_unanswered=1,when={dice.choice(['before', 'after'])}"]
    )  # fmt: skip
    with (
        tempfile.TemporaryDirectory(prefix="soak-real-") as name,
        ProviderProcess(faults, seed=seed) as provider,
    ):
        folder = Path(name)
        _write_job(folder, rows)
        environment = {
            **os.environ,
            "BULKRATE_HOME": str(folder / "state"),
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
            "BULKRATE_LIMITS__REQUESTS": str(shard_rows),
            "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "0.6",
            "BULKRATE_LIMITS__LISTING_LAG_S": "0.2",
        }
        command = ["run", "job.bulk.yaml", "--yes", "--poll", "0.02", "--json"]
        for _ in range(dice.choice([1, 1, 2, 3])):
            moment, nth = dice.choice(MOMENTS), dice.choice([1, 1, 2])
            ended = _process([str(DYING), moment, str(nth), *command], folder, environment)
            if ended.returncode == -signal.SIGKILL:
                if died is not None:
                    died[moment] += 1
            elif ended.returncode != 0:
                return f"exit code {ended.returncode} before {moment} {nth}: {ended.stderr[-300:]}"
        ended = _process([str(DYING), "never", "1", *command], folder, environment)
        if ended.returncode != 0:
            return f"exit code {ended.returncode} at the end: {ended.stderr[-300:]}"
        return _audit(folder, rows, json.loads(ended.stdout), provider.snapshot(), provider.meter)


def _write_job(folder: Path, rows: int) -> None:
    lines = [orjson.dumps({"id": f"T-{row}", "body": f"ticket {row}"}) for row in range(rows)]
    (folder / "rows.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    job = {
        "name": "real",
        "source": {"path": "rows.jsonl", "key": "id"},
        "request": {"model": "openai/gpt-3.5-turbo", "prompt": "{{ body }}", "max_output_tokens": 30},
        "sink": {"path": "answers.jsonl"},
        "attempts": ATTEMPTS,
    }
    (folder / "job.bulk.yaml").write_text(json.dumps(job), encoding="utf-8")


def _process(arguments: list[str], folder: Path, environment: dict[str, str]) -> Any:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip


def _audit(folder: Path, rows: int, told: dict[str, Any], state: dict[str, Any], meter: Any) -> str | None:
    lines = [orjson.loads(line) for line in (folder / "answers.jsonl").read_bytes().splitlines()]
    if [line["id"] for line in lines] != [f"T-{row}" for row in range(rows)]:
        return f"{rows} rows in, {len(lines)} out, or in another order"
    if {line["status"] for line in lines} != {"succeeded"} or told["rows"]["succeeded"] != rows:
        return f"not every row succeeded: {told['rows']}"
    if len({line["output"] for line in lines}) != rows:
        return "two rows have the same answer"
    # `attempts` is how often the run says it sent each row; the provider must have taken exactly as many.
    if sum(line["attempts"] for line in lines) != meter.rows_accepted:
        return f"{sum(line['attempts'] for line in lines)} attempts told, {meter.rows_accepted} rows accepted"
    shards = Counter((batch["metadata"] or {}).get("bulkrate_shard") for batch in state["batches"])
    twice = [shard for shard, times in shards.items() if times > 1]
    return f"shards {twice} were accepted twice" if twice else None
