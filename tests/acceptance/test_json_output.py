"""The stable contract: one document, these names, whatever the end."""

from __future__ import annotations

from collections.abc import Callable

from command_line import CommandLine

WithProvider = Callable[..., CommandLine]


def test_the_report_has_the_promised_names(with_provider: WithProvider) -> None:
    command = with_provider("bad_rows=2")
    done = command("run", command.tickets(20), "--yes", "--poll", "0.02", "--json")
    assert done.code == 1
    report = done.json()
    assert list(report["rows"]) == ["total", "succeeded", "failed", "rejected", "pending"]
    assert report["job"] == "tickets"
    assert report["state"] == "finished"
    assert report["requests"] == {"sent": 20}
    (batch,) = report["batches"]
    assert batch.keys() >= {"provider", "id", "state", "requests"}
    assert (batch["provider"], batch["state"], batch["requests"]) == ("openai", "completed", 20)
    assert report["usage"].keys() >= {"input_tokens", "cached_tokens", "output_tokens"}
    assert report["usage"]["input_tokens"] == command.provider.meter.billed_input_tokens
    assert report["usage"]["output_tokens"] == command.provider.meter.billed_output_tokens
    assert report["failures"] == {"bad_request": 2}
    assert report["sink"] == str(command.folder / "answers.jsonl")
    assert report["quote"]["prices_dated"] and report["quote"]["prices_source"]
    assert report["bill"]["batch"] and report["bill"]["live"]
    assert command("status", report["run"], "--json").json() == report
    (listed,) = command("list", "--json").json()["runs"]
    assert listed["run"] == report["run"]
    assert listed["rows"] == report["rows"]


def test_an_error_is_one_document_too(bulkrate: CommandLine) -> None:
    missing = bulkrate("run", "nowhere.bulk.yaml", "--json")
    assert missing.code == 2
    assert missing.json() == {
        "error": {
            "code": "job",
            "message": "nowhere.bulk.yaml: cannot be read: No such file or directory",
            "hint": "`bulkrate init` writes an example",
        }
    }
    assert missing.err.startswith("error[job]: ")
    wrong = bulkrate("run", "--json")
    assert wrong.code == 2
    assert wrong.json()["error"]["code"] == "usage"
    refused = bulkrate("run", bulkrate.tickets(3), "--json")
    assert refused.code == 4
    assert refused.json()["error"]["code"] == "not_approved"


def test_check_counts_and_quotes(bulkrate: CommandLine) -> None:
    job = bulkrate.tickets(20)
    with (bulkrate.folder / "tickets.csv").open("a") as table:
        table.write("t3,again\n")
    done = bulkrate("check", job, "--json")
    assert done.code == 1
    document = done.json()
    assert document["rows"] == {"total": 21, "to_send": 20, "rejected": 1, "repeated": 0}
    assert document["problems"] == {
        "duplicate_key": {
            "count": 1,
            "first": [
                {"row": 21, "where": "row 21", "message": "the key was seen before, at row 4"},
            ],
        }
    }
    assert document["shards"] == 1
    assert document["disk"]["assembled_bytes"] > 0
    assert document["disk"]["results_bytes"] == 20 * 50 + document["quote"]["output_tokens_max"] * 4
    assert document["quote"]["rows"] == 20
    assert document["quote"]["input_method"] == "exact"


def test_the_schema_is_one(bulkrate: CommandLine) -> None:
    document = bulkrate("schema").json()
    assert document["$schema"].startswith("https://json-schema.org/")
    assert "request" in document["properties"]
