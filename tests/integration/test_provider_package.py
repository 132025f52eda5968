"""A provider from a wheel that was built and installed apart from Bulkrate, found by its entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).with_name("provider_package")


def built(folder: Path) -> Path:
    """The package's wheel, made by its own build backend."""
    copy = folder / "source"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from hatchling.build import build_wheel; print(build_wheel('dist'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, check=True, capture_output=True, text=True)
    return copy / "dist" / done.stdout.split()[-1]


def test_a_provider_from_a_wheel_of_its_own(tmp_path: Path, misbehaving_provider: Any) -> None:
    wheel = built(tmp_path)
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:  # what an installer does with a wheel that has no scripts
        archive.extractall(target)
    server = misbehaving_provider(answer=lambda body: body["messages"][0]["content"].upper())
    rows = [json.dumps({"id": f"T-{n}", "text": f"ticket {n}"}) for n in range(25)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "job.bulk.yaml").write_text(
        "name: rocket\nsource: {path: rows.jsonl, key: id}\n"
        "request: {model: rocket/r-1, prompt: '{{ text }}', max_output_tokens: 9}\n"
        "lane: {poll: 0.05}\n",
        encoding="utf-8",
    )
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(target), os.environ.get("PYTHONPATH", "")]),
        "BULKRATE_LIMITS__LISTING_LAG_S": "0",
        "ROCKET_KEY": server.api_key,
        "ROCKET_URL": server.base_url,
    }
    bulkrate = str(Path(sys.executable).with_name("bulkrate"))
    command = [bulkrate, "run", "job.bulk.yaml", "--yes", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["succeeded"] == 25
    answers = (tmp_path / "rocket.answers.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(answers[24])["output"] == "TICKET 24"
    assert server.meter.batches_created == 3
