"""The order of syncs, as the kernel saw it: system calls of one traced run.

Nothing is read that is not durable: a file is written, synced, renamed, its folder synced, before the ledger
commits what refers to it; and the ledger's write-ahead log is synced before the call that the intent is
about leaves the process.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bulkrate.testing import ProviderProcess

CALLS = "write,pwrite64,writev,pwritev,fsync,fdatasync,rename,renameat,renameat2,sendto,sendmsg"
WAL = "ledger.sqlite-wal"
_LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """A system call: its name, and its arguments as strace shows them (descriptors with their paths)."""

    name: str
    text: str

    def on(self, path: str) -> bool:
        """Whether its first argument is a descriptor of a file whose path ends so."""
        return re.match(rf"\d+<[^>]*{re.escape(path)}>", self.text) is not None

    @property
    def syncs(self) -> bool:
        return self.name in ("fsync", "fdatasync")

    @property
    def writes(self) -> bool:
        return "write" in self.name


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[Call]:
    """The calls of one whole run of one shard."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    folder = tmp_path_factory.mktemp("traced")
    if subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")
    rows = [json.dumps({"id": row, "body": f"ticket {row}"}) for row in range(20)]
    (folder / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    job = {
        "name": "traced",
        "source": {"path": "rows.jsonl", "key": "id"},
        "request": {"model": "openai/gpt-3.5-turbo", "prompt": "{{ body }}", "max_output_tokens": 9},
        "sink": {"path": "answers.jsonl"},
    }
    (folder / "job.bulk.yaml").write_text(json.dumps(job), encoding="utf-8")
    with ProviderProcess("bad_rows=1,status=503") as provider:
        environment = {
            **os.environ,
            "BULKRATE_HOME": str(folder / "state"),
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
        }
        bulkrate = [str(Path(sys.executable).with_name("bulkrate")), "run", "job.bulk.yaml", "--yes"]
        trace = folder / "trace"
        options = ["-f", "-y", "-s", "200", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(trace)]
        ran = subprocess.run(
            [strace, *options, *bulkrate, "--poll", "0.05"],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False,
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    found = []
    for line in trace.read_text(encoding="utf-8", errors="replace").splitlines():
        match = _LINE.match(line)
        if match is not None:
            found.append(Call(match[1], match[2]))
    return found


@pytest.mark.parametrize(
    "name",
    [
        "raw/00000.output.jsonl.zst",
        "raw/00000.error.jsonl.zst",
        "outcomes/00000.parquet",
        "partitions/00000.parquet",
        "shards/00000.rows",
    ],
)
def test_a_file_is_durable_before_the_ledger_speaks_of_it(calls: list[Call], name: str) -> None:
    folder = name.rpartition("/")[0]
    temporary = re.compile(rf"/{re.escape(name)}\.\w+\.part")
    renames = ((at, temporary.search(call.text)) for at, call in enumerate(calls) if "rename" in call.name)
    renamed, part = next((at, match[0]) for at, match in renames if match)
    before, after = calls[:renamed], calls[renamed + 1 :]
    writes = [at for at, call in enumerate(before) if call.writes and call.on(part)]
    synced = [at for at, call in enumerate(before) if call.syncs and call.on(part)]
    assert writes and synced and synced[-1] > writes[-1], "written, then synced, then renamed"
    folder_synced = next(at for at, call in enumerate(after) if call.syncs and call.on(f"/{folder}"))
    committed = next(at for at, call in enumerate(after) if call.syncs and call.on(WAL))
    logged = next(at for at, call in enumerate(after) if call.writes and call.on(WAL))
    assert folder_synced < logged < committed, "the folder is synced before the ledger commits"


@pytest.mark.parametrize("request_line", ["POST /v1/files ", "POST /v1/batches "])
def test_an_intent_is_durable_before_its_call_leaves(calls: list[Call], request_line: str) -> None:
    sends = [at for at, call in enumerate(calls) if "socket:" in call.text.lower() or "TCP:" in call.text]
    leaving = [at for at in sends if request_line in calls[at].text]
    assert leaving, "the call was seen to leave"
    for leaves in leaving:
        logged = [at for at in range(leaves) if calls[at].writes and calls[at].on(WAL)]
        synced = [at for at in range(leaves) if calls[at].syncs and calls[at].on(WAL)]
        assert synced[-1] > logged[-1], "nothing in the ledger's log waits for a sync"
        # The intent is the last thing that was logged, and nothing else was asked for meanwhile.
        assert not any(logged[-1] < at < leaves for at in sends), "the intent comes right before its call"
