"""A key that is written anywhere fails the tests: proven by writing one."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from bulkrate.testing.server import API_KEY
from canary import has_key, leaks


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone before the session's own search."""
    yield tmp_path / "searched"
    shutil.rmtree(tmp_path / "searched")


def test_a_key_is_found_in_whatever_is_written(folder: Path) -> None:
    (folder / "deep").mkdir(parents=True)
    (folder / "server.log").write_text(f"called with Bearer {API_KEY}\n")
    (folder / "deep" / "raw.jsonl.zst").write_bytes(zstandard.compress(API_KEY.encode() * 50))
    pq.write_table(pa.table({"said": [f"{n} {API_KEY}" for n in range(500)]}), folder / "outcomes.parquet")
    with sqlite3.connect(folder / "ledger.sqlite") as ledger:
        ledger.execute("create table events (detail text)")
        ledger.execute("insert into events values (?)", (API_KEY,))
    ledger.close()
    (folder / "clean.txt").write_text("nothing of it")
    names = {Path(name).name for name in leaks(folder)}
    assert names == {"server.log", "raw.jsonl.zst", "outcomes.parquet", "ledger.sqlite"}


def test_damaged_files_are_no_error(folder: Path) -> None:
    folder.mkdir()
    (folder / "cut.zst").write_bytes(zstandard.compress(b"text")[:7])
    (folder / "none.parquet").write_bytes(b"PAR1")
    assert leaks(folder) == []


@pytest.mark.parametrize(
    ("leaking", "errors"),
    [(f"(tmp_path / 'log').write_text('{API_KEY}')", 1), (f"print('{API_KEY}')", 1), ("print('fine')", 0)],
    ids=["file", "output", "nothing"],
)
def test_a_session_that_lets_a_key_out_fails(
    leaking: str,
    errors: int,
    folder: Path,
    pytester: pytest.Pytester,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytester.makepyfile(f"def test_it(tmp_path):\n    {leaking}\n")
    result = pytester.runpytest_inprocess("-p", "canary", f"--basetemp={folder}")
    result.assert_outcomes(passed=1, errors=errors)
    shutil.rmtree(pytester.path)
    capsys.readouterr()


def test_the_default_key_is_a_canary() -> None:
    assert has_key(API_KEY.encode())
