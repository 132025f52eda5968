"""Rows with files in them: however large, only some are in memory at a time."""

from __future__ import annotations

import base64
import json
import tracemalloc
from pathlib import Path

import pyarrow.parquet as pq

from bulkrate.jobs.load import load_job_mapping
from bulkrate.pipeline.partition import HELD_BYTES
from bulkrate.pipeline.prepare import assemble_and_check
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pipeline.setup import Setup

ROWS = 100
PICTURE_BYTES = 1_000_000


def test_pictures_are_written_out_as_they_are_read(tmp_path: Path) -> None:
    picture = bytes(PICTURE_BYTES)
    (tmp_path / "a.png").write_bytes(picture)
    lines = [{"id": n, "text": f"What is {n}?", "file": "b.png" if n == 30 else "a.png"} for n in range(ROWS)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    parts = [{"text": "{{ text }}"}, {"image": "{{ file }}"}]
    document = {
        "name": "pictures",
        "source": {"path": "rows.jsonl", "key": "id"},
        "request": {
            "model": "openai/gpt-4o-mini",
            "messages": [{"role": "user", "content": parts}],
            "max_output_tokens": 9,
        },
    }
    setup = Setup(load_job_mapping(document, tmp_path), {"BULKRATE_WORKERS": "1"})
    setup.counter.count_texts(["the first count loads the vocabulary"])
    folder = RunFolder(tmp_path / "run")
    tracemalloc.start()
    try:
        assemble_and_check(setup, folder)
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert HELD_BYTES < most_bytes < ROWS * PICTURE_BYTES
    encoded = base64.b64encode(picture)
    for number, body in enumerate(folder.lines(0)):
        assert (encoded in body) == (number != 30)
        assert (f"What is {number}?".encode() in body) == (number != 30)
    manifest = pq.read_table(folder.manifest_path(0)).to_pylist()
    assert [row["reject_code"] for row in manifest] == [None] * 30 + ["no_file"] + [None] * 69
    assert len({row["tokens"] for row in manifest if row["row"] != 30}) == 1
    assert {row["body_bytes"] > len(encoded) for row in manifest} == {True, False}
