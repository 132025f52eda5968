"""`bulkrate rehearse`: everything happens, nothing is kept, nobody is asked."""

from __future__ import annotations

from command_line import CommandLine


def test_a_rehearsal_needs_no_key_and_leaves_nothing(bulkrate: CommandLine) -> None:
    job = bulkrate.tickets(60, model="openai/gpt-5-mini")
    bulkrate.env["BULKRATE_LIMITS__REQUESTS"] = "30"
    before = {path for path in bulkrate.folder.rglob("*") if path.is_file()}
    done = bulkrate("rehearse", job, "--json")
    assert done.code == 0, done.err
    found = done.json()
    assert found["rows"] == {"total": 60, "succeeded": 60, "failed": 0, "rejected": 0, "pending": 0}
    assert (found["shards"], found["sent_again"]) == (2, 14)  # 12 expired, and one lost in each batch
    assert found["requests"]["sent"] == 74
    assert (found["waves"], found["answers"]) == (2, "all as long as their cap")
    assert found["bill"]["accepted_rows"] == 60
    # At the prices of today: long ago no batch rate was published for the model.
    assert found["quote"]["published_batch_rate"]
    left = {path for path in bulkrate.folder.rglob("*") if path.is_file()} - before
    assert not [path for path in left if ".bulkrate" not in path.parts]
    assert bulkrate("list", "--json").json() == {"runs": []}
    planned = bulkrate("plan", job, "--json").json()["models"][0]["lanes"]["batch"]
    assert found["quote"]["batch_max"] == planned["ceiling"], "at the prices of today"
    assert found["bill"]["unpublished"] == []


def test_a_rehearsal_without_faults_costs_what_was_quoted(bulkrate: CommandLine) -> None:
    done = bulkrate("rehearse", bulkrate.tickets(20), "--fault", "none")
    assert done.code == 0, done.err
    for words in ("faults        none", "20: 20 succeeded", "none: the bill is what was quoted"):
        assert words in done.out, done.out


def test_a_provider_without_a_counterpart_is_told(bulkrate: CommandLine) -> None:
    done = bulkrate("rehearse", bulkrate.tickets(3, model="groq/llama-3.3-70b-versatile"))
    assert done.code == 2
    assert "there is no counterpart of groq" in done.err
