"""A run's files that somebody deleted, while the ledger still counts on them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from moments import at
from table_desk import ROWS, Desk

from bulkrate.errors import LedgerError


@pytest.fixture
def desk(tmp_path: Path, misbehaving_provider: Any) -> Desk:
    desk = Desk(tmp_path, misbehaving_provider())
    desk.write(ROWS)
    return desk


def folder_of(desk: Desk, run: str) -> Path:
    return desk.workspace.home.run_dir(run)


def test_recollect_without_the_raw_files_takes_no_answer_away(desk: Desk) -> None:
    run = desk.run()["run"]
    before = (desk.folder / "answers.jsonl").read_bytes()
    shutil.rmtree(folder_of(desk, run) / "raw")
    with pytest.raises(LedgerError, match=r"is gone: .*00000\.output"):
        desk.workspace.recollect(run)
    desk.workspace.deliver(run)
    assert (desk.folder / "answers.jsonl").read_bytes() == before
    assert desk.workspace.ledger.balance(run).succeeded == 30


def test_results_that_landed_and_are_gone_are_not_taken_for_missing_rows(desk: Desk) -> None:
    run = desk.workspace.prepare(desk.job()).id
    raw = folder_of(desk, run) / "raw"
    with at("ledger.results_landed.after", lambda: shutil.rmtree(raw)), pytest.raises(LedgerError):
        desk.run()
    assert desk.workspace.ledger.balance(run).pending == 30
    assert desk.accepted() == 30


@pytest.mark.parametrize("part", ["partitions", "outcomes", "."])
def test_a_lost_file_is_named_and_nothing_is_sent(desk: Desk, part: str) -> None:
    run = desk.run()["run"]
    shutil.rmtree(folder_of(desk, run) / part)
    (desk.folder / "answers.jsonl").unlink()
    with pytest.raises(LedgerError, match="is gone"):
        desk.run()
    assert desk.accepted() == 30


@pytest.mark.parametrize("part", ["partitions", "outcomes"])
def test_answers_of_an_earlier_run_that_are_lost_are_not_paid_for_again_unasked(
    desk: Desk, part: str
) -> None:
    run = desk.run()["run"]
    shutil.rmtree(folder_of(desk, run) / part)
    desk.write(ROWS[:20])
    with pytest.raises(LedgerError, match="is gone"):
        desk.run()
    assert desk.accepted() == 30
