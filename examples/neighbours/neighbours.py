"""Read the vectors a job wrote, and print for some rows the row that is nearest to each."""

# ruff: noqa: T201 - it is a script that prints

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

BLOCK_ROWS = 1_000


def vectors_of(table: pa.Table) -> np.ndarray:
    """The column `output` as a matrix, not copied: each row has its vector at unit length."""
    column = table["output"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size)


def nearest(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each row the index of the nearest other one, and how near it is (the cosine)."""
    places = np.empty(len(vectors), np.int64)
    cosines = np.empty(len(vectors), np.float32)
    for begin in range(0, len(vectors), BLOCK_ROWS):
        likeness = vectors[begin : begin + BLOCK_ROWS] @ vectors.T
        rows = np.arange(len(likeness))
        likeness[rows, begin + rows] = -1  # not itself
        places[begin : begin + BLOCK_ROWS] = likeness.argmax(axis=1)
        cosines[begin : begin + BLOCK_ROWS] = likeness.max(axis=1)
    return places, cosines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="the Parquet file a job with `embed` wrote (include: all)")
    parser.add_argument("column", help="the column of texts to print")
    parser.add_argument("--show", type=int, default=5, help="how many rows, spread evenly over the file")
    asked = parser.parse_args()
    table = pq.read_table(asked.file)
    table = table.filter(table["output"].is_valid())
    texts = table[asked.column].to_pylist()
    places, cosines = nearest(vectors_of(table))
    low, middle, high = np.percentile(cosines, [5, 50, 95])
    print(
        f"{len(texts):,} texts; the nearest has a cosine of {middle:.2f} (5 %: {low:.2f}, 95 %: {high:.2f})"
    )
    for row in range(0, len(texts), max(1, len(texts) // asked.show))[: asked.show]:
        print(f"\n{texts[row]}\n  {cosines[row]:.2f}  {texts[places[row]]}")


if __name__ == "__main__":
    main()
