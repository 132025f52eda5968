"""The official SDK drives the whole Files and Batches flow of our server."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest
from batch_server_running import CHAT, Clock, Gate, RunningServer, jsonl, row, running

from bulkrate import signals
from bulkrate.server.engines.echo import EchoEngine


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    with running(tmp_path) as instance:
        yield instance


def test_a_batch_from_upload_to_results(server: RunningServer) -> None:
    lines = [row(n) for n in range(300)]
    batch = server.create(lines, metadata={"bulkrate_run": "abc", "empty": ""})
    assert batch.status == "validating"
    assert batch.expires_at == batch.created_at + 86_400
    assert batch.metadata == {"bulkrate_run": "abc", "empty": ""}
    batch = server.wait(batch.id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 300, "completed": 300, "failed": 0}
    assert (batch.model, batch.errors, batch.error_file_id) == ("echo", None, None)
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at
    answers = server.lines(batch.output_file_id)
    assert [answer["custom_id"] for answer in answers] == [line["custom_id"] for line in lines]
    assert all(answer["error"] is None and answer["response"]["status_code"] == 200 for answer in answers)
    usage = [answer["response"]["body"]["usage"] for answer in answers]
    assert batch.usage is not None
    assert batch.usage.input_tokens == sum(item["prompt_tokens"] for item in usage) == 600
    assert batch.usage.output_tokens == sum(item["completion_tokens"] for item in usage)
    cached = sum(item["prompt_tokens_details"]["cached_tokens"] for item in usage)
    assert batch.usage.input_tokens_details.cached_tokens == cached
    output = server.client.files.retrieve(str(batch.output_file_id))
    assert output.purpose == "batch_output"
    assert output.bytes == len(server.client.files.content(output.id).content)
    assert set(server.engine.submitted.values()) == {1}


def test_five_thousand_rows(server: RunningServer) -> None:
    batch = server.wait(server.create([row(n) for n in range(5000)]).id)
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 5000
    assert len({line["custom_id"] for line in server.lines(batch.output_file_id)}) == 5000


def test_files(server: RunningServer) -> None:
    files = server.client.files
    content = jsonl([row(1)])
    ids = [
        files.create(
            file=(f"{n}.jsonl", content),
            purpose="batch",
            expires_after={"anchor": "created_at", "seconds": 3600},
        ).id
        for n in range(3)
    ]
    file = files.retrieve(ids[0])
    assert (file.filename, file.bytes, file.purpose, file.status) == (
        "0.jsonl",
        len(content),
        "batch",
        "processed",
    )
    assert file.expires_at == file.created_at + 3600
    assert files.content(ids[0]).content == content
    assert [item.id for item in files.list()] == ids[::-1]
    assert [item.id for item in files.list(order="asc", limit=2)] == ids
    assert [item.id for item in files.list(purpose="batch_output")] == []
    assert files.delete(ids[0]).deleted
    with pytest.raises(openai.NotFoundError) as caught:
        files.content(ids[0])
    assert caught.value.body == {
        "message": f"No such File object: {ids[0]}",
        "type": "invalid_request_error",
        "param": "id",
        "code": None,
    }
    assert caught.value.request_id


def test_lists_are_paged_newest_first(server: RunningServer) -> None:
    ids = [server.create([row(1)]).id for _ in range(5)]
    page = server.client.batches.list(limit=2)
    assert page.has_more
    assert [batch.id for batch in page.data] == [ids[4], ids[3]]
    assert [batch.id for batch in server.client.batches.list(limit=2)] == ids[::-1]
    assert [batch.id for batch in server.client.batches.list(after=ids[1])] == [ids[0]]
    for options in ({"limit": 0}, {"limit": 101}, {"after": "batch_unknown"}):
        with pytest.raises(openai.BadRequestError):
            server.client.batches.list(**options)


def test_refused_creates(server: RunningServer) -> None:
    file = server.client.files.create(file=("a.jsonl", jsonl([row(1)])), purpose="batch")
    good: dict[str, Any] = {"input_file_id": file.id, "endpoint": CHAT, "completion_window": "24h"}
    for change, param in (
        ({"endpoint": "/v1/responses"}, "endpoint"),
        ({"completion_window": "tomorrow"}, "completion_window"),
        ({"completion_window": "0h"}, "completion_window"),
        ({"input_file_id": "file-unknown"}, "input_file_id"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
        ({"metadata": {"a": "x" * 513}}, "metadata"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            server.client.batches.create(**{**good, **change})
        assert caught.value.param == param
    with pytest.raises(openai.NotFoundError):
        server.client.batches.retrieve("batch_unknown")
    assert server.client.batches.list().data == []


def test_a_deleted_input_cannot_be_created_from_but_a_created_batch_runs_on(tmp_path: Path) -> None:
    gate = Gate()
    with running(tmp_path, engine=EchoEngine(before_step=gate)) as server:
        batch = server.create([row(n) for n in range(40)])
        assert gate.reached.wait(30)
        server.client.files.delete(batch.input_file_id)
        with pytest.raises(openai.BadRequestError, match="Cannot find file"):
            server.client.batches.create(
                input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
            )
        gate.open()
        assert len(server.lines(server.wait(batch.id).output_file_id)) == 40


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        (b"", "empty_file", None),
        (jsonl([row(1)]) + b"not json\n", "invalid_json_line", 2),
        (jsonl([row(1)]) + b"\n" + jsonl([row(2)]), "invalid_json_line", 2),
        (jsonl([row(1), row(2), row(1)]), "duplicate_custom_id", 3),
        (jsonl([row(1), {**row(2), "url": "/v1/embeddings"}]), "url_mismatch", 2),
        (jsonl([row(1), row(2, model="other")]), "model_mismatch", 2),
        (jsonl([row(1, model="other")]), "model_not_found", 1),
        (jsonl([{**row(1), "method": "GET"}]), "invalid_request", 1),
        (jsonl([row(1, stream=True)]), "invalid_request", 1),
        (b'["a"]\n', "invalid_request", 1),
        (b'{"custom_id": "a"}\n', "missing_required_parameter", 1),
    ],
)
def test_a_file_that_is_no_batch(server: RunningServer, lines: bytes, code: str, line: int | None) -> None:
    batch = server.wait(server.create(lines).id)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("failed", None, None)
    assert batch.failed_at is not None
    assert batch.errors is not None and batch.errors.data is not None
    assert [(problem.code, problem.line) for problem in batch.errors.data] == [(code, line)]
    assert not server.engine.submitted


def test_rows_the_engine_will_not_have_are_errors_of_their_own(server: RunningServer) -> None:
    lines = [
        row(0),
        row(1, "word " * 9000),
        row(2, tools=[{"type": "function", "function": {"name": "f"}}]),
        row(3, messages=[]),
        row(4, surprise=1),
        row(5),
    ]
    batch = server.wait(server.create(lines).id)
    assert batch.status == "completed"
    assert batch.request_counts is not None
    assert batch.request_counts.model_dump() == {"total": 6, "completed": 2, "failed": 4}
    errors = server.lines(batch.error_file_id)
    assert [line["custom_id"] for line in errors] == ["row-00001", "row-00002", "row-00003", "row-00004"]
    assert {line["response"]["status_code"] for line in errors} == {400}
    assert all(line["error"] is None for line in errors)
    assert [line["response"]["body"]["error"]["code"] for line in errors] == [
        "context_length_exceeded",
        "unsupported_parameter",
        "invalid_value",
        "unknown_parameter",
    ]
    assert len(server.lines(batch.output_file_id)) == 2


def test_a_batch_whose_rows_all_fail_has_no_output(server: RunningServer) -> None:
    batch = server.wait(server.create([row(1, messages=[])]).id)
    assert (batch.status, batch.output_file_id) == ("completed", None)
    assert len(server.lines(batch.error_file_id)) == 1


def test_cancel_keeps_what_is_finished(tmp_path: Path) -> None:
    gate = Gate(after=32)
    with running(tmp_path, engine=EchoEngine(slots=16, before_step=gate)) as server:
        batch = server.create([row(n) for n in range(100)])
        assert gate.reached.wait(30)
        cancelling = server.client.batches.cancel(batch.id)
        assert cancelling.status == "cancelling"
        assert cancelling.cancelling_at is not None
        assert server.client.batches.cancel(batch.id).status == "cancelling"
        gate.open()
        batch = server.wait(batch.id)
        assert batch.status == "cancelled"
        assert batch.request_counts is not None
        done, unrun = server.lines(batch.output_file_id), server.lines(batch.error_file_id)
        assert batch.request_counts.model_dump() == {"total": 100, "completed": len(done), "failed": 0}
        assert 32 <= len(done) < 100
        assert sorted(line["custom_id"] for line in done + unrun) == [f"row-{n:05d}" for n in range(100)]
        assert {line["error"]["code"] for line in unrun} == {"batch_cancelled"}
        assert {line["response"] for line in unrun} == {None}


def test_a_cancel_between_the_validation_and_the_first_row(tmp_path: Path) -> None:
    with running(tmp_path) as server:

        def cancel(moment: str) -> None:
            if moment == "server.validate.after":
                (batch,) = server.processor.batches.all()
                server.processor.cancel(batch.id)
                # Notes are read in order: after this one it has heard of the cancel, and not of the batch.
                heard = threading.Event()
                server.processor.dispatcher.withdraw("another", heard.set)
                assert heard.wait(30)

        signals.listen(cancel)
        try:
            batch = server.create([row(n) for n in range(100)])
            assert server.wait(batch.id).status == "cancelled"
        finally:
            signals.listen(None)
        assert server.processor.failure is None
        assert server.wait(server.create([row(1)]).id).status == "completed"


def test_a_finished_batch_cannot_be_cancelled(server: RunningServer) -> None:
    batch = server.wait(server.create([row(1)]).id)
    with pytest.raises(openai.ConflictError) as caught:
        server.client.batches.cancel(batch.id)
    assert caught.value.response.headers["x-should-retry"] == "false"


def test_a_window_that_closes_keeps_what_is_finished(tmp_path: Path) -> None:
    clock, gate = Clock(), Gate(after=32)
    with running(tmp_path, engine=EchoEngine(slots=16, before_step=gate), now=clock) as server:
        batch = server.create([row(n) for n in range(100)], completion_window="90m")
        later = server.create([row(n) for n in range(10)])
        assert batch.expires_at == batch.created_at + 5400
        assert gate.reached.wait(30)
        clock.now += 5400
        assert server.client.batches.retrieve(batch.id).status == "finalizing"
        gate.open()
        batch = server.wait(batch.id)
        assert (batch.status, batch.expired_at) == ("expired", int(clock.now))
        assert batch.request_counts is not None
        done, unrun = server.lines(batch.output_file_id), server.lines(batch.error_file_id)
        assert batch.request_counts.model_dump() == {"total": 100, "completed": len(done), "failed": 0}
        assert len(done) >= 32
        assert len(done) + len(unrun) == 100
        assert {line["error"]["code"] for line in unrun} == {"batch_expired"}
        assert server.wait(later.id).status == "completed"


def test_files_expire(tmp_path: Path) -> None:
    clock = Clock()
    with running(tmp_path, now=clock) as server:
        life: Any = {"anchor": "created_at", "seconds": 3600}
        batch = server.wait(server.create([row(1)], extra_body={"output_expires_after": life}).id)
        assert server.client.files.retrieve(str(batch.output_file_id)).expires_at == int(clock.now) + 3600
        clock.now += 3600
        server.client.batches.list()
        with pytest.raises(openai.NotFoundError):
            server.client.files.retrieve(str(batch.output_file_id))


def test_chat_and_models(server: RunningServer) -> None:
    assert [model.id for model in server.client.models.list()] == ["echo"]
    assert server.client.models.retrieve("echo").id == "echo"
    ask = server.client.chat.completions.create
    messages: Any = [{"role": "user", "content": "hello there"}]
    answer = ask(model="echo", messages=messages, max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 3)
    assert ask(model="echo", messages=messages, max_tokens=3).choices == answer.choices
    labels: Any = {"structured_outputs": {"choice": ["spam", "ham"]}}
    chosen = ask(model="echo", messages=messages, extra_body=labels)
    assert chosen.choices[0].message.content in {"spam", "ham"}
    assert chosen.model_extra is not None
    assert chosen.model_extra["bulkrate"] == {"calibration": "none", "rows": 1}
    schema: Any = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
    assert ask(model="echo", messages=messages, response_format=schema).choices[0].message.content == "{}"
    with pytest.raises(openai.NotFoundError) as missing:
        ask(model="gpt-9", messages=messages)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="does not stream"):
        ask(model="echo", messages=messages, stream=True)
    with pytest.raises(openai.BadRequestError) as too_long:
        ask(model="echo", messages=[{"role": "user", "content": "word " * 9000}])
    assert too_long.value.code == "context_length_exceeded"


def test_a_chat_goes_before_the_rows_that_wait(tmp_path: Path) -> None:
    gate = Gate(after=16)
    with running(tmp_path, engine=EchoEngine(slots=16, before_step=gate)) as server:
        batch = server.create([row(n) for n in range(200)])
        assert gate.reached.wait(30)
        ask = server.client.chat.completions.create
        messages: Any = [{"role": "user", "content": "hello"}]
        with ThreadPoolExecutor() as pool:
            reply = pool.submit(ask, model="echo", messages=messages)
            while not server.processor.dispatcher.waiting_interactive:
                time.sleep(0.005)
            gate.open()
            assert reply.result(30).choices
        server.wait(batch.id)
        (place,) = [n for n, name in enumerate(server.engine.order) if not name.startswith("batch_")]
        assert place == 32, "two steps of sixteen rows were with the engine already"


def test_the_key_is_asked_for(tmp_path: Path) -> None:
    with running(tmp_path, api_key="secret", instance="me") as server:
        with pytest.raises(openai.AuthenticationError) as caught:
            server.client.batches.list()
        assert caught.value.code == "invalid_api_key"
        assert server.client.with_options(api_key="secret").batches.list().data == []
        assert get(server, "/healthz") == (200, {"status": "ok", "model": "echo", "instance": "me"})


def test_the_size_of_a_file_is_bounded(tmp_path: Path) -> None:
    with running(tmp_path, max_file_bytes=1000) as server:
        server.client.files.create(file=("a.jsonl", b"x" * 1000), purpose="batch")
        for size in (1001, 200_000):
            with pytest.raises(openai.APIStatusError) as caught:
                server.client.files.create(file=("a.jsonl", b"x" * size), purpose="batch")
            assert caught.value.status_code == 413
        with pytest.raises(openai.BadRequestError, match="jsonl"):
            server.client.files.create(file=("a.txt", b"x"), purpose="batch")
        with pytest.raises(openai.BadRequestError):
            server.client.files.create(file=("a.jsonl", b"x"), purpose="fine-tune")
        assert len(list((tmp_path / "files").iterdir())) == 2


def test_what_is_not_there(server: RunningServer) -> None:
    status, body = get(server, "/v1/nothing")
    assert (status, body["error"]["message"]) == (404, "Invalid URL (GET /v1/nothing)")
    assert get(server, "/v1/batches", method="PUT")[0] == 405
    assert get(server, "/v1/batches", method="POST", body=b"{")[0] == 400


def get(
    server: RunningServer, path: str, *, method: str = "GET", body: bytes | None = None
) -> tuple[int, dict[str, Any]]:
    host = server.url.split("/")[2]
    connection = http.client.HTTPConnection(host)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, orjson.loads(response.read())
    finally:
        connection.close()
