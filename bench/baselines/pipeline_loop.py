"""The loop everybody writes, with the openai SDK around it: files, batches, polls, downloads, join.

pipeline_loop.py SOURCE REST FOLDER   (OPENAI_API_KEY and OPENAI_BASE_URL from the environment)
"""

from __future__ import annotations

import sys
import time
from itertools import islice
from pathlib import Path

import orjson

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from assemble_loop import write_lines
from collect_loop import join
from openai import OpenAI

from measuring import say

REQUESTS = 50_000
POLL_S = 0.2


def main() -> None:
    source, rest, folder = Path(sys.argv[1]), orjson.loads(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    client = OpenAI()
    lines = folder / "lines.jsonl"
    write_lines(source, rest, lines)
    batches = []
    with lines.open("rb") as file:
        while part := b"".join(islice(file, REQUESTS)):
            path = folder / f"{len(batches)}.jsonl"
            path.write_bytes(part)
            uploaded = client.files.create(file=path, purpose="batch")
            batches.append(
                client.batches.create(
                    input_file_id=uploaded.id, endpoint="/v1/chat/completions", completion_window="24h"
                ).id
            )
    results = []
    for number, batch_id in enumerate(batches):
        while (batch := client.batches.retrieve(batch_id)).status != "completed":
            time.sleep(POLL_S)
        path = folder / f"{number}.results.jsonl"
        client.files.content(batch.output_file_id).write_to_file(path)
        results.append(path)
    join(source, folder / "answers.jsonl", results, id_of="number")
    say(batches=len(batches))


if __name__ == "__main__":
    main()
