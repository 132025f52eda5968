"""The HTTP calls, by the official SDK; nothing else.

SDK retries are off: a create that timed out may have happened, and the SDK would send it again (it sends no
idempotency key; openai 3.54.0). Reads are asked again by the driver's own pacing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from bulkrate.core.limits import Limits
from bulkrate.errors import (
    AuthError,
    ConfigError,
    NotFoundError,
    OutcomeUnknown,
    ProviderError,
    QuotaError,
    RequestRefused,
    Unreachable,
)
from bulkrate.providers.openai.wire import QUEUE_CODE, parse_batch, queue_refusal
from bulkrate.providers.provider import BatchStatus, ResultFile, Tag

if TYPE_CHECKING:
    from openai import AsyncOpenAI

CHUNK_BYTES = 1 << 16
READ_TIMEOUT_S = 60.0
PAGE = 100


class OpenAIConnection:
    """Implements `bulkrate.providers.provider.Connection` over an `AsyncOpenAI` client."""

    def __init__(self, client: AsyncOpenAI, *, endpoint: str, limits: Limits) -> None:
        self._client = client.with_options(max_retries=0, timeout=READ_TIMEOUT_S)
        self._endpoint = endpoint
        self._limits = limits

    async def upload(self, name: str, content: BinaryIO) -> str:
        with _translated("upload"):
            raw = await self._client.files.with_raw_response.create(
                file=(name, content, "application/jsonl"),
                purpose="batch",
                timeout=self._limits.upload_timeout_s,
            )
            return str(_fields(raw.content)["id"])

    async def create(self, file_id: str, tag: Tag) -> BatchStatus:
        with _translated("create"):
            raw = await self._client.batches.with_raw_response.create(
                input_file_id=file_id,
                endpoint=cast(Any, self._endpoint),
                completion_window="24h",
                metadata=tag.metadata(),
                timeout=self._limits.create_timeout_s,
            )
            return parse_batch(_fields(raw.content))

    async def find(self, tag: Tag, file_id: str | None, since: datetime) -> BatchStatus | None:
        from openai import omit

        after: str | None = None
        while True:
            with _translated("list"):
                raw = await self._client.batches.with_raw_response.list(limit=PAGE, after=after or omit)
                page = _fields(raw.content)
            batches = page.get("data") or []
            for fields in batches:
                status = parse_batch(fields)
                if status.tag == tag or (file_id is not None and status.input_file_id == file_id):
                    return status
                if status.created_at is not None and status.created_at < since:
                    return None
            if not page.get("has_more") or not batches:
                return None
            after = str(batches[-1]["id"])

    async def status(self, batch_id: str) -> BatchStatus:
        with _translated("retrieve"):
            raw = await self._client.batches.with_raw_response.retrieve(batch_id)
            return parse_batch(_fields(raw.content))

    async def download(self, file: ResultFile) -> AsyncIterator[bytes]:
        with _translated("download"):
            async with self._client.files.with_streaming_response.content(file.id) as response:
                async for chunk in response.iter_bytes(CHUNK_BYTES):
                    yield chunk

    async def cancel(self, batch_id: str) -> BatchStatus:
        with _translated("cancel"):
            raw = await self._client.batches.with_raw_response.cancel(batch_id)
            return parse_batch(_fields(raw.content))

    async def delete_file(self, file_id: str) -> None:
        try:
            with _translated("delete"):
                await self._client.files.with_raw_response.delete(file_id)
        except NotFoundError:
            return

    async def aclose(self) -> None:
        await self._client.close()


def _fields(content: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(content)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        # A proxy's error page with status 200: the call may well have had its effect.
        raise OutcomeUnknown("the provider's answer is not JSON")
    return fields


@contextmanager
def _translated(call: str) -> Iterator[None]:
    """Turn the SDK's exceptions into ours; `create` and `upload` keep their doubt."""
    import openai

    try:
        yield
    except openai.APIStatusError as error:
        raise _refusal(error, call) from error
    except openai.APIConnectionError as error:
        raise _unreachable(error, call) from error
    except openai.APIError as error:
        raise OutcomeUnknown(f"{call}: {type(error).__name__}") from error


def _unreachable(error: Exception, call: str) -> ProviderError:
    import httpx2

    cause = error.__cause__
    reason = f"{call}: {type(cause or error).__name__}"
    hint = "check the network, the proxy and OPENAI_BASE_URL"
    # A connection that was never made carried nothing: no doubt.
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol):
        return Unreachable(f"{reason}: could not connect", hint=hint)
    if call in ("create", "upload"):
        return OutcomeUnknown(reason, hint=hint)
    return Unreachable(reason, hint=hint)


def _refusal(error: Any, call: str) -> ProviderError:
    status: int = error.status_code
    body: Mapping[str, Any] = error.body if isinstance(error.body, Mapping) else {}
    code = str(body.get("code") or body.get("type") or status)
    # The provider's message may quote the request; a create or list call carries no prompt.
    said = f"{call}: the provider answered {status}: {body.get('message') or error.message}"
    retry_after_s = _retry_after_s(error.response.headers)
    if status in (401, 403):
        return AuthError(said, code=code, hint="check the API key and what its project may do")
    if status == 402:
        return AuthError(said, code=code, hint="the account has no plan or credit for batches")
    if status == 404:
        return NotFoundError(said, code=code)
    if status == 429 or code == QUEUE_CODE:
        refusal = queue_refusal(said)
        hint = f"queue limit {refusal.limit_tokens} tokens" if refusal.limit_tokens else None
        return QuotaError(said, code=code, hint=hint, retry_after_s=retry_after_s)
    if status >= 500 or status in (408, 409):
        kind = OutcomeUnknown if call in ("create", "upload") else Unreachable
        return kind(said, code=code, retry_after_s=retry_after_s)
    return RequestRefused(said, code=code)


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    text = headers.get("retry-after")
    try:
        return float(text) if text else None
    except ValueError:
        return None  # an HTTP date: our own back-off is good enough


def make_client(*, api_key: str, base_url: str | None, organization: str | None = None) -> AsyncOpenAI:
    """The SDK's client. Raises `ConfigError` when the extra is not installed."""
    try:
        from openai import AsyncOpenAI
    except ImportError:
        raise ConfigError(
            "the openai package is not installed", hint="pip install 'bulkrate[openai]'"
        ) from None
    return AsyncOpenAI(api_key=api_key, base_url=base_url, organization=organization, max_retries=0)
