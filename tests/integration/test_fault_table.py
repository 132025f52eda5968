"""The fault table holds: headline faults at its own thousand rows, all the others at two hundred."""

from __future__ import annotations

from pathlib import Path

import pytest
from fault_cases import SECTIONS, Case
from fault_table import ROWS, Measured, main, measure, written

from bulkrate.testing import FAULTS

CASES = [case for cases in SECTIONS.values() for case in cases]
FEW = 200
TABLE = {cells[0]: cells for cells in written()}


def name_of(case: Case) -> str:
    return f"{case.faults or 'none'} shards={case.shards}"


def check(ended: Measured) -> None:
    case, rows = ended.case, ended.rows
    assert ended.finished
    assert (ended.failed, ended.delivered) == (case.failed(rows), rows - case.failed(rows))
    assert ended.accepted <= ended.allowed
    assert ended.accepted >= rows
    assert ended.wrong == 0, "an answer was joined to a row that is not its own"
    # A provider that makes two batches of one call, or whose listing lags beyond what it states, runs the
    # same shard twice: the table shows what that costs.
    if "duplicate_create" not in case.faults and "list_lag=100000" not in case.faults:
        assert ended.twice == 0, "a line was sent again under the same id"
    if case.batches is not None:
        assert ended.batches == case.batches
    if "extra_usage" in case.faults:
        assert ended.unattributed == 1_000


@pytest.mark.parametrize("case", [case for case in CASES if not case.headline], ids=name_of)
def test_a_fault_costs_what_the_rules_allow(case: Case, tmp_path: Path) -> None:
    check(measure(case, FEW, tmp_path))


@pytest.mark.parametrize("case", [case for case in CASES if case.headline], ids=name_of)
def test_a_thousand_rows_end_as_the_table_says(case: Case, tmp_path: Path) -> None:
    ended = measure(case, ROWS, tmp_path)
    check(ended)
    assert TABLE.get(ended.cells()[0]) == ended.cells(), f"stale: {main.__doc__} writes it again"


def test_the_table_has_every_case_and_no_other() -> None:
    names = {case.name(ROWS) for case in CASES}
    assert TABLE.keys() == names
    for cells in TABLE.values():
        delivered, failed, accepted, allowed, _ = (int(cell.replace(",", "")) for cell in cells[1:6])
        assert delivered + failed == ROWS
        assert accepted <= allowed


# Their subject is a call that a run makes only when it is told to, or that has to be ended by hand.
ELSEWHERE = {
    "slow_cancel",
    *(name for name in FAULTS if name.startswith("webhook_")),
    *(name for name in FAULTS if name.endswith("_cancel") or name.startswith("cancel_")),
}
BY_HAND = {name for name in FAULTS if name.startswith("hold_")}


def test_every_fault_is_in_the_table() -> None:
    covered = {part.partition("=")[0] for case in CASES for part in case.faults.split()}
    waiting = {f"{call}_unanswered" for call in ("status", "download", "list", "delete")}  # a minute each
    assert FAULTS.keys() - covered - ELSEWHERE - BY_HAND - waiting == set()
