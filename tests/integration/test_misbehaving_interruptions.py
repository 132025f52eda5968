"""Calls that are held, never answered, or cut off by killing the client: what the provider then knows."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest

from bulkrate.testing import FAULTS, MisbehavingProvider, ProviderProcess
from bulkrate.testing.pytest_plugin import ProcessFactory, ProviderFactory

pytest_plugins = ["bulkrate.testing.pytest_plugin"]

CHAT = "/v1/chat/completions"
LINES = b"".join(
    json.dumps(
        {
            "custom_id": f"row{number}",
            "method": "POST",
            "url": CHAT,
            "body": {"model": "gpt-5-mini", "messages": [{"role": "user", "content": f"hello {number}"}]},
        }
    ).encode()
    + b"\n"
    for number in range(1_000)
)


def client_of(provider: MisbehavingProvider | ProviderProcess) -> openai.OpenAI:
    return openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)


def upload(client: openai.OpenAI) -> str:
    return client.files.create(file=("rows.jsonl", LINES), purpose="batch").id


def create(client: openai.OpenAI, file_id: str) -> str:
    return client.batches.create(
        input_file_id=file_id, endpoint=CHAT, completion_window="24h", metadata={"tag": "t1"}
    ).id


def call_and_hang_up(provider: MisbehavingProvider, file_id: str, event: str) -> None:
    """Send a create, and close the connection once ``event`` has happened."""
    where = urlsplit(provider.base_url)
    connection = HTTPConnection(where.netloc)
    body = {"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h"}
    headers = {"authorization": f"Bearer {provider.api_key}", "content-type": "application/json"}
    connection.request("POST", f"{where.path}/batches", json.dumps(body), headers)
    provider.wait(event)
    connection.close()


def test_a_create_that_is_never_answered_is_found_in_the_list(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("create_unanswered=1")
    client = client_of(provider)
    file_id = upload(client)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(create, client_of(provider), file_id)
        assert provider.wait("create_unanswered") == 1
        assert not waiting.done()
        # Other calls go on, and the orphan is there with its metadata.
        (orphan,) = client.batches.list().data
        assert (orphan.input_file_id, orphan.metadata) == (file_id, {"tag": "t1"})
        assert provider.meter.rows_accepted == 1_000
        assert client.batches.retrieve(orphan.id).status == "in_progress"
        provider.stop()
        assert isinstance(waiting.exception(), openai.APIConnectionError)
    assert provider.meter.batches_created == 1


def test_a_create_that_never_arrived_leaves_nothing(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("create_unanswered=1,when=before")
    client = client_of(provider)
    file_id = upload(client)
    call_and_hang_up(provider, file_id, "create_unanswered")
    assert provider.wait("create_gone") == 1, "the provider notices that the client gave up"
    assert client.batches.list().data == []
    assert create(client, file_id)
    assert (provider.meter.batches_created, provider.meter.rows_accepted) == (1, 1_000)


def test_an_upload_that_is_never_answered_is_stored(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("upload_unanswered=1")
    client = client_of(provider)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(upload, client_of(provider))
        provider.wait("upload_unanswered")
        (file,) = client.files.list().data
        assert (file.bytes, file.filename) == (len(LINES), "rows.jsonl")
        assert (provider.meter.uploads, provider.meter.uploaded_lines, provider.meter.rows_accepted) == (
            1,
            1_000,
            0,
        )
        provider.stop()
        assert isinstance(waiting.exception(), openai.APIConnectionError)


@pytest.mark.parametrize(("when", "batches"), [("before", 0), ("after", 1)])
def test_a_held_create_waits_for_its_release(
    misbehaving_provider: ProviderFactory, when: str, batches: int
) -> None:
    provider = misbehaving_provider(f"hold_create=1,when={when}")
    client = client_of(provider)
    file_id = upload(client)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(create, client_of(provider), file_id)
        provider.wait("create_held")
        assert provider.snapshot()["held"] == ["create"]
        assert len(client.batches.list().data) == batches
        assert provider.release("status") == 0
        assert provider.release("create") == 1
        assert waiting.result() == client.batches.list().data[0].id
    assert provider.meter.batches_created == 1


def test_a_create_may_land_after_its_caller_gave_up(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("hold_create=1,when=before")
    client = client_of(provider)
    file_id = upload(client)
    call_and_hang_up(provider, file_id, "create_held")
    assert client.batches.list().data == []
    provider.release()
    provider.wait("create_done")
    assert len(client.batches.list().data) == 1


def test_a_late_create_is_refused_when_its_input_was_deleted(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("hold_create=1,when=before")
    client = client_of(provider)
    file_id = upload(client)
    call_and_hang_up(provider, file_id, "create_held")
    client.files.delete(file_id)
    provider.release()
    provider.wait("create_answered")
    assert client.batches.list().data == []
    assert provider.snapshot()["events"].get("create_done") is None


KILLED = """
import sys, openai
base_url, api_key, path = sys.argv[1:]
client = openai.OpenAI(base_url=base_url, api_key=api_key, max_retries=0, timeout=60)
file = client.files.create(file=("rows.jsonl", open(path, "rb")), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"tag": "t1"}
)
while batch.status != "completed":
    batch = client.batches.retrieve(batch.id)
client.files.content(batch.output_file_id)
"""


@pytest.mark.parametrize("operation", ["upload", "create", "status", "download"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_provider_outlives_a_client_killed_at_a_known_moment(
    misbehaving_provider_process: ProcessFactory, tmp_path: Path, operation: str, when: str
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_bytes(LINES)
    provider = misbehaving_provider_process(f"hold_{operation}=1,when={when}", polls=1)
    command = [sys.executable, "-c", KILLED, provider.base_url, provider.api_key, str(source)]
    with subprocess.Popen(command) as victim:
        provider.wait(f"{operation}_held", timeout_s=60)
        victim.kill()
        assert victim.wait() == -signal.SIGKILL
    meter = provider.meter
    done = {
        "upload": (meter.uploads, 0, 0),
        "create": (1, meter.batches_created, 0),
        "status": (1, 1, meter.status_calls),
        "download": (1, 1, 1),
    }[operation]
    effect = {"upload": meter.uploads, "create": meter.batches_created, "status": meter.status_calls}
    assert (meter.uploads, meter.batches_created, meter.status_calls) == done
    assert effect.get(operation, meter.downloads) == (when == "after")
    assert meter.rows_accepted == 1_000 * meter.batches_created
    # Nothing of it is in the way of a later client.
    client = client_of(provider)
    assert len(client.batches.list().data) == meter.batches_created
    for batch in client.batches.list().data:
        provider.advance(batch.id)
        assert client.batches.retrieve(batch.id).status == "completed"


def test_control_in_another_process(misbehaving_provider_process: ProcessFactory) -> None:
    provider = misbehaving_provider_process(["missing=2", "stuck=1"], seed=4)
    assert provider.snapshot()["faults"] == ["missing=2", "stuck=1"]
    client = client_of(provider)
    batch_id = create(client, upload(client))
    assert provider.wait("create_answered") == 1
    with pytest.raises(TimeoutError):
        provider.wait("status_arrived", timeout_s=0)
    with pytest.raises(ValueError, match="unknown fault"):
        provider.set_faults("nonsense=1")
    with pytest.raises(ValueError, match="No batch found"):
        provider.advance("batch_none")
    provider.advance(batch_id, steps=1)
    (described,) = provider.snapshot()["batches"]
    assert (described["phase"], described["rows"], described["metadata"]) == (
        "in_progress",
        1_000,
        {"tag": "t1"},
    )
    provider.advance()
    assert provider.snapshot()["batches"][0]["phase"] == "completed"
    assert provider.meter.accepted_by_custom_id["row7"] == 1


MODULE = [sys.executable, "-m", "bulkrate.testing"]
CLI = "import sys; from bulkrate.cli.app import main; sys.exit(main())"
VERB = [sys.executable, "-c", CLI, "testing", "serve"]


@pytest.mark.parametrize("program", [MODULE, VERB], ids=["module", "verb"])
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_command_tells_where_it_is_and_what_it_saw(
    tmp_path: Path, program: list[str], stop: signal.Signals
) -> None:
    state = tmp_path / "state.json"
    command = [*program, "--fault", "missing=2", "--fault", "gzip=1", "--seed", "7", "--state", str(state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        where = json.loads(process.stdout.readline())
        assert where == json.loads(state.read_text())
        assert where["pid"] == process.pid
        client = openai.OpenAI(base_url=where["base_url"], api_key=where["api_key"], max_retries=0)
        upload(client)
        client.close()
        process.send_signal(stop)
        assert process.wait() == 0
    left = json.loads(state.read_text())
    assert left["meter"]["uploaded_lines"] == 1_000
    assert left["state"]["faults"] == ["missing=2", "gzip=1"]


@pytest.mark.parametrize(
    ("program", "error"), [(MODULE, "error: "), (VERB, "error[config]: ")], ids=["module", "verb"]
)
def test_the_command_refuses_a_fault_it_does_not_know(program: list[str], error: str) -> None:
    command = [*program, "--fault", "mising=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"{error}unknown fault 'mising'; there is: missing")


def test_the_verb_lists_the_faults() -> None:
    done = subprocess.run([*VERB, "--list-faults"], capture_output=True, text=True, check=True)
    names = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert names == set(FAULTS)


def test_the_verb_says_that_a_port_is_taken(misbehaving_provider: ProviderFactory) -> None:
    port = urlsplit(misbehaving_provider().base_url).port
    done = subprocess.run([*VERB, "--port", str(port)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error[port]: port {port}: ")
