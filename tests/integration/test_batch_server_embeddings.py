"""OpenAI's SDK asks the batch server for embeddings: one call, and a batch that is cut off and goes on."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import openai
import pytest
from batch_server_running import CHAT, ENDED, RunningServer, jsonl, row, running

from bulkrate.core.embedding import pack
from bulkrate.server.engines.static import StaticEngine

EMBEDDINGS = "/v1/embeddings"


def line(number: int, **body: Any) -> dict[str, Any]:
    full = {"model": "wordllama-256", "input": f"text {number}", **body}
    return {"custom_id": f"row-{number:05d}", "method": "POST", "url": EMBEDDINGS, "body": full}


def batch(server: RunningServer, lines: list[dict[str, Any]], endpoint: str = EMBEDDINGS) -> Any:
    file = server.client.files.create(file=("input.jsonl", jsonl(lines)), purpose="batch")
    return server.client.batches.create(
        input_file_id=file.id,
        endpoint=endpoint,
        completion_window="24h",
    )


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with running(tmp_path, engine=StaticEngine()) as started:
        yield started


def test_single_calls_and_batches_give_the_same_vectors(server: RunningServer) -> None:
    texts = ["text 0", "text 1"]
    single = server.client.embeddings.create(model="wordllama-256", input=texts)  # asks for base64
    vectors = [pack(item.embedding) for item in single.data]
    assert [len(vector) for vector in vectors] == [1_024, 1_024]
    lines = [line(0), line(1), line(2, input=texts), line(3, dimensions=300), line(4, dimensions=16)]
    ended = server.wait(batch(server, lines).id)
    assert (ended.request_counts.completed, ended.request_counts.failed) == (4, 1)
    results = {item["custom_id"]: item["response"] for item in server.lines(ended.output_file_id)}
    written = [[pack(item["embedding"]) for item in r["body"]["data"]] for r in results.values()]
    assert written[:3] == [[vectors[0]], [vectors[1]], vectors]
    assert len(array("f", written[3][0])) == 16
    (refused,) = server.lines(ended.error_file_id)
    assert refused["response"]["status_code"] == 400
    assert refused["response"]["body"]["error"]["param"] == "input"
    counted = sum(r["body"]["usage"]["prompt_tokens"] for r in results.values())
    assert ended.usage.input_tokens == counted
    assert ended.usage.output_tokens == 0


def test_each_engine_at_its_own_endpoint(server: RunningServer) -> None:
    with pytest.raises(openai.BadRequestError, match="answers '/v1/embeddings' only"):
        batch(server, [row(0)], CHAT)
    with pytest.raises(openai.NotFoundError, match="is not served at"):
        server.client.chat.completions.create(
            model="wordllama-256", messages=[{"role": "user", "content": "a"}]
        )


def test_a_server_that_was_stopped_goes_on_with_its_embeddings(tmp_path: Path) -> None:
    class Stopping(StaticEngine):
        """Answers two rows a step, and none after the second step."""

        slots = 2
        steps = 0

        def step(self) -> Any:
            self.steps += 1
            return super().step() if self.steps <= 2 else []

    with running(tmp_path, engine=Stopping()) as first:
        created = batch(first, [line(number) for number in range(20)])
        part = first.wait(created.id, lambda b: b.request_counts.completed == 4 or b.status in ENDED)
        assert part.status == "in_progress"
    engine = StaticEngine()
    with running(tmp_path, engine=engine) as second:
        ended = second.wait(created.id)
        assert ended.request_counts.completed == 20
        assert len(second.lines(ended.output_file_id)) == 20
