"""CPU time and peak memory of a command and all its children."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

SAMPLE_S = 0.05


@dataclass(frozen=True, slots=True)
class Measured:
    """One command: user and system seconds, wall seconds, peak bytes, and the JSON it printed last.

    `cpu_s` is of the whole process, imports included, and of the children it waited for.
    """

    cpu_s: float
    wall_s: float
    peak_bytes: int
    said: dict[str, Any]


def measure(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Measured:
    """Run `command` (Python arguments) to its end. Raises `CalledProcessError` when it fails."""
    began = time.perf_counter()
    whole = [sys.executable, *map(str, command)]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, env=dict(env) if env else None) as process:
        peak = _Peak(process.pid)
        peak.start()
        assert process.stdout is not None
        output = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        peak.stop()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, whole)
    lines = output.splitlines()
    said = orjson.loads(lines[-1]) if lines and lines[-1].startswith(b"{") else {}
    return Measured(usage.ru_utime + usage.ru_stime, time.perf_counter() - began, peak.bytes, said)


class _Peak(threading.Thread):
    """Samples the proportional set size of a process tree: shared pages count once.

    The processes are read one after the other; when one ends meanwhile, its shared pages are counted twice.
    So a peak is what two samples in a row have reached. Pages that strangers share count in part only: other
    Python processes make the figure smaller.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.bytes = 0
        self._pid = pid
        self._over = threading.Event()

    def run(self) -> None:
        before = 0
        while not self._over.wait(SAMPLE_S):
            now = sum(map(_pss_bytes, _tree(self._pid)))
            self.bytes = max(self.bytes, min(before, now))
            before = now

    def stop(self) -> None:
        self._over.set()
        self.join()


def _tree(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _pss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError), Path(f"/proc/{pid}/smaps_rollup").open(encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0


class Stopwatch:
    """CPU and wall time of a part of this process; the children's counts once they have been waited for."""

    def __init__(self) -> None:
        self._began = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float]:
        times = os.times()
        return times.user + times.system, times.children_user + times.children_system, times.elapsed

    def read(self) -> dict[str, float]:
        """Seconds since the start: `cpu_s` in all, `own_cpu_s` of this process, `wall_s`."""
        own, children, elapsed = (now - then for now, then in zip(self._now(), self._began, strict=True))
        return {"cpu_s": own + children, "own_cpu_s": own, "wall_s": elapsed}


def say(**fields: Any) -> None:
    """Print one JSON line, for `measure`."""
    print(orjson.dumps(fields).decode())
