"""Recorded Anthropic batch traffic, read where it lies; the numbers below are its own."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import FreeText, Message, Request
from bulkrate.core.usage import Usage
from bulkrate.providers.anthropic.batches import parse_batch
from bulkrate.providers.anthropic.provider import provider

RECORDINGS = ("basic_batch_completion", "failed_request_batch_resume")
WIRE = provider.wire("claude-3-5-sonnet-20241022")


@pytest.fixture(scope="module")
def traffic(shared_data: Path) -> dict[str, list[dict[str, Any]]]:
    folder = shared_data / "batch-wire"
    if not folder.is_dir():
        pytest.skip("the recorded traffic is not here")
    return {
        name: [orjson.loads(line) for line in (folder / f"anthropic__{name}.jsonl").read_bytes().splitlines()]
        for name in RECORDINGS
    }


def statuses(exchanges: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [item for item in exchanges if not item["uri"].endswith("/results")]


STATUSES = {
    "basic_batch_completion": ("msgbatch_01MxdL3LT4Dizo9t3j6FY9Ap", 3, 33, 1736661554),
    "failed_request_batch_resume": ("msgbatch_0186dQnu3mcMRSWvLLZL4HdK", 1, 36, 1736665209),
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_statuses(traffic: dict[str, list[dict[str, Any]]], name: str) -> None:
    batch_id, rows, running, created = STATUSES[name]
    seen = [parse_batch(orjson.loads(item["response_body"])) for item in statuses(traffic[name])]
    assert [status.word for status in seen] == ["in_progress"] * running + ["ended"] * 2
    for status in seen:
        ended = status.word == "ended"
        assert (status.id, status.total, status.tag, status.strange) == (batch_id, rows, None, False)
        assert (status.completed, status.failed) == ((rows, 0) if ended else (None, None))
        assert status.end is (BatchEnd.COMPLETED if ended else None)
        assert [(file.kind, file.id) for file in status.results] == ([("output", batch_id)] if ended else [])
        assert status.created_at is not None
        assert status.expires_at is not None
        assert int(status.created_at.timestamp()) == created
        assert (status.expires_at - status.created_at).total_seconds() == 86_400


# Usage, characters, and the first half of the text's SHA-256.
ANSWERS = {
    "basic_batch_completion": {
        "0": (Usage(11, 273), 825, "1f908a1448a76d1e"),
        "1": (Usage(10, 259), 875, "6ca60dd91cd0af91"),
        "2": (Usage(10, 313), 913, "dc9fa7dc8c52e30c"),
    },
    "failed_request_batch_resume": {"2": (Usage(10, 337), 959, "e1ee33ef055d606a")},
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_result_lines(traffic: dict[str, list[dict[str, Any]]], name: str) -> None:
    (results,) = [item for item in traffic[name] if item["uri"].endswith("/results")]
    found = {}
    for line in results["response_body"].encode().splitlines():
        decoded = WIRE.decode(line, FreeText())
        assert decoded is not None
        outcome = decoded.outcome
        text = outcome.text or ""
        found[decoded.custom_id] = (outcome.usage, len(text), sha256(text.encode()).hexdigest()[:16])
        assert (outcome.error, outcome.message) == (None, None)
        assert (outcome.model, outcome.finish_reason) == ("claude-3-5-sonnet-20241022", "end_turn")
    assert found == ANSWERS[name]


@pytest.mark.parametrize("name", RECORDINGS)
def test_our_requests_say_the_same(traffic: dict[str, list[dict[str, Any]]], name: str) -> None:
    (create,) = [item for item in traffic[name] if item["method"] == "POST"]
    for entry in orjson.loads(create["request_body"])["requests"]:
        asked = Request(
            model=entry["params"]["model"],
            messages=tuple(Message(turn["role"], turn["content"]) for turn in entry["params"]["messages"]),
            max_output_tokens=entry["params"]["max_tokens"],
        )
        assert {"custom_id": entry["custom_id"], "params": WIRE.body(asked)} == entry
