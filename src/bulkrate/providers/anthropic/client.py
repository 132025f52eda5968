"""The HTTP calls; nothing else.

The requests travel in the create call, so there is no file to delete behind a create in doubt; and a batch
has no name and no metadata: whose it is, only the ids in its results tell, once it has ended.
"""

from __future__ import annotations

import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime
from typing import Any, BinaryIO
from urllib.parse import quote

from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.errors import OutcomeUnknown, Undecided, Unreachable
from bulkrate.providers.anthropic.wire import parse_batch, tag_in
from bulkrate.providers.failures import ANSWER, ROW_FAULTS, json_object
from bulkrate.providers.http import Http
from bulkrate.providers.provider import Answer, BatchStatus, ResultFile, Search, Submission, Tag

BATCHES = "v1/messages/batches"
PAGE = 100
CHUNK_BYTES = 1 << 16
_BEFORE, _BETWEEN, _AFTER = b'{"requests":[', b",", b"]}"


class AnthropicConnection:
    """Implements `bulkrate.providers.provider.Connection`."""

    def __init__(self, http: Http, *, limits: Limits) -> None:
        self._http = http
        self._limits = limits

    async def upload(self, name: str, content: BinaryIO) -> None:
        """Nothing to do: `create` carries the requests."""

    async def create(self, submission: Submission) -> BatchStatus:
        with submission.open() as lines:
            # Each line ends in a newline, which becomes a comma; the last one goes.
            size_bytes = len(_BEFORE) + lines.seek(0, io.SEEK_END) - len(_BETWEEN) + len(_AFTER)
            lines.seek(0)
            fields = await self._http.json(
                "create",
                "POST",
                BATCHES,
                content=_as_array(lines),
                headers={"Content-Type": "application/json", "Content-Length": str(size_bytes)},
                timeout_s=self._limits.create_timeout_s,
            )
        return _batch(fields)

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        raw = await self._http.call(
            ANSWER,
            "POST",
            "v1/messages",
            content=body,
            headers={"Content-Type": "application/json"},
            timeout_s=self._limits.answer_timeout_s,
            answers=ROW_FAULTS,
        )
        return Answer(raw.status_code, json_object(raw.content))

    async def find(self, search: Search) -> BatchStatus | None:
        running = None
        async for status in self._newest_first(search.since):
            if status.id in search.known or status.total not in (None, search.requests):
                continue
            if status.end is None:
                running = status
            elif search.tag in await self._tags(status):
                return status
        if running is not None:
            raise Undecided(
                f"batch {running.id} has as many requests as the one in doubt; its end will tell whose it is",
                hint="this is waited for; lane.on_in_doubt: resend does not wait, and may pay twice",
            )
        return None

    async def find_run(self, run: str, since: datetime, known: frozenset[str]) -> list[BatchStatus]:
        found = []
        async for status in self._newest_first(since):
            if status.id in known:
                continue
            if status.end is None:
                found.append(status)
                continue
            ours = [tag for tag in await self._tags(status) if tag.run == run]
            found += [replace(status, tag=tag) for tag in ours[:1]]
        return found

    async def _tags(self, status: BatchStatus) -> set[Tag]:
        """Whose an ended batch is, by the ids at the beginning of its results: empty if none are of our form.

        More than one id is looked at, so that a stray line does not decide.
        """
        if not status.results or status.total is None:
            return set()
        head = b""
        async with aclosing(self.download(status.results[0])) as chunks:
            async for chunk in chunks:
                head += chunk
                if len(head) >= CHUNK_BYTES and b"\n" in head:
                    break
        ids = [_custom_id(line) for line in head.split(b"\n") if line.strip()]
        if head.strip() and not any(ids):
            raise Unreachable(f"list: the results of batch {status.id} cannot be read")
        tags = (tag_in(custom_id, status.total) for custom_id in ids if custom_id)
        return {tag for tag in tags if tag is not None}

    async def _newest_first(self, since: datetime) -> AsyncIterator[BatchStatus]:
        """The workspace's batches created since then, a page at a time (SDK 2.12.0)."""
        after: str | None = None
        while True:
            params = {"limit": PAGE} if after is None else {"limit": PAGE, "after_id": after}
            page = await self._http.json("list", "GET", BATCHES, params=params)
            entries = page.get("data")
            if not isinstance(entries, list):
                raise Unreachable("list: the provider's answer is not a list of batches")
            batches = [parse_batch(fields) for fields in entries if isinstance(fields, dict)]
            for status in batches:
                if status.created_at is None or status.created_at >= since:
                    yield status
            past = batches and batches[-1].created_at is not None and batches[-1].created_at < since
            if page.get("has_more") is not True or not batches or past:
                return
            if batches[-1].id == after:
                raise Unreachable("list: the provider repeats the same page, so absence cannot be told")
            after = batches[-1].id

    async def status(self, batch_id: str) -> BatchStatus:
        return _batch(await self._http.json("retrieve", "GET", f"{BATCHES}/{quote(batch_id)}"))

    async def download(self, file: ResultFile) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._http.stream("download", f"{BATCHES}/{quote(file.id)}/results")) as chunks:
            async for chunk in chunks:
                yield chunk

    async def cancel(self, batch_id: str) -> BatchStatus:
        return _batch(await self._http.json("cancel", "POST", f"{BATCHES}/{quote(batch_id)}/cancel"))

    async def delete_file(self, file_id: str) -> None:
        """Nothing to do: there are no files."""

    async def aclose(self) -> None:
        await self._http.aclose()


async def _as_array(lines: BinaryIO) -> AsyncIterator[bytes]:
    """JSON lines as the array of a create call, a piece at a time."""
    yield _BEFORE
    rest = b""
    while chunk := lines.read(CHUNK_BYTES):
        # The newline at the end of what was read may be the last one: it waits.
        chunk = rest + chunk
        whole, rest = (chunk[:-1], b"\n") if chunk.endswith(b"\n") else (chunk, b"")
        yield whole.replace(b"\n", _BETWEEN)
    yield _AFTER


def _batch(fields: dict[str, Any]) -> BatchStatus:
    status = parse_batch(fields)
    if not status.id:
        raise OutcomeUnknown("the provider's answer is not a batch")
    return status


def _custom_id(line: bytes) -> str | None:
    try:
        custom_id = json.loads(line)["custom_id"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    return custom_id if isinstance(custom_id, str) else None
