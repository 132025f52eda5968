"""The loop everybody writes: source rows in, request lines out. No template, no hash, no check.

assemble_loop.py SOURCE REST TARGET   (REST: the constant fields of a body, as JSON)
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))

from measuring import Stopwatch, say


def write_lines(source: Path, rest: dict[str, object], target: Path, first: int = 0) -> None:
    """One request line for each row of `source`."""
    system = {"role": "system", "content": rest.pop("system")}
    model = rest.pop("model")
    with source.open("rb") as rows, target.open("wb") as file:
        for number, line in enumerate(rows, first):
            row = orjson.loads(line)
            prompt = (
                f"Product: {row['product']}\nSubject: {row['subject']}\n\n{row['body']}\n\nWhich label fits?"
            )
            request = {
                "custom_id": f"request-{number:012d}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "model": model,
                    "messages": [system, {"role": "user", "content": prompt}],
                    **rest,
                },
            }
            file.write(orjson.dumps(request, option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    watch = Stopwatch()
    write_lines(Path(sys.argv[1]), orjson.loads(sys.argv[2]), Path(sys.argv[3]))
    say(**watch.read())
