"""`kill -9` at every moment that matters: each row ends up answered once, and no answer is made twice."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import batch_server_dying
import openai
import orjson
import pytest
from batch_server_running import CHAT, jsonl, row, wait
from openai import OpenAI

from bulkrate.ledger.answer_log import AnswerLog

ROWS = 100


class Crashing:
    """A state directory and the processes that serve it one after another."""

    def __init__(self, directory: Path) -> None:
        self.state, self.submissions = directory / "state", directory / "submitted"
        self.logged: dict[str, int] = {}  # request id -> submissions there were when its answer was on disk

    @contextmanager
    def process(
        self, moment: str = "", count: int = 1
    ) -> Iterator[tuple[subprocess.Popen[bytes], OpenAI | None]]:
        """A server; the client is None when it died before it could say where it is."""
        command = [sys.executable, batch_server_dying.__file__, str(self.state), str(self.submissions)]
        (self.state / "server.json").unlink(missing_ok=True)
        process = subprocess.Popen([*command, moment, str(count)])
        try:
            client = None
            while process.poll() is None and client is None:
                if (self.state / "server.json").exists():
                    port = json.loads((self.state / "server.json").read_bytes())["port"]
                    client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0)
                time.sleep(0.005)
            yield process, client
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)
            if client is not None:
                client.close()

    def survey(self, batch_id: str) -> int:
        """Note which answers are on disk; no server runs now."""
        directory = self.state / "batches" / batch_id / "answers"
        submitted = len(self.submitted())
        if directory.exists():
            with AnswerLog(directory) as log:
                for custom_id in log.ids():
                    self.logged.setdefault(f"{batch_id}:{int(custom_id[4:])}", submitted)
        return len(self.logged)

    def submitted(self) -> list[str]:
        return self.submissions.read_text().split() if self.submissions.exists() else []


def create(client: OpenAI, rows: int = ROWS) -> str:
    file = client.files.create(file=("a.jsonl", jsonl([row(n) for n in range(rows)])), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h").id


def create_and_die(crashing: Crashing, moment: str, count: int) -> str:
    with crashing.process(moment, count) as (process, client):
        assert client is not None
        with contextlib.suppress(openai.APIConnectionError):  # it may die before it has answered
            create(client)
        assert process.wait(20) == -signal.SIGKILL
    (directory,) = (crashing.state / "batches").iterdir()
    return directory.name


def check_whole(crashing: Crashing, client: OpenAI, batch_id: str, rows: int = ROWS) -> list[dict[str, Any]]:
    batch = wait(client, batch_id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": rows, "completed": rows, "failed": 0}
    assert batch.output_file_id is not None and batch.error_file_id is None
    lines = [orjson.loads(line) for line in client.files.content(batch.output_file_id).content.splitlines()]
    assert [line["custom_id"] for line in lines] == [f"row-{n:05d}" for n in range(rows)]
    again = Counter(crashing.submitted())
    for request_id, submissions in crashing.logged.items():
        assert request_id not in crashing.submitted()[submissions:], "an answer on disk was computed again"
    assert len(again) == rows
    return lines


ONE_DEATH = [
    ("server.validate.after", 1),
    ("answer_log.write.before", 1),
    ("answer_log.sync.before", 1),
    ("answer_log.sync.after", 1),
    ("answer_log.sync.after", 3),
    ("server.write_out.before", 1),
    ("server.write_out.after", 1),
    ("server.end.after", 1),
    ("answer_log.seal.after", 1),
]


@pytest.mark.parametrize(("moment", "count"), ONE_DEATH)
def test_one_death(tmp_path: Path, moment: str, count: int) -> None:
    crashing = Crashing(tmp_path)
    batch_id = create_and_die(crashing, moment, count)
    crashing.survey(batch_id)
    with crashing.process() as (_, client):
        assert client is not None
        check_whole(crashing, client, batch_id)


def test_many_deaths_of_one_batch(tmp_path: Path) -> None:
    crashing = Crashing(tmp_path)
    batch_id = create_and_die(crashing, "answer_log.sync.after", 2)
    answered = [crashing.survey(batch_id)]
    deaths = ["answer_log.sync.before", "answer_log.sync.after", "answer_log.write.before"]
    deaths += ["answer_log.sync.after"] * 3
    for moment in deaths:
        with crashing.process(moment) as (process, _):
            assert process.wait(20) == -signal.SIGKILL
        answered.append(crashing.survey(batch_id))
    assert answered == sorted(answered)
    assert 0 < answered[0] < answered[-1] < ROWS, "the deaths came in the middle of the batch"
    with crashing.process("server.write_out.after") as (process, _):
        assert process.wait(20) == -signal.SIGKILL
    assert crashing.survey(batch_id) == ROWS
    with crashing.process() as (_, client):
        assert client is not None
        check_whole(crashing, client, batch_id)
    # After the end: the log is sealed, the input is let go, and a new start has nothing to do.
    with crashing.process() as (_, client):
        assert client is not None
        check_whole(crashing, client, batch_id)
        kept = sorted(path.name for path in (crashing.state / "batches" / batch_id).rglob("*"))
        assert kept == ["00000.parquet", "answers", "batch.json"]


def test_death_before_a_create_is_durable_leaves_nothing(tmp_path: Path) -> None:
    crashing = Crashing(tmp_path)
    with crashing.process("server.create.before") as (_, client), pytest.raises(openai.APIConnectionError):
        assert client is not None
        create(client)
    with crashing.process() as (_, client):
        assert client is not None
        assert client.batches.list().data == []
        assert len(client.files.list().data) == 1


def test_a_create_whose_answer_is_lost_runs(tmp_path: Path) -> None:
    crashing = Crashing(tmp_path)
    with crashing.process("server.create.after") as (_, client), pytest.raises(openai.APIConnectionError):
        assert client is not None
        create(client)
    with crashing.process() as (_, client):
        assert client is not None
        (batch,) = client.batches.list().data
        check_whole(crashing, client, batch.id)


def test_death_after_a_cancel(tmp_path: Path) -> None:
    crashing = Crashing(tmp_path)
    with crashing.process("server.cancel.after") as (_, client):
        assert client is not None
        batch_id = create(client, 20_000)
        with pytest.raises(openai.APIConnectionError):
            client.batches.cancel(batch_id)
    with crashing.process() as (_, client):
        assert client is not None
        batch = wait(client, batch_id)
        assert batch.status == "cancelled"
        ids = Counter[str]()
        for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
            ids.update(
                orjson.loads(line)["custom_id"] for line in client.files.content(file_id).content.splitlines()
            )
        assert set(ids.values()) <= {1}
        assert batch.request_counts is not None
        assert len(ids) == batch.request_counts.total


def test_terminating_politely_and_starting_again(tmp_path: Path) -> None:
    crashing = Crashing(tmp_path)
    with crashing.process() as (process, client):
        assert client is not None
        batch_id = create(client, 5000)
        wait(
            client,
            batch_id,
            lambda batch: batch.request_counts is not None and batch.request_counts.completed > 0,
        )
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert not (crashing.state / "server.json").exists()
    crashing.survey(batch_id)
    with crashing.process() as (_, client):
        assert client is not None
        check_whole(crashing, client, batch_id, 5000)
