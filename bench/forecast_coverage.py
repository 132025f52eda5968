"""How often the forecast's band and the hard bound hold, on real traces of token counts.

    .venv/bin/python bench/forecast_coverage.py DATA [--jobs 5000] [--drawn 100] [--processes 2] [--only NAME]

DATA is a folder with `azure-llm-trace/`, `mooncake-trace/` and `gsm8k/` in it, as their publishers give them
(Azure's LLM inference traces of 2023, Mooncake's, OpenAI's grade-school-math with four models' solutions).

A job is a stretch of a trace, in the trace's order, from 1,000 rows to all of it long. What it costs is
known, an output token being worth five of input. Rows are drawn from it once, and every way that draws at
random gets the same ones. Two more traces are made up. Prints a table for each trace, in Markdown.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bulkrate.pricing.forecast import CONFIDENCE, forecast, reforecast
from bulkrate.pricing.hard_bound import RISK, hard_bound
from bulkrate.pricing.pilot import draw, stratify
from bulkrate.tokens.openai_vocabulary import OpenAIVocabularyCounter

OUTPUT_WORTH = 5  # input tokens: what most price lists come to
SHORTEST_JOB = 1_000
FIRST_ROWS = 20
STUDENT_19 = 2.093  # 97.5 % of Student's t with 19 degrees of freedom
NORMAL = 1.96


@dataclass(frozen=True)
class Trace:
    """Input and output tokens of its requests, in order, and the cap a job over it would have set."""

    name: str
    inputs: list[int]
    outputs: list[int]

    @property
    def cap(self) -> int:
        """The power of two at or above the longest answer."""
        return 1 << max(max(self.outputs) - 1, 1).bit_length()


@dataclass(frozen=True)
class Seen:
    """One way of forecasting, one job: did the band hold, how wide was it, how high was its upper end."""

    held: bool
    above: bool  # the truth was above the upper end
    half_width: float  # as a share of the true cost
    upper: float  # over the true cost


WAYS = (
    "shown band",
    "shown band, half done",
    "hard bound",
    "first 20 rows, Student's t",
    "random rows, normal",
    "random rows, input known, normal",
)


def traces(data: Path) -> list[Trace]:
    """Every trace there is."""
    found = []
    for kind in ("conv", "code"):
        with (data / "azure-llm-trace" / f"AzureLLMInferenceTrace_{kind}.csv").open(newline="") as file:
            rows = [(int(row["ContextTokens"]), int(row["GeneratedTokens"])) for row in csv.DictReader(file)]
        found.append(_trace(f"azure {kind}", rows))
    for kind in ("conversation", "synthetic"):
        lines = (data / "mooncake-trace" / f"{kind}_trace.jsonl").read_text().splitlines()
        rows = [(line["input_length"], line["output_length"]) for line in map(json.loads, lines)]
        found.append(_trace(f"mooncake {kind}", rows))
    lines = [
        json.loads(line)
        for line in (data / "gsm8k" / "example_model_solutions.jsonl").read_text().splitlines()
    ]
    counter = OpenAIVocabularyCounter("o200k_base")
    inputs = counter.count_texts([line["question"] for line in lines])
    model = "175b_verification"
    outputs = counter.count_texts([line[model]["solution"] for line in lines])
    found.append(_trace("gsm8k solutions", list(zip(inputs, outputs, strict=True))))
    return found + [made_up(spread) for spread in (1.25, 1.75)]


def made_up(spread: float) -> Trace:
    """Answers that are log-normal with that spread: longer tails than the recorded traces have."""
    chance = random.Random(f"made up {spread}")
    rows = [
        (chance.randrange(100, 2_000), min(round(chance.lognormvariate(4, spread)) + 1, 32_768))
        for _ in range(10_000)
    ]
    return _trace(f"made up, log-normal {spread}", rows)


def _trace(name: str, rows: Sequence[tuple[int, int]]) -> Trace:
    return Trace(name, [row[0] for row in rows], [row[1] for row in rows])


def judge(trace: Trace, drawn: int, job: int) -> list[Seen]:
    """All ways of forecasting, on one drawn job."""
    chance = random.Random(f"{trace.name} {job}")
    longest = len(trace.inputs)
    rows = round(math.exp(chance.uniform(math.log(min(SHORTEST_JOB, longest)), math.log(longest))))
    start = chance.randrange(longest - rows + 1)
    inputs = trace.inputs[start : start + rows]
    outputs = trace.outputs[start : start + rows]
    costs = [read + OUTPUT_WORTH * written for read, written in zip(inputs, outputs, strict=True)]
    read, truth = sum(inputs), sum(costs)

    pilot = draw(rows, drawn, job)
    answers = {row: float(outputs[row]) for row in pilot}
    most = hard_bound(list(answers.values()), rows=rows, cap=trace.cap, risk=(1 - CONFIDENCE) / 2)
    bound = hard_bound(list(answers.values()), rows=rows, cap=trace.cap, risk=RISK)
    band = forecast(stratify(inputs, answers), seed=job, most=most)
    half = {row: float(outputs[row]) for row in range(rows // 2)}
    later = reforecast(inputs, answers, half, seed=job, most=most)

    first = _interval([costs[row] for row in range(FIRST_ROWS)], rows, STUDENT_19)
    plain = _interval([costs[row] for row in pilot], rows, NORMAL)
    known = _interval([outputs[row] for row in pilot], rows, NORMAL)
    ends = (
        (read + OUTPUT_WORTH * band.low, read + OUTPUT_WORTH * band.high),
        (read + OUTPUT_WORTH * later.low, read + OUTPUT_WORTH * later.high),
        (0.0, read + OUTPUT_WORTH * bound),
        first,
        plain,
        (read + OUTPUT_WORTH * known[0], read + OUTPUT_WORTH * known[1]),
    )
    slack = 1e-9 * truth
    return [
        Seen(
            low - slack <= truth <= high + slack, truth > high + slack, (high - low) / 2 / truth, high / truth
        )
        for low, high in ends
    ]


def _interval(values: Sequence[float], rows: int, quantile: float) -> tuple[float, float]:
    """The usual interval for a sum, with the factor for a finite population."""
    left = 1 - len(values) / rows
    error = rows * statistics.stdev(values) * math.sqrt(left / len(values))
    total = rows * statistics.fmean(values)
    return total - quantile * error, total + quantile * error


def table(trace: Trace, drawn: int, seen: Sequence[Sequence[Seen]]) -> Iterator[str]:
    """The trace's results as Markdown."""
    jobs = len(seen)
    yield (
        f"**{trace.name}**: {len(trace.inputs):,} rows, on average {statistics.fmean(trace.inputs):,.0f} "
        f"tokens in and {statistics.fmean(trace.outputs):,.0f} out, the longest answer "
        f"{max(trace.outputs):,}; cap {trace.cap:,}; {jobs:,} jobs, {drawn} rows drawn\n"
    )
    yield "| forecast | held | truth above it | half width (median) | upper end over truth (mean) |"
    yield "|---|---|---|---|---|"
    for number, way in enumerate(WAYS):
        of_way = [each[number] for each in seen]
        held, above = _share([each.held for each in of_way]), _share([each.above for each in of_way])
        width = f"± {100 * statistics.median(each.half_width for each in of_way):.1f} %"
        upper = f"{statistics.fmean(each.upper for each in of_way):.2f}"
        yield f"| {way} | {held} | {above} | {'' if way == 'hard bound' else width} | {upper} |"
    yield ""


def _share(those: Sequence[bool]) -> str:
    share = statistics.fmean(those)
    error = math.sqrt(share * (1 - share) / len(those))
    return f"{100 * share:.1f} ± {100 * error:.1f} %"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--jobs", type=int, default=5_000)
    parser.add_argument("--drawn", type=int, default=100)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", help="only traces whose name has this in it")
    options = parser.parse_args()
    for trace in traces(options.data):
        if options.only and options.only not in trace.name:
            continue
        began = time.perf_counter()
        with ProcessPoolExecutor(options.processes) as processes:
            work = partial(judge, trace, options.drawn)
            seen = list(processes.map(work, range(options.jobs), chunksize=25))
        print("\n".join(table(trace, options.drawn, seen)), flush=True)
        print(f"{trace.name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
