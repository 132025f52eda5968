"""The HTTP calls; nothing else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote

from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.errors import NotFoundError, OutcomeUnknown, Unreachable
from bulkrate.providers.failures import ANSWER, ROW_FAULTS, json_object
from bulkrate.providers.http import Http, checked_key
from bulkrate.providers.openai.failures import read_error
from bulkrate.providers.openai.wire import parse_batch
from bulkrate.providers.provider import Answer, BatchStatus, ResultFile, Search, Submission

if TYPE_CHECKING:
    import httpx2

PAGE = 100
DEFAULT_BASE_URL = "https://api.openai.com/v1"


class OpenAIConnection:
    """Implements `bulkrate.providers.provider.Connection` for a server of OpenAI's shape."""

    def __init__(self, http: Http, *, endpoint: str, limits: Limits) -> None:
        self._http = http
        self._endpoint = endpoint
        self._limits = limits

    async def upload(self, name: str, content: BinaryIO) -> str:
        fields = await self._http.json(
            "upload",
            "POST",
            "files",
            data={"purpose": "batch"},
            files={"file": (name, content, "application/jsonl")},
            timeout_s=self._limits.upload_timeout_s,
        )
        file_id = fields.get("id")
        if not file_id:
            raise OutcomeUnknown("upload: the provider's answer names no file")
        return str(file_id)

    async def create(self, submission: Submission) -> BatchStatus:
        fields = {
            "input_file_id": submission.file_id,
            "endpoint": self._endpoint,
            "completion_window": "24h",
            "metadata": submission.tag.metadata(),
        }
        timeout_s = self._limits.create_timeout_s
        return _batch(await self._http.json("create", "POST", "batches", json=fields, timeout_s=timeout_s))

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        fields = json.loads(body)
        if lane is Lane.FLEX:
            fields["service_tier"] = "flex"
        path, timeout_s = self._endpoint.removeprefix("/v1/"), self._limits.answer_timeout_s
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
        return [status for status in found if status.tag is not None and status.tag.run == run]

    async def _newest_first(self, since: datetime) -> AsyncIterator[BatchStatus]:
        """The project's batches back to `since`, a page at a time; the listing has no filter (SDK 3.54.0)."""
        after: str | None = None
        seen: set[str] = set()
        while True:
            params = {"limit": PAGE} if after is None else {"limit": PAGE, "after": after}
            page = await self._http.json("list", "GET", "batches", params=params)
            batches = _listed(page)
            for status in batches:
                yield status
            more = page.get("has_more")
            if more is False or not batches or _older(batches, since):
                return
            after = batches[-1].id
            if after in seen:
                if more is None:  # a server without pages: this was all of it
                    return
                raise Unreachable("list: the provider repeats the same page, so absence cannot be told")
            seen.update(status.id for status in batches)

    async def status(self, batch_id: str) -> BatchStatus:
        return _batch(await self._http.json("retrieve", "GET", f"batches/{quote(batch_id)}"))

    async def download(self, file: ResultFile) -> AsyncIterator[bytes]:
        path = f"files/{quote(file.id)}"

        async def size_of() -> int | None:
            known = (await self._http.json("download", "GET", path)).get("bytes")
            return known if isinstance(known, int) else None

        async for chunk in self._http.stream("download", f"{path}/content", size_of=size_of):
            yield chunk

    async def cancel(self, batch_id: str) -> BatchStatus:
        return _batch(await self._http.json("cancel", "POST", f"batches/{quote(batch_id)}/cancel"))

    async def delete_file(self, file_id: str) -> None:
        try:
            await self._http.call("delete", "DELETE", f"files/{quote(file_id)}")
        except NotFoundError:
            return

    async def aclose(self) -> None:
        await self._http.aclose()


def _batch(fields: dict[str, Any]) -> BatchStatus:
    status = parse_batch(fields)
    if not status.id:
        raise OutcomeUnknown("the provider's answer is not a batch")
    return status


def _listed(page: dict[str, Any]) -> list[BatchStatus]:
    """The batches of a page. An answer that is no page says nothing, least of all that there is no batch."""
    entries = page.get("data")
    if not isinstance(entries, list):
        raise Unreachable("list: the provider's answer is not a list of batches")
    found = [parse_batch(fields) for fields in entries if isinstance(fields, dict)]
    return [status for status in found if status.id]


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
