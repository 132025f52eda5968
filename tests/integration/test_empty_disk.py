"""`rm -rf .bulkrate`, and the same job again: the provider is the backup of the ledger."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anyio
import pytest
from table_desk import Desk

from bulkrate.testing import MisbehavingProvider


class Lost:
    """A run of a hundred rows on a disk that is emptied, and the same job again."""

    def __init__(self, folder: Path, provider: MisbehavingProvider, clock: Any, *, shard_rows: int) -> None:
        self._place = folder, provider, clock
        self._shard_rows = str(shard_rows)
        self.desk = self._opened()
        self.desk.write([(f"T-{number}", f"ticket {number}") for number in range(100)])
        self.run = self.desk.workspace.prepare(self.desk.job())
        self.desk.workspace.approve(self.run, decide=lambda quote: True)

    def _opened(self) -> Desk:
        desk = Desk(*self._place)
        desk.workspace.env["BULKRATE_LIMITS__REQUESTS"] = self._shard_rows
        return desk

    def advance(self, **how: Any) -> None:
        anyio.run(lambda: self.desk.workspace.advance(self.run.id, poll_s=10, **how))

    def lose_and_run(self) -> Any:
        """The report of the run that finds the batches again."""
        self.desk.workspace.close()
        shutil.rmtree(self.desk.folder / ".bulkrate")
        self.desk = self._opened()
        return self.desk.run()


@pytest.mark.parametrize("polls", [0, 1, 2, 4, 8])
def test_an_empty_disk_in_the_middle_of_a_run_pays_nothing_twice(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any, polls: int
) -> None:
    provider = misbehaving_provider("missing=1,batches=2", polls=4)
    lost = Lost(tmp_path, provider, fake_clock, shard_rows=10)
    lost.advance(timeout_s=polls * 10, until_submitted=not polls)
    result = lost.lose_and_run()
    assert result["run"] == lost.run.id
    assert result["rows"]["succeeded"] == 100
    assert [line["id"] for line in lost.desk.answers()] == [f"T-{number}" for number in range(100)]
    assert provider.meter.rows_accepted == 102


@pytest.mark.parametrize(
    "rounds", [*range(1, 9, 3), *(pytest.param(n, marks=pytest.mark.soak) for n in (2, 3, 5, 6, 8))]
)
def test_an_empty_disk_after_a_queue_limit_cut_the_shards_pays_nothing_twice(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any, rounds: int
) -> None:
    """Where a queue limit cut depends on what the lost ledger had learned: the tags of the pieces say it."""
    provider = misbehaving_provider("token_queue=150 missing=1,batches=2", polls=2)
    lost = Lost(tmp_path, provider, fake_clock, shard_rows=40)
    lost.advance(timeout_s=rounds * 40)
    shards = lost.desk.workspace.ledger.shards(lost.run.id)
    assert any(shard.slice_of is not None for shard in shards)
    assert lost.lose_and_run()["rows"]["succeeded"] == 100
    assert provider.meter.rows_accepted == 102
