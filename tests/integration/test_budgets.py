"""One budget for several processes: what the provider meters is never above it, whoever dies when."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest

from bulkrate.core.budget import Held, Scope
from bulkrate.core.run_states import RunState
from bulkrate.core.usage import Usage
from bulkrate.errors import Refused
from bulkrate.jobs.load import load_job
from bulkrate.ledger.home import Home
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.workspace import Workspace
from bulkrate.pricing import price, rate
from bulkrate.testing import ProviderProcess

pytest_plugins = ["conformance.postgres"]

BULKRATE = str(Path(sys.executable).with_name("bulkrate"))
DYING = str(Path(__file__).with_name("dying_run.py"))
ROWS = 120
SHARDS = 6
MODEL = "gpt-3.5-turbo"

Done = subprocess.CompletedProcess[str]


class Desk:
    """Two jobs in a folder, of one ledger, run by the command or from here.

    The provider answers with as many tokens as the cap allows: bills are nearly as high as their ceilings.
    """

    def __init__(self, folder: Path, ledger_url: str, provider: ProviderProcess) -> None:
        self.folder, self.provider = folder, provider
        self.env = {
            **os.environ,
            "BULKRATE_HOME": str(folder / "state"),
            "BULKRATE_LEDGER": ledger_url,
            "BULKRATE_LIMITS__REQUESTS": str(ROWS // SHARDS),
            "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "0.5",
            "BULKRATE_LIMITS__LISTING_LAG_S": "0.1",
            "OPENAI_API_KEY": provider.api_key,
            "OPENAI_BASE_URL": provider.base_url,
        }
        self.space = Workspace(Home.find(folder, self.env), env=self.env)

    def job(self, name: str, **more: Any) -> Path:
        rows = [json.dumps({"id": n, "body": f"{name} ticket {n}"}) for n in range(ROWS)]
        (self.folder / f"{name}.jsonl").write_text("\n".join(rows), encoding="utf-8")
        job = {
            "name": name,
            "source": {"path": f"{name}.jsonl", "key": "id"},
            "request": {"model": f"openai/{MODEL}", "prompt": "{{ body }}", "max_output_tokens": 6},
            "sink": {"path": f"{name}.answers.jsonl"},
            **more,
        }
        path = self.folder / f"{name}.bulk.yaml"
        path.write_text(json.dumps(job), encoding="utf-8")
        return path

    def approved(self, name: str, **more: Any) -> RunRecord:
        prepared = self.space.prepare(load_job(self.job(name, **more)))
        return self.space.approve(prepared, decide=lambda quote: True)

    def ceiling(self, run: RunRecord) -> Decimal:
        quote = self.space.quote(run)
        assert quote is not None and quote.cost_max is not None
        return quote.cost_max

    def budget(self, amount: Decimal) -> None:
        with self.space.ledger.transaction("budget") as tx:
            tx.set_budget(amount, datetime.now(UTC))

    def held(self, run: RunRecord) -> Held:
        return self.space.ledger.held(run.id, datetime.now(UTC))[Scope.LEDGER]

    def advance(self, run: RunRecord) -> RunRecord:
        return anyio.run(lambda: self.space.advance(run.id, poll_s=0.02))

    def start(self, name: str, *, dying: tuple[str, str] | None = None) -> subprocess.Popen[str]:
        command = [BULKRATE] if dying is None else [sys.executable, DYING, *dying]
        return subprocess.Popen(
            [*command, "run", f"{name}.bulk.yaml", "--yes", "--poll", "0.02", "--json"],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> Done:
        out, err = process.communicate(timeout=120)
        assert "Traceback" not in err, err
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def metered(self) -> Decimal:
        """What the provider has run, priced independently."""
        meter = self.provider.meter
        used = Usage(meter.billed_input_tokens, meter.billed_output_tokens, meter.billed_cached_tokens)
        batch = rate("openai", MODEL, "batch", datetime.now(UTC))
        assert batch is not None
        return price(batch, used)


@pytest.fixture
def provider() -> Iterator[ProviderProcess]:
    with ProviderProcess("", seed=3, polls=2) as process:
        yield process


@pytest.fixture
def desk(tmp_path: Path, ledger_url: str, provider: ProviderProcess) -> Iterator[Desk]:
    desk = Desk(tmp_path, ledger_url, provider)
    yield desk
    desk.space.close()


def test_two_processes_and_one_budget(desk: Desk) -> None:
    runs = [desk.approved(name) for name in ("one", "two")]
    ceiling = desk.ceiling(runs[0])
    limit = ceiling * Decimal("1.5")
    desk.budget(limit)
    both = [desk.start(run.job_name) for run in runs]
    done = [desk.end(process) for process in both]
    assert {each.returncode for each in done} in ({0, 4}, {4}), [each.stderr for each in done]
    for each in done:
        if each.returncode == 4:
            error = json.loads(each.stdout)["error"]
            assert error["code"] == "over_budget"
            assert "is over what is left of the ledger's monthly budget" in error["message"]
    spent = desk.metered()
    assert spent <= limit
    # Who is refused stops, though what the other has under way may cost less than was reserved for it.
    sent = sum(len(desk.space.ledger.batches(run.id)) for run in runs)
    assert (sent + 2) * ceiling / SHARDS > limit, "as much was sent as fits at its worst"
    assert desk.held(runs[0]) == Held(spent=spent)

    desk.budget(2 * ceiling)
    for run in runs:
        assert desk.advance(run).state is RunState.FINISHED
        assert desk.space.ledger.balance(run.id).succeeded == ROWS
    assert desk.metered() <= 2 * ceiling
    assert desk.provider.meter.rows_accepted == 2 * ROWS, "nothing was sent twice"


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("moment", ["ledger.create_intended.after", "create.after"])
def test_a_kill_neither_leaks_a_reservation_nor_frees_one_too_early(desk: Desk, moment: str) -> None:
    desk.job("one")
    killed = desk.end(desk.start("one", dying=(moment, "1")))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    # Whether the batches were made is not known to anybody: they count, and the other job does not fit.
    (one,) = desk.space.ledger.runs()
    ceiling = desk.ceiling(one)
    held = desk.held(one)
    assert held.spent == 0 < ceiling / SHARDS * Decimal("0.9") < held.under_way
    desk.budget(ceiling)
    with pytest.raises(Refused, match="reserved for what is under way") as refused:
        desk.approved("two")
    assert refused.value.exit_code == 4

    # Ended without being sent again: what did not run is given back, what did counts.
    desk.space.cancel(one.id)
    assert desk.advance(one).state is RunState.FINISHED
    assert desk.held(one) == Held(spent=desk.metered())
    desk.budget(desk.metered() + ceiling * Decimal("1.1"))
    assert desk.advance(desk.approved("two")).state is RunState.FINISHED


@pytest.mark.parametrize("ledger_url", ["sqlite"], indirect=True)
def test_a_killed_run_goes_on_within_its_reservation(desk: Desk) -> None:
    run = desk.approved("one")
    desk.budget(desk.ceiling(run))
    assert desk.end(desk.start("one", dying=("create.before", "2"))).returncode == -signal.SIGKILL
    assert desk.advance(run).state is RunState.FINISHED
    assert desk.held(run) == Held(spent=desk.metered())
    assert desk.metered() <= desk.ceiling(run)
    assert desk.provider.meter.rows_accepted == ROWS
