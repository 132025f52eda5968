"""Assembly comes to the same files and the same digests for any number of workers."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulkrate.jobs.load import load_job_mapping
from bulkrate.pipeline.prepare import Checked, assemble_and_check, packer_for
from bulkrate.pipeline.run_folder import PARTITION_ROWS, RunFolder
from bulkrate.pipeline.setup import Setup

ROWS = 2 * PARTITION_ROWS + 1_234


def rows() -> list[dict[str, object]]:
    made: list[dict[str, object]] = [
        {"id": f"T-{number}", "body": f'ticket {number % 900} café\n"quoted"'} for number in range(ROWS)
    ]
    made[17]["id"] = "T-3"
    made[PARTITION_ROWS + 5]["body"] = "  "
    made[PARTITION_ROWS]["id"] = ""
    return made


def write(path: Path) -> None:
    if path.suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["id", "body"])
            writer.writeheader()
            writer.writerows(rows())
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows()), path, row_group_size=7_000)
    else:
        lines = [json.dumps(row, ensure_ascii=False) for row in rows()]
        lines[40] = "not json"
        lines.insert(60, "")
        lines.insert(PARTITION_ROWS, " \t")
        path.write_text("\n".join(lines), encoding="utf-8")


def assembled(source: Path, folder: Path, workers: int) -> tuple[Setup, Checked]:
    document = {
        "name": "many",
        "source": {"path": source.name, "key": "id"},
        "request": {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "output": {"choice": ["a", "b"]}},
    }
    setup = Setup(load_job_mapping(document, source.parent), {"BULKRATE_WORKERS": str(workers)})
    return setup, assemble_and_check(setup, RunFolder(folder))


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["rows.jsonl", pytest.param("rows.csv", marks=pytest.mark.soak), "rows.parquet"]
)
def test_the_number_of_workers_changes_nothing(name: str, tmp_path: Path) -> None:
    write(tmp_path / name)
    seen = []
    for workers in (1, 2, 3):
        folder = tmp_path / f"with-{workers}"
        setup, checked = assembled(tmp_path / name, folder, workers)
        packer = packer_for(setup, "0123456789", RunFolder(folder), checked.partitions)
        shards = packer.pending(enumerate(checked.vectors), first_number=0, max_tokens=None)
        blobs = [vector.to_bytes() for vector in checked.vectors]
        seen.append((files(folder), blobs, shards, checked.duplicates, checked.aliases))
    one, two, three = seen
    assert one[0].keys() >= {"aliases.parquet", "duplicates.parquet", "partitions/00002.parquet"}
    assert one == two
    assert one == three
    assert one[3] == 1
    assert one[4] > ROWS - 1_000
