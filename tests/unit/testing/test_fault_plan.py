"""Fault strings, their budgets and their seeded choices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.testing.faults import ALL, FAULTS, Fate, Fault, FaultError, FaultPlan, Scope


@pytest.mark.parametrize(
    "text",
    [
        "missing=2",
        "missing=2,billed=0",
        "bad_rows=2,status=422",
        "expire_after=600,batches=3",
        "expire_after=600,batches=all,skip=1",
        "token_queue=100000",
        "status_503=4,from_poll=2",
        "stuck=1,phase=finalizing,polls=9",
        "truncate=2,below=64",
        "hold_create=1,when=before",
        "create_unanswered=1",
        "create_429=2,retry_after=7",
        "create_error=1,status=502,when=after",
        "create_cut=1,when=before",
        "late_create=1,calls=9",
        "upload_cut=1",
        "download_cut=1,at=90",
        "trickle=1,bytes=7",
        "duplicate_rows=3,second=error",
        "cancel_after=600,batches=2",
        "token_queue=100,at=create",
        "creation_rate=5,refused=2",
        "clock_skew=90,way=ahead",
        "no_output=2,status=500",
        "refused_in_output=2,status=0",
    ],
)
def test_a_fault_is_read_and_written_back(text: str) -> None:
    parsed = Fault.parse(text)
    assert str(parsed).split(",")[0] == text.split(",", maxsplit=1)[0]
    assert set(str(parsed).split(",")) == set(text.split(","))
    assert Fault.parse(str(parsed)) == parsed


def test_every_fault_has_a_default_count() -> None:
    assert {name: Fault.parse(name).count for name in FAULTS} == dict.fromkeys(FAULTS, 1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("mising=2", "unknown fault 'mising'"),
        ("missing=two", "missing wants a whole number"),
        ("missing=-1", "missing wants a whole number"),
        ("missing=2,color=red", "has no option 'color'"),
        ("stuck=1,phase=asleep", "phase is one of"),
        ("hold_create=1,when=during", "when is one of"),
        ("hold_create=1,batches=2", "has no option 'batches'"),
        ("token_queue=5,at=noon", "at is one of poll, create"),
        ("download_cut=1,at=101", "at is a number from 0 to 100"),
        ("trickle=1,bytes=0", "bytes is a number from 1"),
        ("missing=1 missing=2", "given twice: missing"),
    ],
)
def test_a_wrong_fault_says_what_would_be_right(text: str, reason: str) -> None:
    with pytest.raises(FaultError, match=reason):
        FaultPlan.parse(text)


def test_faults_of_batches_hit_the_first_ones_only() -> None:
    plan = FaultPlan.parse(["missing=2", "expire_after=6,batches=2,skip=1", "bad_rows=1,batches=all"])
    hit = {
        name: [ordinal for ordinal in range(-1, 4) if plan.on_batch(name, ordinal)]
        for name in ("missing", "expire_after", "bad_rows", "stuck")
    }
    assert hit == {"missing": [0], "expire_after": [1, 2], "bad_rows": [0, 1, 2, 3], "stuck": []}
    assert plan.faults[2].batches == ALL


def test_faults_of_calls_hit_the_first_calls_only() -> None:
    plan = FaultPlan.parse("hold_create=2 create_unanswered=1,skip=2 upload_unanswered")
    names = [fault and fault.name for fault in (plan.on_call("create", nth) for nth in range(4))]
    assert names == ["hold_create", "hold_create", "create_unanswered", None]
    assert plan.on_call("status", 0) is None


def test_standing_faults_have_no_budget() -> None:
    standing = [name for name, kind in FAULTS.items() if kind.scope is Scope.STANDING]
    assert standing == ["token_queue", "creation_rate", "clock_skew"]


def test_a_fault_of_batches_counts_batches() -> None:
    plan = FaultPlan.parse("no_output=2,skip=1 empty_ids=1")
    hit = [ordinal for ordinal in range(5) if plan.on_batch("no_output", ordinal)]
    assert hit == [1, 2]
    with pytest.raises(FaultError, match="has no option 'batches'"):
        FaultPlan.parse("no_output=2,batches=3")


def test_of_some_creates_in_a_row_the_last_are_too_many() -> None:
    plan = FaultPlan.parse("creation_rate=2,refused=3")
    assert [plan.on_call("create", nth) is not None for nth in range(7)] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert plan.on_call("status", 2) is None


def test_what_befalls_a_download_adds_up() -> None:
    plan = FaultPlan.parse("gzip=2 download_cut=1,at=30 trickle=1,skip=1")
    assert [set(plan.on_content(nth)) for nth in range(3)] == [
        {"gzip", "download_cut"},
        {"gzip", "trickle"},
        set(),
    ]
    assert plan.on_call("download", 0) is None, "the call itself is not interrupted"


@given(seed=st.integers(0, 99), rows=st.integers(0, 60), done=st.integers(0, 60), missing=st.integers(0, 9))
def test_fates_are_seeded_disjoint_and_exact(seed: int, rows: int, done: int, missing: int) -> None:
    done = min(done, rows)
    plan = FaultPlan.parse(f"missing={missing} bad_rows=3 truncate=2 bad_json=1", seed=seed)

    def fates() -> dict[int, Fate]:
        return plan.fates(
            0,
            rows=rows,
            done=done,
            unfinished=Fate.EXPIRED,
            refused=(),
            can_truncate=lambda row: row % 2 == 0,
            can_break=lambda row: row % 2 == 1,
        )

    found = fates()
    assert found == fates()
    counts = {fate: list(found.values()).count(fate) for fate in Fate}
    assert counts[Fate.EXPIRED] == rows - done
    assert counts[Fate.MISSING] == min(missing, done)
    assert counts[Fate.REFUSED] == min(3, done - counts[Fate.MISSING])
    assert all(row % 2 == 0 for row, fate in found.items() if fate is Fate.TRUNCATED)
    assert all(row % 2 == 1 for row, fate in found.items() if fate is Fate.BAD_JSON)


def test_another_fault_moves_no_other_choice() -> None:
    alone, mixed = FaultPlan.parse("bad_json=2", seed=5), FaultPlan.parse("bad_json=2 truncate=1", seed=5)
    pool = list(range(100))
    assert alone.choose("bad_json", 0, pool, 2) == mixed.choose("bad_json", 0, pool, 2)
