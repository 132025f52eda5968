"""Recorded OpenAI batch traffic, read where it lies; the numbers below are its own.

None of the three recordings has an error file: failed rows are in `test_openai_result_traps.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pytest

from bulkrate.core.outcome import Outcome
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import FreeText
from bulkrate.core.usage import Usage
from bulkrate.jobs.openai_lines import parse_body
from bulkrate.providers.openai.wire import Dialect, OpenAIWire, parse_batch
from bulkrate.providers.provider import WIDEST_TAG, BatchStatus

BASIC, CANCEL, RESUMED = "basic_batch_completion", "batch_cancel", "failed_request_batch_resume"
RECORDINGS = (BASIC, CANCEL, RESUMED)
WIRE = OpenAIWire(Dialect())


@dataclass(frozen=True)
class Exchange:
    method: str
    path: str
    sent: str
    status: int
    answer: str


@pytest.fixture(scope="module")
def traffic(shared_data: Path) -> dict[str, list[Exchange]]:
    folder = shared_data / "batch-wire"
    if not folder.is_dir():
        pytest.skip("the recorded traffic is not here")
    return {name: list(_read(folder / f"openai__{name}.jsonl")) for name in RECORDINGS}


def _read(path: Path) -> Iterator[Exchange]:
    for line in path.read_bytes().splitlines():
        fields = orjson.loads(line)
        host, _, rest = fields["uri"].removeprefix("https://").partition("/")
        if host == "api.openai.com":
            yield Exchange(
                fields["method"], rest, fields["request_body"], fields["status"], fields["response_body"]
            )


def batches(exchanges: list[Exchange]) -> list[BatchStatus]:
    return [
        parse_batch(orjson.loads(item.answer)) for item in exchanges if item.path.startswith("v1/batches")
    ]


def result_lines(exchanges: list[Exchange]) -> dict[str, Outcome]:
    """Outcomes by custom_id, from every downloaded result file of a recording."""
    outcomes = {}
    for item in exchanges:
        if item.path.endswith("/content"):
            for line in item.answer.encode().splitlines():
                decoded = WIRE.decode(line, FreeText())
                assert decoded is not None
                outcomes[decoded.custom_id] = decoded.outcome
    return outcomes


def uploaded_lines(exchanges: list[Exchange]) -> list[dict[str, Any]]:
    """The request lines of every upload of a recording."""
    found = []
    for item in exchanges:
        if (item.method, item.path) == ("POST", "v1/files"):
            boundary = item.sent.split("\r\n", 1)[0].removeprefix("--")
            head = f"Content-Type: multipart/form-data; boundary={boundary}\r\n\r\n"
            form = BytesParser(policy=HTTP).parsebytes((head + item.sent).encode())
            for part in form.walk():
                if part.get_filename():
                    content = part.get_payload(decode=True)
                    assert isinstance(content, bytes)
                    found += [orjson.loads(line) for line in content.splitlines() if line.strip()]
    return found


STATUSES = {
    BASIC: {
        "id": "batch_6780bb2f8f6c8190a6c0abfb8502bba6",
        "input": "file-TnjeSoqJGFp7SfehYrEuHH",
        "words": ["validating", "validating", *["in_progress"] * 4, "finalizing", "completed"],
        "counts": [(0, 0), (0, 0), (3, 0), (3, 1), (3, 1), (3, 1), (3, 3), (3, 3)],
        "output": "file-GykDwPni5UjeQEo2wkgrh7",
        "created": 1736489775,
    },
    CANCEL: {
        "id": "batch_67f94eff32888190860754b9a179d0bf",
        "input": "file-Lv7qQn9qpwaUyW7YmuAKyn",
        "words": ["validating", "validating", "cancelling"],
        "counts": [(0, 0), (0, 0), (0, 0)],
        "output": None,
        "created": 1744391935,
    },
    RESUMED: {
        "id": "batch_678229ccc9dc81909f07eabb2be64ec0",
        "input": "file-FtPe3RnGvrBhe9RYzYy2NH",
        "words": ["validating", "in_progress", "in_progress", "finalizing", "completed"],
        "counts": [(0, 0), (1, 0), (1, 0), (1, 1), (1, 1)],
        "output": "file-PWB1SHg1dfa4aHwozaauxd",
        "created": 1736583628,
    },
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_statuses(traffic: dict[str, list[Exchange]], name: str) -> None:
    golden: dict[str, Any] = STATUSES[name]
    seen = batches(traffic[name])
    assert [status.word for status in seen] == golden["words"]
    assert [(status.total, status.completed) for status in seen] == golden["counts"]
    for status in seen:
        assert (status.id, status.input_file_id, status.failed) == (golden["id"], golden["input"], 0)
        assert (status.tag, status.queue_refusal, status.problems, status.usage) == (None, None, (), None)
        assert status.created_at is not None
        assert status.expires_at is not None
        assert status.created_at.timestamp() == golden["created"]
        assert (status.expires_at - status.created_at).total_seconds() == 86_400
        assert status.end is (BatchEnd.COMPLETED if status.word == "completed" else None)
        results = [(file.kind, file.id) for file in status.results]
        assert results == ([("output", golden["output"])] if status.end else [])


# Usage, characters, and the first half of the text's SHA-256.
ANSWERS = {
    BASIC: {
        "0": (Usage(10, 72), 310, "f573354546688459"),
        "1": (Usage(9, 97), 454, "0aa2a1f1bc6fc983"),
        "2": (Usage(9, 110), 468, "acdc47c5533aef6b"),
    },
    CANCEL: {},
    RESUMED: {"2": (Usage(9, 92), 440, "1bdfc0a683a49918")},
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_result_lines(traffic: dict[str, list[Exchange]], name: str) -> None:
    found = result_lines(traffic[name])
    golden: dict[str, Any] = ANSWERS[name]
    assert set(found) == set(golden)
    for custom_id, outcome in found.items():
        text = outcome.text or ""
        digest = sha256(text.encode()).hexdigest()[:16]
        assert (outcome.usage, len(text), digest) == golden[custom_id]
        assert (outcome.error, outcome.message) == (None, None)
        assert (outcome.model, outcome.finish_reason) == ("gpt-3.5-turbo-0125", "stop")


@pytest.mark.parametrize(("name", "ids"), [(BASIC, "012"), (CANCEL, "012"), (RESUMED, "2")])
def test_our_request_lines_say_the_same(traffic: dict[str, list[Exchange]], name: str, ids: str) -> None:
    lines = uploaded_lines(traffic[name])
    assert "".join(line["custom_id"] for line in lines) == ids
    for line in lines:
        request = parse_body(line["body"], line["url"])
        before, middle, after = WIRE.envelope(WIDEST_TAG)
        ours = before + line["custom_id"].encode() + middle + orjson.dumps(WIRE.body(request)) + after
        assert orjson.loads(ours) == line
        assert ours.count(b"\n") == 1


@pytest.mark.parametrize("name", RECORDINGS)
def test_our_create_call_has_the_recorded_fields(traffic: dict[str, list[Exchange]], name: str) -> None:
    """What our client sends is pinned in its own test; here: the service took exactly these fields."""
    (create,) = [item for item in traffic[name] if (item.method, item.path) == ("POST", "v1/batches")]
    assert set(orjson.loads(create.sent)) == {"completion_window", "endpoint", "input_file_id", "metadata"}
    assert create.status == 200
