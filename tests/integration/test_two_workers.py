"""Two processes and one run: the second takes over when the lease of a stopped one is over, and the first,
woken up again, changes nothing and pays for nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bulkrate.testing import ProviderProcess

BULKRATE = str(Path(sys.executable).with_name("bulkrate"))
ROWS = 20


def start(folder: Path, provider: ProviderProcess) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "BULKRATE_HOME": str(folder / "state"),
        "OPENAI_API_KEY": provider.api_key,
        "OPENAI_BASE_URL": provider.base_url,
        "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "1.5",
        "BULKRATE_LIMITS__UPLOAD_TIMEOUT_S": "1.5",
        "BULKRATE_LIMITS__LISTING_LAG_S": "0.2",
        "BULKRATE_LIMITS__LEASE_MARGIN_S": "0.2",
    }
    command = [BULKRATE, "run", "job.bulk.yaml", "--yes", "--poll", "0.02", "--json"]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.soak), "after"])
def test_a_worker_stopped_inside_create_past_its_lease(
    tmp_path: Path, misbehaving_provider_process: Any, when: str
) -> None:
    provider = misbehaving_provider_process(f"hold_create=1,when={when}")
    lines = [json.dumps({"id": number, "body": f"ticket {number}"}) for number in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    job = {
        "name": "shared",
        "source": {"path": "rows.jsonl", "key": "id"},
        "request": {"model": "openai/gpt-3.5-turbo", "prompt": "{{ body }}", "max_output_tokens": 9},
        "sink": {"path": "answers.jsonl"},
    }
    (tmp_path / "job.bulk.yaml").write_text(json.dumps(job), encoding="utf-8")

    first = start(tmp_path, provider)
    try:
        provider.wait("create_held", timeout_s=60)
        os.kill(first.pid, signal.SIGSTOP)
        # Refused with exit code 3 while the lease runs; each try takes about as long as a process does.
        for _ in range(60):
            second = start(tmp_path, provider)
            said, errors = second.communicate(timeout=60)
            if second.returncode != 3:
                break
            assert "is being driven by" in errors
        assert second.returncode == 0, errors
        assert json.loads(said)["rows"]["succeeded"] == ROWS
        answers = (tmp_path / "answers.jsonl").read_bytes()

        provider.release("create")
    finally:
        os.kill(first.pid, signal.SIGCONT)
        first.communicate(timeout=60)

    assert first.returncode in (0, 3)
    assert provider.meter.batches_created == 1
    assert provider.meter.rows_accepted == ROWS
    assert (tmp_path / "answers.jsonl").read_bytes() == answers
