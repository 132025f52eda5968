"""The HTTP calls; nothing else.

The requests travel in the create call, so there is no file to delete behind a create in doubt. Whose a batch
is, only the ids in its results tell, and those come when it has ended.
"""

from __future__ import annotations

import io
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.errors import (
    ConfigError,
    NotFoundError,
    OutcomeUnknown,
    QuotaError,
    RequestRefused,
    Undecided,
    Unreachable,
)
from bulkrate.providers.anthropic.batches import are_results, parse_batch, tags_in
from bulkrate.providers.anthropic.failures import read_error
from bulkrate.providers.failures import ANSWER, ROW_FAULTS, json_object
from bulkrate.providers.http import CHUNK_BYTES, Http, checked_key, key_of
from bulkrate.providers.provider import Answer, BatchStatus, ResultFile, Search, Submission, Tag

if TYPE_CHECKING:
    import httpx2

DEFAULT_BASE_URL = "https://api.anthropic.com"
VERSION = "2026-10-21"  # as SDK 2.12.0 sends it; it knows no `temperature` any more, whatever the model
MESSAGES, BATCHES = "v1/messages", "v1/messages/batches"
PAGE = 1_000
# The results of a batch are looked at this far for an id of ours.
HEAD_BYTES = 1 << 16
# A clock that takes its zone's time for UTC is this far off. Elsewhere a name tells a batch in doubt; here
# its time decides whether it is looked at at all, and to overlook it is to pay twice.
FURTHEST_OFF = timedelta(hours=14)

WAITED_FOR = "`lane.on_in_doubt: resend` would not wait, and perhaps pay twice"
TOO_LARGE = ("413", "request_too_large")

_JSON = {"Content-Type": "application/json"}
_OPEN, _CLOSE = b'{"requests":[', b"]}"


class AnthropicConnection:
    """Implements `bulkrate.providers.provider.Connection`."""

    def __init__(self, http: Http, *, limits: Limits) -> None:
        self._http = http
        self._limits = limits
        self._owners: dict[str, list[Tag]] = {}  # of ended batches, whose results do not change

    async def upload(self, name: str, content: BinaryIO) -> None:
        """Nothing to send: `create` carries the requests."""

    async def create(self, submission: Submission) -> BatchStatus:
        with submission.open() as lines:
            # The newline of each line becomes a comma, the last one goes.
            size_bytes = len(_OPEN) + lines.seek(0, io.SEEK_END) - 1 + len(_CLOSE)
            lines.seek(0)
            try:
                fields = await self._http.json(
                    "create",
                    "POST",
                    BATCHES,
                    content=_as_array(lines),
                    headers={**_JSON, "Content-Length": str(size_bytes)},
                    timeout_s=self._limits.create_timeout_s,
                )
            except RequestRefused as error:
                if error.code in TOO_LARGE:
                    raise _too_large(error, size_bytes) from error
                raise
            except QuotaError as error:
                if error.retry_after_s is None:
                    # A rate limit names a wait; without one it is, as documented, the month's spend limit.
                    # Both are waited for, and the run's events keep the word.
                    error.code = "perhaps_spend_limit"
                raise
        return _batch(fields)

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        raw = await self._http.call(
            ANSWER,
            "POST",
            MESSAGES,
            content=body,
            headers=_JSON,
            timeout_s=self._limits.answer_timeout_s,
            answers=ROW_FAULTS,
        )
        return Answer(raw.status_code, json_object(raw.content))

    async def find(self, search: Search) -> BatchStatus | None:
        running: BatchStatus | None = None
        async for status in self._newest_first(search.since - FURTHEST_OFF):
            if status.id in search.known or status.total not in (None, search.requests):
                continue
            if status.end is None:
                running = status
            elif search.tag in await self._tags(status):
                return replace(status, tag=search.tag)
        if running is not None:
            raise Undecided(
                f"batch {running.id} is as large as the one in doubt; its end will tell whose it is",
                hint=WAITED_FOR,
            )
        return None

    async def find_run(self, run: str, since: datetime, known: frozenset[str]) -> list[BatchStatus]:
        found = []
        async for status in self._newest_first(since):
            if status.id in known:
                continue
            try:
                tags = None if status.end is None else await self._tags(status)
            except Undecided:
                tags = None
            if tags is None:
                found.append(status)
            else:
                found += [replace(status, tag=tag) for tag in tags if tag.run == run][:1]
        return found

    async def _tags(self, status: BatchStatus) -> list[Tag]:
        """Whose an ended batch is: the tags at the beginning of its results.

        Raises `Undecided` when those cannot be read. An archived batch is nobody's: there is nothing left in
        it to adopt.
        """
        if status.id not in self._owners and status.results and status.total is not None:
            try:
                head = await self._head(status.results[0])
            except NotFoundError:
                head = b""  # reads lag: "no such results" of a batch that has ended says nothing
            if not are_results(head):
                raise Undecided(f"list: the results of batch {status.id} cannot be read", hint=WAITED_FOR)
            self._owners[status.id] = tags_in(head, status.total)
        return self._owners.get(status.id, [])

    async def _head(self, file: ResultFile) -> bytes:
        head = b""
        async with aclosing(self.download(file)) as chunks:
            async for chunk in chunks:
                head += chunk
                if len(head) >= HEAD_BYTES:
                    break
        return head

    async def _newest_first(self, since: datetime) -> AsyncIterator[BatchStatus]:
        """The workspace's batches back to `since`, a page at a time; no filter is known (SDK 2.12.0)."""
        after: str | None = None
        seen: set[str] = set()
        while True:
            params = {"limit": PAGE} if after is None else {"limit": PAGE, "after_id": after}
            page = await self._http.json("list", "GET", BATCHES, params=params)
            batches, more = _listed(page)
            for status in batches:
                if status.created_at is None or status.created_at >= since:
                    yield status
            if not more or not batches or _older(batches[-1], since):
                return
            after = batches[-1].id
            if after in seen:
                raise Unreachable("list: the provider repeats the same page, so absence cannot be told")
            seen.update(status.id for status in batches)

    async def status(self, batch_id: str) -> BatchStatus:
        return _batch(await self._http.json("retrieve", "GET", _path(batch_id)))

    async def download(self, file: ResultFile) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._http.stream("download", f"{_path(file.id)}/results")) as chunks:
            async for chunk in chunks:
                yield chunk

    async def cancel(self, batch_id: str) -> BatchStatus:
        return _batch(await self._http.json("cancel", "POST", f"{_path(batch_id)}/cancel"))

    async def delete_file(self, file_id: str) -> None:
        """Delete an ended batch, which is all there is to delete; one that is gone already is no error."""
        await self._http.delete(_path(file_id))

    async def aclose(self) -> None:
        await self._http.aclose()


async def _as_array(lines: BinaryIO) -> AsyncIterator[bytes]:
    """JSON lines as the array of a create call, a piece at a time."""
    yield _OPEN
    held = b""  # a newline that may be the last one
    while chunk := lines.read(CHUNK_BYTES):
        chunk = held + chunk
        held = chunk[-1:] if chunk.endswith(b"\n") else b""
        yield chunk[: len(chunk) - len(held)].replace(b"\n", b",")
    yield _CLOSE


def _too_large(error: RequestRefused, size_bytes: int) -> RequestRefused:
    """The edge in front of the service, or a proxy, knows no better than "too large"."""
    return RequestRefused(
        f"{error.message} (the call had {size_bytes:,} bytes)",
        code="request_too_large",
        hint="set BULKRATE_LIMITS__FILE_BYTES to what is let through",
    )


def _path(batch_id: str) -> str:
    return f"{BATCHES}/{quote(batch_id, safe='')}"


def _batch(fields: dict[str, Any]) -> BatchStatus:
    status = parse_batch(fields)
    if not status.id:
        raise OutcomeUnknown("the provider's answer is not a batch")
    return status


def _listed(page: dict[str, Any]) -> tuple[list[BatchStatus], bool]:
    """The batches of a page, and whether there are more. An answer that is no page says nothing, least of
    all that there is no batch."""
    entries, more = page.get("data"), page.get("has_more")
    if not isinstance(entries, list) or not isinstance(more, bool):
        raise Unreachable("list: the provider's answer is not a list of batches")
    found = [parse_batch(fields) for fields in entries if isinstance(fields, dict)]
    return [status for status in found if status.id], more


def _older(status: BatchStatus, since: datetime) -> bool:
    """Whether all that follows is older than `since`, too: the most recent batches are listed first."""
    return status.created_at is not None and status.created_at < since


def open_http(env: Mapping[str, str], *, transport: httpx2.AsyncBaseTransport | None = None) -> Http:
    """The way to the service, by the variables that the SDK (2.12.0) reads: the key before the token, both
    sent as a bearer. Raises `ConfigError` for what cannot be."""
    if env.get("ANTHROPIC_API_KEY") or not env.get("ANTHROPIC_AUTH_TOKEN"):
        secret = key_of(env, "ANTHROPIC_API_KEY")
    else:
        secret = checked_key(env["ANTHROPIC_AUTH_TOKEN"], "ANTHROPIC_AUTH_TOKEN")
    return Http(
        env.get("ANTHROPIC_BASE_URL", "").strip() or DEFAULT_BASE_URL,
        headers={
            "anthropic-version": VERSION,
            "Authorization": f"Bearer {secret}",
            **_custom_headers(env.get("ANTHROPIC_CUSTOM_HEADERS", "")),
        },
        secret=secret,
        address_variable="ANTHROPIC_BASE_URL",
        read_error=read_error,
        transport=transport,
    )


def _custom_headers(text: str) -> dict[str, str]:
    """`Name: value`, one a line: a workspace or a beta header, say."""
    if not text.isascii():
        raise ConfigError(
            "ANTHROPIC_CUSTOM_HEADERS holds characters that no header has", hint="use ASCII only"
        )
    pairs = (line.partition(":") for line in text.split("\n"))
    return {name.strip(): value.strip() for name, colon, value in pairs if colon and name.strip()}
