"""A batch server inside the test's process: real HTTP, the echo engine, a clock the test moves."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from openai import OpenAI
from openai.types import Batch

from bulkrate.server.app import make_app
from bulkrate.server.engines.echo import EchoEngine
from bulkrate.server.processor import BatchProcessor

CHAT = "/v1/chat/completions"
ENDED = {"completed", "failed", "expired", "cancelled"}


class Clock:
    """Unix seconds that move when told."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Gate:
    """Holds the engine's thread before a step until it is opened."""

    def __init__(self, *, after: int = 0) -> None:
        self.after = after
        self.reached = threading.Event()
        self._opened = threading.Event()

    def __call__(self, answered: int) -> None:
        if answered >= self.after and not self._opened.is_set():
            self.reached.set()
            assert self._opened.wait(60)

    def open(self) -> None:
        self._opened.set()


class RunningServer:
    """What a test needs of it."""

    def __init__(self, processor: BatchProcessor, engine: EchoEngine, url: str) -> None:
        self.processor, self.engine, self.url = processor, engine, url
        self.client = OpenAI(base_url=url, api_key="any", max_retries=0)

    def create(self, lines: bytes | Sequence[Mapping[str, Any]], **options: Any) -> Batch:
        """Upload and create."""
        data = lines if isinstance(lines, bytes) else jsonl(lines)
        file = self.client.files.create(file=("input.jsonl", data), purpose="batch")
        window = {"completion_window": "24h", **options}
        return self.client.batches.create(input_file_id=file.id, endpoint=CHAT, **window)

    def wait(
        self, batch_id: str, done: Callable[[Batch], bool] = lambda batch: batch.status in ENDED
    ) -> Batch:
        return wait(self.client, batch_id, done)

    def lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of a result file."""
        assert file_id
        return [orjson.loads(line) for line in self.client.files.content(file_id).content.splitlines()]


def wait(
    client: OpenAI, batch_id: str, done: Callable[[Batch], bool] = lambda batch: batch.status in ENDED
) -> Batch:
    """Poll a batch; it fails after a minute rather than hang."""
    giving_up_at = time.monotonic() + 60
    while not done(batch := client.batches.retrieve(batch_id)):
        assert time.monotonic() < giving_up_at, batch
        time.sleep(0.01)
    return batch


def row(number: int, text: str | None = None, **body: Any) -> dict[str, Any]:
    """A line of an input file."""
    content = f"say {number}" if text is None else text
    full = {"model": "echo", "messages": [{"role": "user", "content": content}], **body}
    return {"custom_id": f"row-{number:05d}", "method": "POST", "url": CHAT, "body": full}


def jsonl(lines: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)


@contextmanager
def running(
    state: Path, *, engine: EchoEngine | None = None, now: Callable[[], float] = time.time, **app: Any
) -> Iterator[RunningServer]:
    """Serve `state` until the block ends."""
    engine = engine or EchoEngine()
    processor = BatchProcessor(state, engine, now=now)
    config = uvicorn.Config(
        make_app(processor, **app), port=0, log_level="warning", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    processor.start()
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        instance = RunningServer(processor, engine, f"http://127.0.0.1:{port}/v1")
        with instance.client:
            yield instance
    finally:
        server.should_exit = True
        thread.join()
        processor.close()
