"""`bulkrate plan` with a pilot, and running just what was planned; the rest is in `tests/integration`."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal

from command_line import CommandLine

WithProvider = Callable[..., CommandLine]

PLAN = "tickets.plan.json"


def test_models_and_lanes_side_by_side(bulkrate: CommandLine) -> None:
    job = bulkrate.tickets(100)
    with (bulkrate.folder / "tickets.csv").open("a") as table:
        table.write("t3,again\n")
    models = "openai/gpt-5-mini,anthropic/claude-haiku-4-5,groq/llama-3.3-70b-versatile"
    done = bulkrate("plan", job, "--models", models, "--json", "--out", "plans/first.plan.json")
    assert done.code == 0, done.err
    found = done.json()
    assert found["rows"] == {
        "total": 101,
        "to_send": 100,
        "rejected": 1,
        "repeated": 0,
        "reused": 0,
        "pilot": 0,
    }
    assert found["problems"] == {"duplicate_key": 1}
    own, mini, claude, groq = found["models"]
    assert own["input_tokens"] == mini["input_tokens"] == found["input_tokens"] != claude["input_tokens"]
    assert (own["input_method"], claude["input_method"]) == ("exact", "estimate")
    assert sum(bucket["rows"] for bucket in found["histogram"]) == 100
    assert list(own["lanes"]) == ["batch", "flex", "live"]
    batch, live = own["lanes"]["batch"], own["lanes"]["live"]
    assert Decimal(batch["ceiling"]) * 2 == Decimal(live["ceiling"]) == Decimal(batch["saving"]) * 2
    assert batch["prices_dated"]
    assert batch["prices_source"].startswith("genai-prices")
    assert (batch["expected"], own["output"]["basis"], own["retries"]["factor"]) == (None, "unknown", None)
    assert 0 < batch["chance_missed"] < 0.02
    assert not groq["lanes"]["batch"]["published"]
    assert groq["lanes"]["batch"]["ceiling"] == groq["lanes"]["live"]["ceiling"]
    assert any("no published batch rate" in note for note in groq["notes"])
    written = json.loads((bulkrate.folder / "plans/first.plan.json").read_text())
    assert written == found | {"job_file": "../tickets.bulk.yaml"}

    nobody = bulkrate("plan", job, "--models", "gpt-5-mini")
    assert (nobody.code, "which provider's gpt-5-mini?" in nobody.err) == (2, True)
    assert not (bulkrate.folder / PLAN).exists()


def test_a_pilot_a_plan_and_a_run_of_it(with_provider: WithProvider) -> None:
    command = with_provider("missing=1")
    job = command.tickets(200)
    asked = command("plan", job, "--pilot", "--poll", "0.02")
    assert (asked.code, "not_approved" in asked.err) == (4, True)
    done = command("plan", job, "--pilot-rows", "40", "--yes", "--poll", "0.02")
    assert done.code == 0, done.err
    assert done.out.startswith("MODEL ")
    for said in ("160 of 200; 40 answered by the pilot", "40 rows drawn at random", "however long", PLAN):
        assert said in done.err
    assert command.provider is not None
    assert command.provider.meter.rows_accepted == 41, "one line was lost"

    run = command("run", PLAN, "--yes", "--poll", "0.02", "--json")
    assert run.code == 0, run.err
    assert run.json()["rows"]["succeeded"] == len(command.answers()) == 200
    assert command.provider.meter.rows_accepted == 201
    job.write_text(job.read_text().replace("Which department?", "Whose is it?"))
    refused = command("submit", PLAN, "--yes", "--json")
    assert (refused.code, refused.json()["error"]["code"]) == (4, "plan_changed")
    assert "the job has another request.prompt" in refused.err
