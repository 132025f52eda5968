"""Files with a line per row: the part of a range, and scattered rows."""

from __future__ import annotations

from array import array
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bulkrate.pipeline.row_files import RowFile
from bulkrate.pipeline.run_folder import BodyReader, Partitions, RunFolder

ROWS = [3, 4, 5, 9, 10, 11, 30, 31, 90]


@pytest.fixture
def file(tmp_path: Path) -> RowFile:
    table = pa.table({"row": pa.array(ROWS, pa.uint64()), "text": [f"t{row}" for row in ROWS]})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=4)
    return RowFile(tmp_path / "rows.parquet")


@pytest.mark.parametrize(
    ("first", "stop"), [(0, 3), (0, 4), (4, 31), (11, 30), (12, 30), (31, 1000), (91, 99)]
)
def test_a_range_of_rows(file: RowFile, first: int, stop: int) -> None:
    found = file.between(first, stop, ["text"]).to_pydict()
    wanted = [row for row in ROWS if first <= row < stop]
    assert found == {"row": wanted, "text": [f"t{row}" for row in wanted]}


@pytest.mark.parametrize("rows", [[], [3], [4, 9, 90], [0, 1, 2], [5, 6, 30, 89, 90, 91], ROWS])
def test_scattered_rows(file: RowFile, rows: list[int]) -> None:
    found = [
        table["text"][place].as_py() for places, table in file.scattered(rows, ["text"]) for place in places
    ]
    assert found == [f"t{row}" for row in rows if row in ROWS]


def test_pairs_by_range_and_one_by_one(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    path = folder.aliases_path
    assert folder.pairs(path, 0, 10) == {}
    assert list(folder.all_pairs(path)) == []
    folder.write_pairs(path, array("Q", [7, 2, 12]), array("Q", [1, 0, 1]))
    assert folder.pairs(path, 0, 10) == {2: 0, 7: 1}
    assert list(folder.all_pairs(path)) == [(2, 0), (7, 1), (12, 1)]


def test_bodies_by_row_across_partitions(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    bodies = [f"body {row}".encode() if row % 3 else b"" for row in range(10)]
    for partition in range(4):
        with folder.line_writer(partition) as write:
            for body in bodies[3 * partition : 3 * partition + 3]:
                write([body])
    reader = BodyReader(folder, Partitions(3, 10))
    assert list(reader.bodies(range(10))) == bodies
    assert list(reader.bodies([1, 5, 7, 8])) == [bodies[row] for row in (1, 5, 7, 8)]
