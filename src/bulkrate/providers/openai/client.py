"""The HTTP calls; nothing else."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from bulkrate.core.json_value import parsed, words
from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.errors import OutcomeUnknown, Unreachable
from bulkrate.providers.failures import ANSWER, ROW_FAULTS, json_object
from bulkrate.providers.http import Http, checked_key
from bulkrate.providers.openai.failures import read_error
from bulkrate.providers.openai.wire import parse_batch
from bulkrate.providers.provider import Answer, BatchStatus, ResultFile, Search, Submission, Tag

if TYPE_CHECKING:
    import httpx2

PAGE = 100
DEFAULT_BASE_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Shape:
    """How the calls of an OpenAI-shaped server differ from OpenAI's.

    `name_field` is the form field that gives a file its name, where the file's own name is not enough. A
    server without `metadata` is told our batches by the names of their input files. `repeat_header` carries
    a word that the same create call has again when it is made again. `pages=False`: a list is a bare array,
    whole. `read` turns a batch object into OpenAI's shape.
    """

    upload_path: str = "files"
    upload_fields: Mapping[str, str] = field(default_factory=lambda: {"purpose": "batch"})
    name_field: str | None = None
    window: str = "24h"
    metadata: bool = True
    repeat_header: str | None = None
    pages: bool = True
    read: Callable[[dict[str, Any]], dict[str, Any]] = lambda fields: fields


OPENAI = Shape()


class OpenAIConnection:
    """Implements `bulkrate.providers.provider.Connection` for a server of OpenAI's shape."""

    def __init__(
        self,
        http: Http,
        *,
        endpoint: str,
        limits: Limits,
        shape: Shape = OPENAI,
        output_expires_s: int | None = None,
    ) -> None:
        self._http = http
        self._output_expires_s = output_expires_s
        self._endpoint = endpoint
        self._limits = limits
        self._shape = shape
        self._refused: Counter[str | None] = Counter()

    async def upload(self, name: str, content: BinaryIO) -> str:
        named = {self._shape.name_field: name} if self._shape.name_field else {}
        fields = await self._http.json(
            "upload",
            "POST",
            self._shape.upload_path,
            data={**self._shape.upload_fields, **named},
            files={"file": (name, content, "application/jsonl")},
            timeout_s=self._limits.upload_timeout_s,
        )
        file_id = fields.get("id")
        if not file_id:
            raise OutcomeUnknown("upload: the provider's answer names no file")
        return words(str(file_id)) or ""

    async def create(self, submission: Submission) -> BatchStatus:
        fields: dict[str, Any] = {
            "input_file_id": submission.file_id,
            "endpoint": self._endpoint,
            "completion_window": self._shape.window,
        }
        if self._shape.metadata:
            fields["metadata"] = submission.tag.metadata()
        if self._output_expires_s is not None:
            # Counted from the creation of the result file, not of the batch.
            fields["output_expires_after"] = {"anchor": "created_at", "seconds": self._output_expires_s}
        created = await self._http.json(
            "create",
            "POST",
            "batches",
            json=fields,
            timeout_s=self._limits.create_timeout_s,
            headers=self._repeatable(submission),
        )
        return self._batch(created)

    def _repeatable(self, submission: Submission) -> dict[str, str]:
        """The header by which the server knows a create call that it gets twice, whoever repeats it.

        A file is sent again after its batch was refused for a full queue: that call is another one, or the
        answer would be the refused batch for ever.
        """
        if self._shape.repeat_header is None:
            return {}
        tag, file_id = submission.tag, submission.file_id
        return {self._shape.repeat_header: f"{tag.run}-{tag.shard}-{file_id}-{self._refused[file_id]}"}

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        fields = json.loads(body)
        if lane is Lane.FLEX:
            fields["service_tier"] = "flex"
        path, timeout_s = self._endpoint.removeprefix("/v1").lstrip("/"), self._limits.answer_timeout_s
        raw = await self._http.call(
            ANSWER, "POST", path, json=fields, timeout_s=timeout_s, answers=ROW_FAULTS
        )
        return Answer(raw.status_code, json_object(raw.content))

    async def find(self, search: Search) -> BatchStatus | None:
        async for status in self._newest_first(search.since):
            # One that the token queue refused never ran. The same file is sent again after a refusal, so
            # taking it for the batch in doubt would send a third while the second runs.
            if status.queue_refusal is not None:
                continue
            same_file = search.file_id is not None and status.input_file_id == search.file_id
            if status.tag == search.tag or same_file:
                return status
        return None

    async def find_run(self, run: str, since: datetime, known: frozenset[str]) -> list[BatchStatus]:
        found = [status async for status in self._newest_first(since) if status.id not in known]
        if found and not self._shape.metadata:
            tags = await self._tags_of_files()
            found = [replace(status, tag=tags.get(status.input_file_id or "")) for status in found]
        return [status for status in found if status.tag is not None and status.tag.run == run]

    async def _tags_of_files(self) -> dict[str, Tag]:
        """What the names of the uploaded files tell, by file id."""
        tags = {}
        async for page in self._pages("files"):
            for entry in page:
                tag = Tag.from_file_name(entry.get("filename"))
                if tag is not None:
                    tags[str(entry.get("id"))] = tag
        return tags

    async def _newest_first(self, since: datetime) -> AsyncIterator[BatchStatus]:
        """The project's batches back to `since`; the listing has no filter (SDK 3.54.0)."""
        async for page in self._pages("batches"):
            batches = [parse_batch(self._shape.read(entry)) for entry in page]
            for status in batches:
                yield status
            if _older(batches, since):
                return

    async def _pages(self, path: str) -> AsyncIterator[list[dict[str, Any]]]:
        """A listing, a page at a time, to its end."""
        after: str | None = None
        seen: set[str] = set()
        while True:
            params = {"limit": PAGE} if after is None else {"limit": PAGE, "after": after}
            raw = await self._http.call("list", "GET", path, params=params if self._shape.pages else None)
            page = _page(raw.content, bare=not self._shape.pages)
            entries, more = page["data"], page.get("has_more")
            yield entries
            if more is False or not entries:
                return
            after = entries[-1]["id"]
            if after in seen:
                if more is None:  # a server without pages: this was all of it
                    return
                raise Unreachable("list: the provider repeats the same page, so absence cannot be told")
            seen.update(entry["id"] for entry in entries)

    async def status(self, batch_id: str) -> BatchStatus:
        status = self._batch(await self._http.json("retrieve", "GET", f"batches/{quote(batch_id)}"))
        if status.queue_refusal is not None:
            self._refused[status.input_file_id] += 1
        return status

    async def download(self, file: ResultFile) -> AsyncIterator[bytes]:
        async for chunk in self._http.file(f"files/{quote(file.id)}"):
            yield chunk

    async def cancel(self, batch_id: str) -> BatchStatus:
        return self._batch(await self._http.json("cancel", "POST", f"batches/{quote(batch_id)}/cancel"))

    async def delete_file(self, file_id: str) -> None:
        await self._http.delete(f"files/{quote(file_id)}")

    async def aclose(self) -> None:
        await self._http.aclose()

    def _batch(self, fields: dict[str, Any]) -> BatchStatus:
        status = parse_batch(self._shape.read(fields))
        if not status.id:
            raise OutcomeUnknown("the provider's answer is not a batch")
        return status


def _page(content: bytes, *, bare: bool) -> dict[str, Any]:
    """A page, with the entries that have an id as `data`. An answer that is no page says nothing, least of
    all that there is nothing. A `bare` one may be an array, and is whole."""
    try:
        page = parsed(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        page = None
    if bare:
        page = {"data": page.get("data") if isinstance(page, dict) else page, "has_more": False}
    entries = page.get("data") if isinstance(page, dict) else None
    if not isinstance(entries, list):
        raise Unreachable("list: the provider's answer is not a list")
    named = [entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
    return {**page, "data": [entry for entry in named if entry["id"]]}


def _older(batches: list[BatchStatus], since: datetime) -> bool:
    """Whether all that follows was created before `since`: true only where the listing goes back in time."""
    stamps = [status.created_at for status in batches if status.created_at is not None]
    falling = all(later >= earlier for later, earlier in pairwise(stamps))
    return bool(stamps) and falling and stamps[-1] < since and (len(stamps) == 1 or stamps[0] > stamps[-1])


def open_http(
    *,
    api_key: str,
    base_url: str | None,
    organization: str | None = None,
    project: str | None = None,
    use_proxies: bool = True,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> Http:
    """The way to the server. Raises `ConfigError` for a key or a URL that cannot be."""
    key = checked_key(api_key, "OPENAI_API_KEY")
    headers = {"Authorization": f"Bearer {key}"}
    if organization:
        headers["OpenAI-Organization"] = organization
    if project:
        headers["OpenAI-Project"] = project
    return Http(
        (base_url or "").strip() or DEFAULT_BASE_URL,
        headers=headers,
        secret=key,
        address_variable="OPENAI_BASE_URL",
        read_error=read_error,
        use_proxies=use_proxies,
        transport=transport,
    )
