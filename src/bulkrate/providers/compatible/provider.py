"""A provider made from a file of facts: OpenAI's wire and client with other parameters."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bulkrate.core.limits import Limits, Traits
from bulkrate.errors import JobError
from bulkrate.providers.compatible.facts import NEVER, FactsFile
from bulkrate.providers.compatible.shape import openai_batch
from bulkrate.providers.facts import longest_prefix, with_overrides
from bulkrate.providers.failures import Said
from bulkrate.providers.http import Http, checked_key, key_of
from bulkrate.providers.openai.client import OpenAIConnection, Shape
from bulkrate.providers.openai.failures import read_error
from bulkrate.providers.openai.wire import Dialect, OpenAIWire
from bulkrate.providers.provider import BatchStatus

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Compatible:
    """Implements `bulkrate.providers.provider.Provider`."""

    def __init__(self, name: str, facts: FactsFile) -> None:
        self.name = name
        self._facts = facts

    @property
    def address_variable(self) -> str:
        """The environment variable that puts another address in the place of the file's."""
        return self._facts.server.base_url_variable or f"{self.name.upper().replace('-', '_')}_BASE_URL"

    def wire(self, model: str, kind: str = "chat") -> OpenAIWire:
        endpoints, requests = self._facts.endpoints, self._facts.requests
        known = {"chat": endpoints.chat, "embed": endpoints.embed}
        offered = {name: endpoint for name, endpoint in known.items() if endpoint is not None}
        if kind not in offered:
            what = {"chat": "chat completions", "embed": "embeddings"}[kind]
            raise JobError(f"provider {self.name} has no {what}", code="no_endpoint")
        dialect = Dialect(
            choice=requests.choice,
            cap_field=requests.cap_field,
            reasoning=self._facts.models.reasoning,
            endpoints=offered,
            bare_lines=requests.bare_lines,
            error_codes=dict(requests.error_codes),
            cost_field=requests.cost_field,
        )
        return OpenAIWire(dialect, kind)

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        return with_overrides(self._facts.limits, env)

    def traits(self, model: str) -> Traits:
        facts, lanes = self._facts, self._facts.traits
        batches = "batch" in lanes.lanes
        told = "metadata, input file" if facts.batches.metadata else "input file, its name"
        return Traits(
            lanes=lanes.lanes,
            windows=lanes.windows if batches else (),
            discount=lanes.discount,
            progress=lanes.progress and batches,
            partial_on_cancel=lanes.partial_on_cancel,
            partial_on_expiry=lanes.partial_on_expiry,
            found_by=told if batches else "",
            inputs_tell=not facts.batches.metadata,
            results_can_be_deleted=lanes.results_can_be_deleted,
            retention_days=lanes.retention_days,
            keys=facts.server.keys if facts.server.key_required else (),
            run_live=None if facts.run_live == NEVER else facts.run_live,
            dated=facts.dated.isoformat(),
            source=facts.source,
        )

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        return self._facts.notes

    def context_window(self, model: str) -> int | None:
        return longest_prefix(self._facts.models.context_window, model)

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> OpenAIConnection:
        endpoint = self.wire(model, kind).endpoint
        batches = self._facts.batches
        shape = Shape(
            upload_path=batches.upload_path,
            upload_fields=batches.upload_fields,
            name_field=batches.name_field,
            window=batches.window,
            metadata=batches.metadata,
            repeat_header=batches.repeat_header,
            pages=batches.listing == "pages",
            read=partial(openai_batch, wrapper=batches.wrapper, words=batches.words),
        )
        kind_of = OpenAIConnection if "batch" in self._facts.traits.lanes else LiveConnection
        return kind_of(self._http(env), endpoint=endpoint, limits=self.limits(model, env), shape=shape)

    def _http(self, env: Mapping[str, str]) -> Http:
        server = self._facts.server
        given = env.get(self.address_variable, "").strip() or server.base_url
        address = given.rstrip("/")
        if not address.endswith(server.api_path):
            address += server.api_path
        key = self._key(env)
        headers = dict(server.headers)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        return Http(
            address,
            headers=headers,
            secret=key,
            address_variable=self.address_variable,
            read_error=self._read_error,
            use_proxies=urlsplit(address).hostname not in _LOOPBACK,
        )

    def _key(self, env: Mapping[str, str]) -> str:
        server = self._facts.server
        if server.key_required:
            return key_of(env, *server.keys)
        given = next((name for name in server.keys if env.get(name)), None)
        return "" if given is None else checked_key(env[given], given)

    def _read_error(self, status: int, body: Any) -> Said:
        said = read_error(status, body)
        if status in self._facts.server.busy_status:
            return Said(said.code, said.message, busy=True)
        return said


class LiveConnection(OpenAIConnection):
    """A server that knows no batches. Asked for a run's, it says at least whether it is there."""

    async def find_run(self, run: str, since: datetime, known: frozenset[str]) -> list[BatchStatus]:
        await self._http.call("models", "GET", "models")
        return []
