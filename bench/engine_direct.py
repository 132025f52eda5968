"""The local engine alone: a CSV in, labels out, no HTTP, no files, no ledger. The pipeline's baseline.

    python bench/engine_direct.py --job examples/tickets/tickets.bulk.yaml --gold label
    python bench/engine_direct.py --source banking77/test.csv --gold category --prompt "Message: {{ text }}"

Prints one JSON line. `seconds` starts when the engine is ready and warm, and ends with the last answer.
Without a job the labels are the distinct values of the gold column.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import time
from pathlib import Path
from typing import Any

import minijinja
import yaml

from bulkrate.server.engine import EngineAnswer, EngineRequest
from bulkrate.server.engines.openvino import OpenVINOEngine
from bulkrate.server.engines.scoring import calibrate


def main() -> None:
    options = arguments()
    rows, messages, labels = workload(options)
    environment = minijinja.Environment()
    requests = [
        EngineRequest(
            id=row[options.key] if options.key else str(number),
            messages=tuple({**m, "content": environment.render_str(m["content"], **row)} for m in messages),
            choice=labels,
        )
        for number, row in enumerate(rows)
    ]
    loading = time.perf_counter()
    engine = OpenVINOEngine(cache_dir=options.cache_dir)
    warm = EngineRequest(id="warm", messages=({"role": "user", "content": "Hello"},), choice=("a", "b"))
    answer_all(engine, [warm])
    started = time.perf_counter()
    cpu_started_s = time.process_time()
    answers = answer_all(engine, requests)
    seconds = time.perf_counter() - started
    cpu_s = time.process_time() - cpu_started_s
    scores = [answers[request.id].scores or {} for request in requests]
    result: dict[str, Any] = {
        "rows": len(rows),
        "labels": len(labels),
        "seconds": round(seconds, 2),
        "rows_per_s": round(len(rows) / seconds, 1),
        "cpu_s_per_row": round(cpu_s / len(rows), 4),
        "load_s": round(started - loading, 2),
        "input_tokens": sum(a.input_tokens for a in answers.values()),
        "cached_tokens": sum(a.cached_tokens for a in answers.values()),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    if options.gold:
        gold = [row[options.gold] for row in rows]
        result["accuracy"] = agreement(calibrate(scores), gold)
        result["accuracy_uncalibrated"] = agreement([answers[r.id].text for r in requests], gold)
    print(json.dumps(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--job", type=Path, help="a job file: source, messages and labels are taken from it")
    parser.add_argument("--source", type=Path, help="the CSV (with a job: instead of the job's)")
    parser.add_argument("--key", help="the column that names a row; default: its number")
    parser.add_argument("--gold", help="the column with the right label")
    parser.add_argument("--system", default="", help="system message; default: lists the labels")
    parser.add_argument("--prompt", help="Jinja template of the user message")
    parser.add_argument("--limit", type=int, help="only the first rows")
    parser.add_argument("--cache-dir", type=Path, default=Path(".bulkrate/engines"))
    options = parser.parse_args()
    if not options.job and not (options.source and options.prompt and options.gold):
        parser.error("either --job, or --source with --prompt and --gold")
    return options


def workload(
    options: argparse.Namespace,
) -> tuple[list[dict[str, str]], list[dict[str, str]], tuple[str, ...]]:
    """The rows, the message templates, the labels."""
    job: dict[str, Any] = yaml.safe_load(options.job.read_text(encoding="utf-8")) if options.job else {}
    source = options.source or options.job.parent / job["source"]["path"]
    with source.open(encoding="utf-8", newline="") as file:
        every_row = list(csv.DictReader(file))
    rows = every_row[: options.limit]
    if job:
        request = job["request"]
        options.key = options.key or job["source"].get("key")
        messages = list(request.get("messages") or [{"role": "user", "content": request["prompt"]}])
        if request.get("system"):
            messages.insert(0, {"role": "system", "content": request["system"]})
        return rows, messages, tuple(request["output"]["choice"])
    labels = tuple(sorted({row[options.gold] for row in every_row}))
    system = options.system or f"Classify the message. The labels are {', '.join(labels)}."
    return (
        rows,
        [{"role": "system", "content": system}, {"role": "user", "content": options.prompt}],
        labels,
    )


def answer_all(engine: OpenVINOEngine, requests: list[EngineRequest]) -> dict[str, EngineAnswer]:
    """Keep the engine's slots full until every request is answered."""
    answers: dict[str, EngineAnswer] = {}
    submitted = 0
    while len(answers) < len(requests):
        while submitted < len(requests) and submitted - len(answers) < engine.slots:
            engine.submit(requests[submitted])
            submitted += 1
        for answer in engine.step():
            if answer.error:
                raise SystemExit(f"row {answer.id}: {answer.error}")
            answers[answer.id] = answer
    return answers


def agreement(labels: list[str], gold: list[str]) -> float:
    return round(sum(a == b for a, b in zip(labels, gold, strict=True)) / len(gold), 4)


if __name__ == "__main__":
    main()
