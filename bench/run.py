"""The budgets of DESIGN section 7, measured as ratios in one run: `make bench`.

    .venv/bin/python bench/run.py [--rows 200000] [--only PART …] [--json] [--keep FOLDER]

CPU time is user plus system time of a process and its children; both sides of a ratio are measured one after
the other, so that what else the machine does touches both. Wall time is used for one line only, both cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from bulkrate.jobs.load import load_job_mapping
from bulkrate.pipeline.encode import TemplateEncoder
from bulkrate.pipeline.setup import Setup
from bulkrate.testing import ProviderProcess
from measuring import Measured, measure
from tickets import MODEL, job_over, write_source

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("bulkrate")
PARTS = ("assemble", "collect", "pipeline", "memory", "help", "tokens")
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table."""

    what: str
    ours: str
    baseline: str
    measured: float
    budget: float
    unit: str
    smaller_is_better: bool = True

    @property
    def kept(self) -> bool:
        return self.measured <= self.budget if self.smaller_is_better else self.measured >= self.budget


class Bench:
    """One run: a folder with a source, and what was measured so far."""

    def __init__(self, folder: Path, rows: int, rounds: int) -> None:
        self.folder = folder
        self.rows = rows
        self.rounds = rounds
        self.lines: list[Line] = []
        self.source = folder / f"tickets-{rows}.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        if not self.source.exists():
            write_source(self.source, rows)
        self._rest = orjson.dumps(constant_fields(self.source)).decode()
        self._pipeline: Measured | None = None

    def fresh(self, name: str) -> Path:
        """An empty place."""
        path = self.folder / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        return path

    def best(self, run: Callable[[], Measured]) -> Measured:
        """The round with the least CPU time."""
        return min((run() for _ in range(self.rounds)), key=lambda m: m.said.get("cpu_s", m.cpu_s))

    def assemble(self) -> None:
        """Rows to request lines on disk."""
        ours = self.best(lambda: self._assemble(1))
        plain = self.best(
            lambda: measure(
                [HERE / "baselines/assemble_loop.py", self.source, self._rest, self.fresh("lines.jsonl")]
            )
        )
        self._ratio("assemble, no token count", ours, plain, 2.5)
        self._check_lines()
        self._cores("assemble", ours, self.best(lambda: self._assemble(2)))

    def _assemble(self, workers: int) -> Measured:
        return self._stage("assemble", self.fresh(f"home-{workers}"), workers)

    def _stage(self, name: str, home: Path, workers: int) -> Measured:
        return measure([HERE / "stages.py", name, self.source, home, "--workers", workers])

    def _check_lines(self) -> None:
        """Both sides wrote the same bodies."""
        from bulkrate.ledger.home import Home
        from bulkrate.pipeline.run_folder import RunFolder

        home = Home(self.folder / "home-1")
        (run,) = (path.name for path in (home.root / "runs").iterdir())
        with (self.folder / "lines.jsonl").open("rb") as lines:
            for body, line in zip(RunFolder(home.run_dir(run)).lines(0), lines, strict=False):
                if orjson.loads(body) != orjson.loads(line)["body"]:
                    raise SystemExit("the plain loop writes other requests")

    def collect(self) -> None:
        """Shuffled results to outcomes, ledger and the joined sink."""
        results = self.fresh("results")
        ours = self.best(lambda: self._collect(results))
        plain = self.best(
            lambda: measure(
                [
                    HERE / "baselines/collect_loop.py",
                    self.source,
                    self.fresh("answers.jsonl"),
                    *sorted(results.iterdir()),
                ]
            )
        )
        self._ratio("collect and join", ours, plain, 1.5)

    def _collect(self, results: Path) -> Measured:
        """A run of its own each time: what is collected stays so."""
        home = self.fresh("home-collect")
        self._stage("assemble", home, 2)
        measure([HERE / "stages.py", "land", self.source, home, results])
        return self._stage("collect", home, 1)

    def pipeline(self) -> None:
        """The whole command against a provider on loopback, and the plain loop with the SDK."""
        ours = self._run()
        with ProviderProcess(track_ids=False) as provider:
            env = os.environ | {"OPENAI_API_KEY": provider.api_key, "OPENAI_BASE_URL": provider.base_url}
            command = [HERE / "baselines/pipeline_loop.py", self.source, self._rest, self.fresh("plain")]
            plain = measure(command, env)
        self._ratio("whole pipeline", ours, plain, 3.0)

    def _run(self) -> Measured:
        if self._pipeline is None:
            folder = self.fresh("whole")
            folder.mkdir()
            source = folder / "tickets.jsonl"
            os.link(self.source, source)
            job = job_over(source)
            document = orjson.dumps(
                {
                    "name": job.name,
                    **job.model_dump(
                        mode="json", include={"source", "request", "lane", "sink"}, exclude_unset=True
                    ),
                }
            )
            load_job_mapping(orjson.loads(document), folder)
            (folder / "bench.bulk.yaml").write_bytes(document)
            with ProviderProcess(track_ids=False) as provider:
                env = os.environ | {
                    "OPENAI_API_KEY": provider.api_key,
                    "OPENAI_BASE_URL": provider.base_url,
                    "BULKRATE_HOME": str(folder / "home"),
                    "NO_COLOR": "1",
                }
                command = [COMMAND, "run", folder / "bench.bulk.yaml", "--yes", "--json"]
                self._pipeline = measure(command, env)
        return self._pipeline

    def memory(self) -> None:
        """Peak of the whole pipeline."""
        peak = self._run().peak_bytes / MB
        self.lines.append(
            Line(f"peak memory, {self.rows:,} rows", f"{peak:.0f} MB", "", round(peak), 300, "MB")
        )

    def help(self) -> None:
        """Start-up of the command."""
        took = min((measure([COMMAND, "--help"]) for _ in range(5)), key=lambda m: m.cpu_s)
        seconds = took.cpu_s
        self.lines.append(Line("bulkrate --help, CPU", f"{seconds:.2f} s", "", round(seconds, 3), 0.3, "s"))

    def tokens(self) -> None:
        """Exact counts beside tiktoken's."""
        said = measure([HERE / "token_counts.py"]).said
        if said["texts_that_differ"]:
            raise SystemExit("token counts differ")
        self.lines.append(
            Line(
                "exact token counts",
                f"{said['seconds']} s",
                f"{said['tiktoken_seconds']} s",
                said["ratio"],
                5,
                "x as fast",
                smaller_is_better=False,
            )
        )

    def _ratio(self, what: str, ours: Measured, plain: Measured, budget: float) -> None:
        mine, theirs = (m.said.get("cpu_s", m.cpu_s) for m in (ours, plain))
        self.lines.append(
            Line(
                what,
                f"{mine:.2f} s CPU",
                f"{theirs:.2f} s CPU",
                round(mine / theirs, 2),
                budget,
                "x the plain loop",
            )
        )

    def _cores(self, what: str, one: Measured, two: Measured) -> None:
        """Wall time, and what it comes to by CPU time: on a busy machine only the latter means anything."""
        alone, together = one.said["wall_s"], two.said["wall_s"]
        cpu = one.said["cpu_s"] / max(two.said["cpu_s"] / 2, two.said["own_cpu_s"])
        self.lines.append(
            Line(
                f"{what}, both cores",
                f"{together:.2f} s wall ({cpu:.2f} x by CPU)",
                f"{alone:.2f} s wall, one core",
                round(alone / together, 2),
                1.7,
                "x one core",
                smaller_is_better=False,
            )
        )


def constant_fields(source: Path) -> dict[str, object]:
    """What all bodies have in common, for the plain loop; `system` apart."""
    encoder = Setup(job_over(source), {}).encoder
    assert isinstance(encoder, TemplateEncoder)
    encoded = encoder.encode({"product": "", "subject": "", "body": "x"})
    body = orjson.loads(encoded.body)
    messages = body.pop("messages")
    return {**body, "model": MODEL, "system": messages[0]["content"]}


def machine() -> str:
    """The kind of machine, without its name."""
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3, help="the best of so many")
    parser.add_argument("--only", choices=PARTS, action="append")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", type=Path, help="work in this folder, and leave it")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="bulkrate-bench-"))
    try:
        bench = Bench(folder, options.rows, options.rounds)
        for part in options.only or PARTS:
            getattr(bench, part)()
    except subprocess.CalledProcessError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        if options.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        print(
            orjson.dumps(
                {
                    "machine": machine(),
                    "rows": options.rows,
                    "lines": [asdict(line) | {"kept": line.kept} for line in bench.lines],
                }
            ).decode()
        )
        return 0
    print(f"{options.rows:,} rows, {machine()}\n")
    print("| what | Bulkrate | plain | measured | budget | |")
    print("|---|---|---|---|---|---|")
    for line in bench.lines:
        sign = "at most" if line.smaller_is_better else "at least"
        verdict = "kept" if line.kept else "**missed**"
        print(
            f"| {line.what} | {line.ours} | {line.baseline} | {line.measured:g} {line.unit} "
            f"| {sign} {line.budget:g} | {verdict} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
