"""The misbehaving provider in a process of its own, so that it outlives a client that is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from http.client import HTTPConnection
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from bulkrate.testing.meter import Meter


class RemoteControl:
    """The control API of a running provider, by its control URL; the same members as in-process."""

    def __init__(self, control_url: str) -> None:
        """Talk to the provider whose control API is at ``control_url``."""
        self.control_url = control_url

    @property
    def meter(self) -> Meter:
        """A snapshot of the counts."""
        return Meter.from_dict(self._ask("GET", "/meter?ids=1"))

    def snapshot(self) -> dict[str, Any]:
        """Faults, events, held calls, batches and files."""
        return self._ask("GET", "/state")

    def set_faults(self, faults: str | Sequence[str] = (), seed: int | None = None) -> None:
        """Replace all faults, for calls and batches to come; batches in flight behave from here on.

        Raises ``ValueError`` for an unknown fault.
        """
        given = faults.split() if isinstance(faults, str) else list(faults)
        self._ask("POST", "/faults", {"faults": given, "seed": seed})

    def advance(self, batch_id: str | None = None, steps: int | None = None) -> None:
        """Move a batch (or every one) by ``steps``, or to its end, stuck or not."""
        self._ask("POST", "/advance", {"batch": batch_id, "steps": steps})

    def release(self, operation: str | None = None) -> int:
        """Let the held calls (of one operation, or all) go on; how many there were."""
        return int(self._ask("POST", "/release", {"operation": operation})["released"])

    def wait(self, event: str, count: int = 1, timeout_s: float | None = None) -> int:
        """Block until ``event`` happened ``count`` times; ``TimeoutError`` after ``timeout_s``."""
        query: dict[str, str | int | float] = {"event": event, "count": count}
        if timeout_s is not None:
            query["timeout_s"] = timeout_s
        return int(self._ask("GET", f"/wait?{urlencode(query)}")["count"])

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        where = urlsplit(self.control_url)
        connection = HTTPConnection(where.netloc)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, where.path + path, payload)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status == 408:
            raise TimeoutError(answer["error"])
        if response.status != 200:
            raise ValueError(answer["error"])
        return answer


class ProviderProcess(RemoteControl):
    """``python -m bulkrate.testing`` as a context manager, with the members of ``MisbehavingProvider``.

    The process ends with the ``with`` block, or with this process: it watches its standard input.
    """

    def __init__(
        self,
        faults: str | Sequence[str] = (),
        *,
        seed: int = 0,
        polls: int = 2,
        track_ids: bool = True,
        api_key: str | None = None,
    ) -> None:
        """Configure; nothing runs before ``start``."""
        super().__init__("")
        given = faults.split() if isinstance(faults, str) else list(faults)
        self._arguments = ["--seed", str(seed), "--polls", str(polls), "--until-eof"]
        self._arguments += [part for fault in given for part in ("--fault", fault)]
        self._arguments += [] if track_ids else ["--no-track-ids"]
        self._arguments += [] if api_key is None else ["--api-key", api_key]
        self._process: subprocess.Popen[str] | None = None
        self.base_url = ""
        self.api_key = ""

    def start(self) -> Self:
        """Start the process; returns when it listens. ``RuntimeError`` when it could not."""
        command = [sys.executable, "-m", "bulkrate.testing", *self._arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            self.stop()
            raise RuntimeError("the provider process did not start; its reason is on stderr")
        where = json.loads(line)
        self.base_url, self.control_url = where["base_url"], where["control_url"]
        self.api_key = where["api_key"]
        return self

    def stop(self) -> None:
        """End the process and wait for it. Harmless twice."""
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
            process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
