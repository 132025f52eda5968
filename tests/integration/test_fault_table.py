"""The fault table holds: headline faults at its own thousand rows, all the others at two hundred."""

from __future__ import annotations

from pathlib import Path

import pytest
from dialects import DIALECTS
from fault_cases import SECTIONS, Case
from fault_dialects import cases_of
from fault_table import FEW, ROWS, Measured, columns_written, main, measure, written

from bulkrate.testing import FAULTS

CASES = [case for cases in SECTIONS.values() for case in cases]
TABLE = {cells[0]: cells for cells in written()}


def name_of(case: Case) -> str:
    return f"{case.faults or 'none'} shards={case.shards}"


def check(ended: Measured) -> None:
    assert ended.finished
    assert ended.wrong == 0, "an answer was joined to a row that is not its own"
    assert ended.kept, ended
    if ended.case.batches is not None:
        assert ended.batches == ended.case.batches
    if "extra_usage" in ended.case.faults:
        assert ended.unattributed == 1_000


FURTHER = [case for case in CASES if not case.headline]
# One in three here: the others take a minute, and run with the soak.
SOME = [
    case if place % 3 == 0 else pytest.param(case, marks=pytest.mark.soak)
    for place, case in enumerate(FURTHER)
]


@pytest.mark.parametrize("case", SOME, ids=map(name_of, FURTHER))
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


# What the conformance suite leaves out, in a few rows.
QUICK = {
    "duplicate_create=1",
    "create_cut=2",
    "create_cut=1 clock_skew=7200,way=behind",
    "late_create=1,calls=5",
}


@pytest.mark.parametrize(
    ("dialect", "case"),
    [
        (name, case)
        for name in DIALECTS
        for _, case in cases_of(name)
        if name != "openai" and case.faults in QUICK
    ],
    ids=lambda value: value if isinstance(value, str) else name_of(value),
)
def test_the_other_dialects_keep_the_rules(dialect: str, case: Case, tmp_path: Path) -> None:
    ended = measure(case, FEW, tmp_path, dialect=DIALECTS[dialect])
    check(ended)
    assert columns_written()[dialect][case.name(FEW)] == ended.cell(), f"stale: {main.__doc__}"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_has_its_cases_and_no_other(dialect: str) -> None:
    cells = columns_written()[dialect]
    assert cells.keys() == {case.name(FEW) for _, case in cases_of(dialect)}
    for cell in cells.values():
        accepted, allowed = map(int, cell.partition(",")[0].split("/"))
        assert FEW <= accepted <= allowed


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
