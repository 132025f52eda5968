"""One server per state directory, found or started, whoever asks and how often."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_server_running import CHAT, jsonl, row, wait
from openai import OpenAI

from bulkrate.errors import ConfigError
from bulkrate.providers.local.launch import ensure_server, find_server, open_local
from bulkrate.providers.local.models import local_model, local_models

ENSURE = """
import sys
from pathlib import Path
from bulkrate.providers.local.launch import ensure_server
server = ensure_server(Path(sys.argv[1]), model="echo", engine="echo")
print(server.pid, server.base_url)
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory; whatever serves it at the end is stopped."""
    directory = tmp_path / "state"
    yield directory
    stop(directory)


def stop(directory: Path) -> None:
    server = find_server(directory)
    if server is not None:
        os.kill(server.pid, signal.SIGTERM)
        until_gone(server.pid)


def until_gone(pid: int) -> None:
    giving_up_at = time.monotonic() + 30
    while time.monotonic() < giving_up_at:
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return
        except ChildProcessError:
            if not Path(f"/proc/{pid}").exists():
                return
        time.sleep(0.02)
    pytest.fail(f"the server {pid} did not stop")


def test_processes_that_ask_at_once_get_one_server(state: Path) -> None:
    command = [sys.executable, "-c", ENSURE, str(state)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    answers = {process.communicate(timeout=100)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert len(answers) == 1
    server = find_server(state)
    assert server is not None
    assert answers == {f"{server.pid} {server.base_url}\n"}
    assert (state / "server.log").read_text().count("serving") == 1
    assert (state / "server.json").stat().st_mode & 0o077 == 0


def test_a_server_that_died_is_replaced_and_its_batch_goes_on(state: Path) -> None:
    first = ensure_server(state, model="echo", engine="echo")
    with OpenAI(base_url=first.base_url, api_key=first.api_key, max_retries=0) as client:
        file = client.files.create(file=("a.jsonl", jsonl([row(n) for n in range(500)])), purpose="batch")
        batch_id = client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h").id
    os.kill(first.pid, signal.SIGKILL)
    until_gone(first.pid)
    assert (state / "server.json").exists()
    assert find_server(state) is None
    second = ensure_server(state, model="echo", engine="echo")
    assert second.pid != first.pid
    with OpenAI(base_url=second.base_url, api_key=second.api_key, max_retries=0) as client:
        assert wait(client, batch_id).status == "completed"


def test_a_file_that_names_a_stranger_is_not_believed(state: Path) -> None:
    server = ensure_server(state, model="echo", engine="echo")
    announced = json.loads((state / "server.json").read_text())
    stranger = state.parent / "other"
    stranger.mkdir()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    for change in ({"token": "not this one", "pid": dead.pid}, {"port": 1, "pid": dead.pid}, {"pid": "x"}):
        (stranger / "server.json").write_text(json.dumps({**announced, **change}))
        assert find_server(stranger) is None
    (stranger / "server.json").write_text("{")
    assert find_server(stranger) is None
    assert find_server(state) == server


def test_open_local(tmp_path: Path) -> None:
    try:
        base_url, api_key = asyncio.run(open_local("echo", tmp_path))
        assert asyncio.run(open_local("echo", tmp_path)) == (base_url, api_key)
        with OpenAI(base_url=base_url, api_key=api_key, max_retries=0) as client:
            assert [model.id for model in client.models.list()] == ["echo"]
    finally:
        stop(tmp_path / "echo")
    with pytest.raises(ConfigError) as caught:
        asyncio.run(open_local("smollm-135m-instruct", tmp_path))
    assert caught.value.hint == "did you mean local/smollm2-135m-instruct?"


def test_what_went_wrong_is_told(state: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        ensure_server(state, model="echo", engine="steam")
    assert caught.value.message == "the local batch server ended with code 2: no engine is called 'steam'"
    assert caught.value.hint == "engines: openvino, static, echo"


def test_another_model_in_the_same_directory(state: Path) -> None:
    ensure_server(state, model="echo", engine="echo")
    with pytest.raises(ConfigError, match="serves 'echo', not 'other'"):
        ensure_server(state, model="other", engine="echo")


def test_it_ends_by_itself(state: Path) -> None:
    server = ensure_server(state, model="echo", engine="echo", idle_exit_s=0.2)
    until_gone(server.pid)
    assert not (state / "server.json").exists()
    assert find_server(state) is None


def test_the_table_of_models() -> None:
    assert local_model("smollm2-135m-instruct").context_window == 8192
    assert {model.licence for model in local_models().values()} == {"Apache-2.0", "MIT"}
