"""Source columns that are called as ours are: theirs keep their names and values, ours give way."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from table_desk import Desk

from bulkrate.pipeline.join import result_names

THEIRS = {
    "id": "1",
    "body": "hello",
    "status": "their status",
    "bulkrate_status": "another",
    "output": "their output",
    "error_class": "their class",
    "row": "their row",
}


def delivered(path: Path) -> dict[str, Any]:
    if path.suffix == ".csv":
        with path.open(newline="", encoding="utf-8") as file:
            (row,) = csv.DictReader(file)
    elif path.suffix == ".parquet":
        (row,) = pq.ParquetFile(path).read().to_pylist()
    else:
        row = orjson.loads(path.read_bytes())
    return row


@pytest.mark.parametrize("sink", ["answers.jsonl", "answers.csv", "answers.parquet"])
@pytest.mark.parametrize("key", ["id", None])
def test_no_value_of_the_source_is_lost(
    tmp_path: Path, misbehaving_provider: Any, sink: str, key: str | None
) -> None:
    desk = Desk(tmp_path, misbehaving_provider())
    (tmp_path / "rows.jsonl").write_bytes(orjson.dumps(THEIRS) + b"\n")
    source = {"path": "rows.jsonl", **({"key": key} if key else {})}
    assert desk.run(desk.job(source=source, sink={"path": sink, "include": "all"}))["rows"]["succeeded"] == 1
    row = delivered(tmp_path / sink)
    assert {name: row[name] for name in THEIRS} == THEIRS
    assert row["bulkrate_bulkrate_status"] == "succeeded"
    assert row["bulkrate_output"].startswith("answer")
    assert (str(row["bulkrate_row"]) == "1") if key is None else ("bulkrate_row" not in row)


def test_names_that_are_free_are_kept() -> None:
    names = result_names(["id", "error_message", "model", "bulkrate_model"])
    assert [names[name] for name in ("row", "status", "error", "model")] == [
        "row",
        "status",
        "bulkrate_error",
        "bulkrate_bulkrate_model",
    ]
