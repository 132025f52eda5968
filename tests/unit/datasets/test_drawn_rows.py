"""Some rows of a source as a source by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.datasets.block import Block, Problem
from bulkrate.datasets.drawn_rows import DrawnRows
from bulkrate.datasets.source import BLOCK_ROWS

ROWS = 1_200


class Numbers:
    """Rows that say their number; every seventh cannot be read."""

    files, format = (Path("numbers.jsonl"),), "jsonl"

    def columns(self) -> None:
        return None

    def snapshot(self) -> str:
        return "0123"

    def blocks(self, size: int = 10_000) -> list[Block]:
        found = []
        for first in range(0, ROWS, size):
            numbers = range(first, min(first + size, ROWS))
            rows = [None if n % 7 == 0 else {"n": n} for n in numbers]
            problems = {i: Problem("unreadable", f"{n}") for i, n in enumerate(numbers) if n % 7 == 0}
            found.append(Block(first, rows, problems, [f"line {n + 1}" for n in numbers]))
        return found


@given(
    st.lists(st.integers(0, ROWS + 50), min_size=1, max_size=60, unique=True),
    st.sampled_from([1, 7, BLOCK_ROWS]),
)
def test_rows_keep_their_order_their_problems_and_their_places(drawn: list[int], size: int) -> None:
    source = DrawnRows(Numbers(), drawn)  # blocks are a list there
    wanted = [n for n in sorted(drawn) if n < ROWS]
    blocks = list(source.blocks(size))
    assert [block.first for block in blocks] == list(range(0, len(wanted), size))
    seen = 0
    for block in blocks:
        for index, row in enumerate(block.rows):
            number = wanted[seen]
            assert block.where[index] == f"line {number + 1}"
            assert row == (None if number % 7 == 0 else {"n": number})
            assert (index in block.problems) == (row is None)
            seen += 1
    assert seen == len(wanted)
    assert (source.snapshot(), source.files, source.columns()) == ("0123", Numbers.files, None)


def test_a_job_file_cannot_draw(tmp_path: Path) -> None:
    from bulkrate.errors import JobError
    from bulkrate.jobs.load import load_job

    path = tmp_path / "a.bulk.yaml"
    path.write_text(
        "name: a\nsource: {path: rows.csv}\nonly_rows: [1]\nrequest: {model: openai/x, prompt: hi}\n"
    )
    with pytest.raises(JobError, match="3: only_rows: there is no such field"):
        load_job(path)
