"""The local engine as a provider: the OpenAI wire over true HTTP to a batch server of our own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits, Traits
from bulkrate.errors import JobError, Unreachable
from bulkrate.providers.facts import with_overrides
from bulkrate.providers.local.models import local_model, local_models
from bulkrate.providers.openai.client import OpenAIConnection, open_http
from bulkrate.providers.openai.wire import ENDPOINTS, Dialect, OpenAIWire
from bulkrate.providers.provider import (
    Answer,
    BatchStatus,
    Connection,
    ResultFile,
    Search,
    Submission,
)

# Our own server's bounds: it answers at once or not at all, and lists what it has written.
LIMITS = Limits(listing_lag_s=1.0, create_timeout_s=60.0, clock_skew_s=5.0)

TRAITS = Traits(
    windows=("any",),
    found_by="metadata, input file",
    run_live="2026-11-24",
    dated="2026-11-24",
    source="bulkrate.server",
)

T = TypeVar("T")


class Local:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "local"

    def wire(self, model: str, kind: str = "chat") -> OpenAIWire:
        known = local_models().get(model)
        if known is not None and known.kind not in (kind, "any"):
            does, wanted = ("embeds texts", "chat") if kind == "chat" else ("answers chats", "embed texts")
            others = [other.name for other in local_models().values() if other.kind in (kind, "any")]
            raise JobError(
                f"request.model: local/{model} {does}, it does not {wanted}",
                hint=f"models that do: {', '.join(f'local/{name}' for name in others)}",
            )
        most = None if known is None else known.dimensions
        return OpenAIWire(Dialect(choice="structured_outputs", most_dimensions=most), kind)

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        return with_overrides(LIMITS, env)

    def traits(self, model: str) -> Traits:
        return TRAITS

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        return ()

    def context_window(self, model: str) -> int | None:
        return local_model(model).context_window

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> LocalConnection:
        async def reach() -> OpenAIConnection:
            from bulkrate.providers.local.launch import open_local

            base_url, api_key = await open_local(model, state_dir / "server")
            # A proxy from the environment has nothing to do with a server on this machine.
            client = open_http(api_key=api_key, base_url=base_url, use_proxies=False)
            return OpenAIConnection(client, endpoint=ENDPOINTS[kind], limits=self.limits(model, env))

        return LocalConnection(await reach(), reach)


class LocalConnection:
    """A connection that finds the server again, or starts it, when it has gone away.

    The server ends by itself when idle and may be killed; its batches go on when it is back, on another
    port. The call that failed is not repeated here: the driver decides what may be.
    """

    def __init__(self, inner: Connection, reach: Callable[[], Awaitable[Connection]]) -> None:
        self._inner = inner
        self._reach = reach

    async def _try(self, call: Callable[[Connection], Awaitable[T]]) -> T:
        try:
            return await call(self._inner)
        except Unreachable:
            await self._again()
            raise

    async def _again(self) -> None:
        gone, self._inner = self._inner, await self._reach()
        await gone.aclose()

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        return await self._try(lambda inner: inner.answer(body, lane))

    async def upload(self, name: str, content: BinaryIO) -> str | None:
        return await self._try(lambda inner: inner.upload(name, content))

    async def create(self, submission: Submission) -> BatchStatus:
        return await self._try(lambda inner: inner.create(submission))

    async def find(self, search: Search) -> BatchStatus | None:
        return await self._try(lambda inner: inner.find(search))

    async def find_run(self, run: str, since: datetime, known: frozenset[str]) -> list[BatchStatus]:
        return await self._try(lambda inner: inner.find_run(run, since, known))

    async def status(self, batch_id: str) -> BatchStatus:
        return await self._try(lambda inner: inner.status(batch_id))

    async def download(self, file: ResultFile) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._inner.download(file):
                yield chunk
        except Unreachable:
            await self._again()
            raise

    async def cancel(self, batch_id: str) -> BatchStatus:
        return await self._try(lambda inner: inner.cancel(batch_id))

    async def delete_file(self, file_id: str) -> None:
        await self._try(lambda inner: inner.delete_file(file_id))

    async def aclose(self) -> None:
        await self._inner.aclose()


provider = Local()
