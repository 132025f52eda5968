"""The HTTP calls, by the official SDK; nothing else.

SDK retries are off: a create that timed out may have happened, and the SDK would send it again (it sends no
idempotency key; openai 3.54.0). Reads are asked again by the driver's own pacing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import anyio

from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.errors import ConfigError, NotFoundError, OutcomeUnknown, Unreachable
from bulkrate.providers.failures import ROW_FAULTS, json_object, tells_its_end
from bulkrate.providers.openai.failures import translated
from bulkrate.providers.openai.wire import parse_batch
from bulkrate.providers.provider import Answer, BatchStatus, ResultFile, Search, Submission

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai._types import RequestOptions

CHUNK_BYTES = 1 << 16
READ_TIMEOUT_S = 60.0
PAGE = 100
DEFAULT_BASE_URL = "https://api.openai.com/v1"


class OpenAIConnection:
    """Implements `bulkrate.providers.provider.Connection` over an `AsyncOpenAI` client."""

    def __init__(self, client: AsyncOpenAI, *, endpoint: str, limits: Limits) -> None:
        self._client = client.with_options(max_retries=0, timeout=READ_TIMEOUT_S)
        self._endpoint = endpoint
        self._limits = limits

    async def upload(self, name: str, content: BinaryIO) -> str:
        with translated("upload"):
            raw = await self._client.files.with_raw_response.create(
                file=(name, content, "application/jsonl"),
                purpose="batch",
                timeout=self._limits.upload_timeout_s,
            )
            file_id = json_object(raw.content).get("id")
            if not file_id:
                raise OutcomeUnknown("upload: the provider's answer names no file")
            return str(file_id)

    async def create(self, submission: Submission) -> BatchStatus:
        assert submission.file_id is not None
        with translated("create"):
            # The SDK's timeout bounds each wait of the call, not the call: the quiet period needs the whole.
            with anyio.fail_after(self._limits.create_timeout_s):
                raw = await self._client.batches.with_raw_response.create(
                    input_file_id=submission.file_id,
                    endpoint=cast(Any, self._endpoint),
                    completion_window="24h",
                    metadata=submission.tag.metadata(),
                    timeout=self._limits.create_timeout_s,
                )
            return _batch(raw.content)

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        import httpx2
        import openai

        fields = json.loads(body)
        if lane is Lane.FLEX:
            fields["service_tier"] = "flex"
        path = self._endpoint.removeprefix("/v1")
        options: RequestOptions = {"timeout": self._limits.answer_timeout_s}
        with translated("answer"):
            try:
                raw = await self._client.post(path, body=fields, cast_to=httpx2.Response, options=options)
            except openai.APIStatusError as error:
                if error.status_code in ROW_FAULTS:
                    return Answer(error.status_code, {"error": error.body})
                raise
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
        from openai import omit

        after: str | None = None
        seen: set[str] = set()
        while True:
            with translated("list"):
                raw = await self._client.batches.with_raw_response.list(limit=PAGE, after=after or omit)
                page = json_object(raw.content)
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
        with translated("retrieve"):
            raw = await self._client.batches.with_raw_response.retrieve(batch_id)
            return _batch(raw.content)

    async def download(self, file: ResultFile) -> AsyncIterator[bytes]:
        size_bytes = 0
        with translated("download"):
            async with self._client.files.with_streaming_response.content(file.id) as response:
                framed = tells_its_end(response.http_version, response.headers)
                async for chunk in response.iter_bytes(CHUNK_BYTES):
                    size_bytes += len(chunk)
                    yield chunk
        if not framed:
            await self._check_size(file, size_bytes)

    async def _check_size(self, file: ResultFile, size_bytes: int) -> None:
        """A body without a frame ends like a cut connection: only the file's record tells them apart."""
        with translated("download"):
            raw = await self._client.files.with_raw_response.retrieve(file.id)
            known = json_object(raw.content).get("bytes")
        if isinstance(known, int) and size_bytes < known:
            raise Unreachable(f"download: {size_bytes} of {known} bytes arrived")

    async def cancel(self, batch_id: str) -> BatchStatus:
        with translated("cancel"):
            raw = await self._client.batches.with_raw_response.cancel(batch_id)
            return _batch(raw.content)

    async def delete_file(self, file_id: str) -> None:
        try:
            with translated("delete"):
                await self._client.files.with_raw_response.delete(file_id)
        except NotFoundError:
            return

    async def aclose(self) -> None:
        await self._client.close()


def _batch(content: bytes) -> BatchStatus:
    status = parse_batch(json_object(content))
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


def make_client(
    *, api_key: str, base_url: str | None, organization: str | None = None, use_proxies: bool = True
) -> AsyncOpenAI:
    """The SDK's client. Raises `ConfigError` without the extra, and for a key or a URL that cannot be.

    `use_proxies=False` leaves the environment's proxies aside, for a server on this machine.
    """
    try:
        from openai import AsyncOpenAI, DefaultAsyncHttpxClient
    except ImportError:
        raise ConfigError(
            "the openai package is not installed", hint="pip install 'bulkrate[openai]'"
        ) from None
    key = api_key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError("the API key holds characters that no key has", hint="set it again, without quotes")
    url = (base_url or "").strip() or DEFAULT_BASE_URL
    if not url.lower().startswith(("http://", "https://")):
        raise ConfigError(
            f"the base URL is {url!r}, which is not an HTTP address", hint="https://host/v1, for instance"
        )
    direct = None if use_proxies else DefaultAsyncHttpxClient(trust_env=False)
    return AsyncOpenAI(
        api_key=key, base_url=url, organization=organization or None, max_retries=0, http_client=direct
    )
