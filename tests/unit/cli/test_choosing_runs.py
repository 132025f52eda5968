"""Which run is meant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bulkrate.cli.choosing import run_of
from bulkrate.errors import BulkrateError
from bulkrate.ledger.home import Home
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.workspace import Workspace

BEGAN = datetime(2026, 11, 24, 12, tzinfo=UTC)
IDS = ["abcdefghij", "abcxyz0000", "tickets000"]


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    """Two runs of `tickets`, and a third of `other` whose id begins like that name."""
    workspace = Workspace(Home.find(tmp_path, {}), env={})
    with workspace.ledger.transaction("test") as tx:
        for number, (run, job) in enumerate(zip(IDS, ["tickets", "tickets", "other"], strict=True)):
            at = BEGAN + timedelta(minutes=number)
            tx.add_run(
                RunRecord(
                    id=run,
                    job_name=job,
                    job_key=job,
                    job_json="{}",
                    snapshot="s",
                    nonce=str(number),
                    provider="openai",
                    model="gpt-4.1-nano",
                    created_at=at,
                    updated_at=at,
                )
            )
    yield workspace
    workspace.close()


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("abcdefghij", "abcdefghij"),
        ("abcd", "abcdefghij"),
        ("abcx", "abcxyz0000"),
        ("tickets", "abcxyz0000"),  # a name goes before an id that begins like it
        ("other", "tickets000"),
        ("tickets0", "tickets000"),
    ],
)
def test_a_run_is_found(workspace: Workspace, text: str, run: str) -> None:
    assert run_of(workspace, text).id == run


def test_a_beginning_that_fits_several_runs_lists_them(workspace: Workspace) -> None:
    with pytest.raises(BulkrateError) as caught:
        run_of(workspace, "abc")
    assert caught.value.code == "ambiguous_run"
    assert caught.value.message == (
        "2 runs begin with 'abc':\n  abcxyz0000  tickets  assembling\n  abcdefghij  tickets  assembling"
    )


def test_nothing_found_says_where_it_looked(workspace: Workspace) -> None:
    with pytest.raises(BulkrateError, match="is called 'zzz' in ") as caught:
        run_of(workspace, "zzz")
    assert caught.value.code == "no_such_run"


def test_a_job_file_without_a_run_says_how_to_make_one(workspace: Workspace, tmp_path: Path) -> None:
    job = tmp_path / "new.bulk.yaml"
    job.write_text("name: new\nsource: {path: x.csv}\nrequest: {model: a/b, prompt: '{{ x }}'}\n")
    with pytest.raises(BulkrateError, match=r"the job new of .* has no run in ") as caught:
        run_of(workspace, str(job))
    assert caught.value.hint == f"`bulkrate run {job}` makes one"
