"""The recorded traffic that is named after Mistral: none of it is Mistral's."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest


def test_the_recording_holds_no_call_of_mistrals(shared_data: Path) -> None:
    """One call, for a table of prices. One with batches in it makes this fail: read it as OpenAI's."""
    path = shared_data / "batch-wire" / "mistral__test_mistral_batch_response.jsonl"
    if not path.is_file():
        pytest.skip("the recorded traffic is not here")
    calls = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [(call["method"], urlsplit(call["uri"]).hostname) for call in calls] == [
        ("GET", "raw.githubusercontent.com")
    ]
