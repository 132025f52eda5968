"""Result files: labels decided over the batch, the same bytes every time."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from bulkrate.ledger.answer_log import AnswerLog
from bulkrate.server.answers import Calibration, from_engine, from_error
from bulkrate.server.api_error import ApiError
from bulkrate.server.chat import read_chat
from bulkrate.server.engine import EngineAnswer
from bulkrate.server.records import BatchRecord
from bulkrate.server.results import LoggedScores, gather, write_errors, write_output

LABELS = ("a", "b")
RECORD = BatchRecord(
    id="batch_1",
    sequence=1,
    endpoint="/v1/chat/completions",
    input_file_id="file-1",
    completion_window="24h",
    created_at=0,
    expires_at=1,
    model="m",
)


def chosen(scores: Mapping[str, float], **output: Any) -> dict[str, Any]:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    structured = {"structured_outputs": {"choice": list(LABELS), **output}}
    call = read_chat({**body, **structured})
    text = max(scores, key=scores.__getitem__)
    return from_engine(EngineAnswer("id", text, "stop", 3, 1, 1, scores), call, 1000)


def biased(n: int) -> dict[str, float]:
    """The model always prefers `a`; every second row less so."""
    return {"a": -0.1 - 0.5 * (n % 2), "b": -2.0 + 0.5 * (n % 2)}


def input_file(tmp_path: Path, ids: list[str]) -> Path:
    path = tmp_path / "input.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"custom_id": i, "body": {}}) + b"\n" for i in ids))
    return path


def test_labels_are_decided_over_the_batch(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "log") as log:
        for n in range(40):
            log.append_sync(f"r{n}", chosen(biased(n)))
            log.append_sync(f"raw{n}", chosen(biased(n), calibration="none"))
        found = gather(log)
        assert [found.labels[f"r{n}"] for n in range(40)] == [
            Calibration("batch", 40, "ab"[n % 2]) for n in range(40)
        ]
        assert {found.labels[f"raw{n}"] for n in range(40)} == {Calibration("none")}
        assert (found.tally.completed, found.tally.input_tokens) == (80, 240)
        path, output = input_file(tmp_path, ["r0", "r1", "raw1"]), io.BytesIO()
        write_output(RECORD, path, log, found, output)
    bodies = [orjson.loads(line)["response"]["body"] for line in output.getvalue().splitlines()]
    assert [body["choices"][0]["message"]["content"] for body in bodies] == ["a", "b", "a"]
    assert bodies[1]["bulkrate"] == {"calibration": "batch", "rows": 40}
    assert bodies[2]["bulkrate"] == {"calibration": "none", "rows": 1}


def test_too_few_rows_keep_their_raw_labels(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "log") as log:
        for n in range(10):
            log.append_sync(f"r{n}", chosen(biased(n)))
        assert set(gather(log).labels.values()) == {Calibration("none", 10)}


def test_scores_are_read_from_the_log_as_a_sequence(tmp_path: Path) -> None:
    with AnswerLog(tmp_path / "log") as log:
        for n in range(4):
            log.append_sync(f"r{n}", chosen(biased(n)))
        scores = LoggedScores(log, [f"r{n}" for n in range(4)])
        assert list(scores) == [biased(n) for n in range(4)]
        assert list(scores[1:3]) == [biased(1), biased(2)]


def test_the_same_log_gives_the_same_bytes(tmp_path: Path) -> None:
    refused = from_error(ApiError(400, "no", code="c", param="p"), 1000)
    path = input_file(tmp_path, ["r0", "bad", "never"])
    written = []
    for _ in range(2):
        with AnswerLog(tmp_path / "log") as log:
            log.append_sync("r0", chosen(biased(0)))
            log.append_sync("bad", refused)
            output, errors = io.BytesIO(), io.BytesIO()
            write_output(RECORD, path, log, gather(log), output)
            write_errors(RECORD, path, log, "batch_expired", errors)
        written.append((output.getvalue(), errors.getvalue()))
    assert written[0] == written[1]
    bad, never = [orjson.loads(line) for line in written[0][1].splitlines()]
    assert bad["response"]["status_code"] == 400
    assert bad["response"]["body"]["error"] == {
        "message": "no",
        "type": "invalid_request_error",
        "param": "p",
        "code": "c",
    }
    assert (never["response"], never["error"]["code"]) == (None, "batch_expired")
