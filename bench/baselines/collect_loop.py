"""The loop everybody writes: result files into a dictionary, then the source once more, joined by id.

collect_loop.py SOURCE TARGET RESULTS...
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import Stopwatch, say

LABELS = {"billing", "bug", "delivery", "account", "other"}


def join(source: Path, target: Path, results: list[Path], id_of: str = "id") -> None:
    """Answers beside the row's key, in the order of the source."""
    answers = {}
    for path in results:
        with path.open("rb") as lines:
            for line in lines:
                result = orjson.loads(line)
                response = result["response"]
                if result["error"] or response["status_code"] != 200:
                    answers[result["custom_id"]] = ("failed", None, result["error"], None, None, None, None)
                    continue
                body = response["body"]
                choice, usage = body["choices"][0], body["usage"]
                label = orjson.loads(choice["message"]["content"])["label"]
                answers[result["custom_id"]] = (
                    "succeeded" if label in LABELS else "failed",
                    label,
                    None,
                    choice["finish_reason"],
                    body["model"],
                    usage["prompt_tokens"],
                    usage["completion_tokens"],
                )
    with source.open("rb") as rows, target.open("wb") as file:
        for number, line in enumerate(rows):
            row = orjson.loads(line)
            name = row["id"] if id_of == "id" else f"request-{number:012d}"
            status, output, error, finish_reason, model, given, made = answers[name]
            record = {
                "id": row["id"],
                "status": status,
                "output": output,
                "error": error,
                "finish_reason": finish_reason,
                "model": model,
                "input_tokens": given,
                "output_tokens": made,
                "attempts": 1,
            }
            file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    watch = Stopwatch()
    join(Path(sys.argv[1]), Path(sys.argv[2]), [Path(path) for path in sys.argv[3:]])
    say(**watch.read())
