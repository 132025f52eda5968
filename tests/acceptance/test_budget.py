"""Budgets as people and programs meet them; what they guarantee is tested in `tests/integration`."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from command_line import CommandLine

WithProvider = Callable[..., CommandLine]


def test_a_run_stops_at_its_limit_and_goes_on_by_the_same_command(with_provider: WithProvider) -> None:
    command = with_provider("truncate=20")
    job = command.tickets(20)
    ceiling = command("check", job, "--json").json()["quote"]["batch_max"]
    command_line = ("run", job, "--yes", "--poll", "0.02", "--max-cost")
    stopped = command(*command_line, ceiling)
    assert stopped.code == 4, stopped.err
    assert "error[over_max_cost]: the next shard's ceiling of" in stopped.err
    assert "spent\n" in stopped.err
    assert "hint: raise --max-cost, and run it again" in stopped.err
    status = command("status", "tickets")
    assert "stopped by  the next shard's ceiling of" in status.out
    done = command(*command_line, "1")
    assert done.code == 0, done.err
    assert "stopped by" not in done.err
    assert "quote error" in done.err
    assert len(command.answers()) == 20


def test_the_budget_of_a_ledger(with_provider: WithProvider) -> None:
    command = with_provider()
    shown = command("budget", "0.0000001")
    assert shown.code == 0, shown.err
    assert "0.00000010 USD for everything in this ledger" in shown.out
    refused = command("run", command.tickets(20), "--yes", "--json")
    assert (refused.code, refused.json()["error"]["code"]) == (4, "over_budget")
    assert "raise it by `bulkrate budget AMOUNT`" in refused.json()["error"]["hint"]
    assert "0.00000010 USD left of the ledger's monthly budget" in refused.err
    planned = command("plan", "tickets.bulk.yaml")
    assert "budget: 0.00000010 USD left of the ledger's monthly budget" in planned.err
    assert command("budget", "none").code == 0
    assert command("run", "tickets.bulk.yaml", "--yes", "--poll", "0.02").code == 0
    document = command("budget", "--json").json()
    assert (document["budget"], document["left"]) == (None, None)
    (job,) = document["jobs"]
    assert (job["job"], job["spent"], job["under_way"]) == ("tickets", document["spent"], [])
    assert Decimal(job["spent"]) > 0 == Decimal(document["reserved"])
