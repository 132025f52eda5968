"""Azure OpenAI as a provider: facts, wire and connection in one place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bulkrate.core.limits import Limits, Traits
from bulkrate.providers.azure.client import LIVE_DEPLOYMENT, AzureConnection, read_error
from bulkrate.providers.azure.login import Bearer, TokenProvider, api_key, entra_tokens, static_token
from bulkrate.providers.azure.surface import ADDRESS, PACKAGE, address, surface
from bulkrate.providers.azure.wire import AzureWire
from bulkrate.providers.facts import ENV_PREFIX, read_facts, with_overrides
from bulkrate.providers.failures import Said
from bulkrate.providers.http import Http
from bulkrate.providers.openai.wire import Dialect

QUEUE = f"{ENV_PREFIX}QUEUED_TOKENS"


class Azure:
    """Implements `bulkrate.providers.provider.Provider`; `env` says which of the two APIs is spoken."""

    name = "azure"

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self._surface = surface(env or {})

    def configured(self, env: Mapping[str, str]) -> Azure:
        """The same for this environment: what a line's url says depends on it."""
        return Azure(env)

    def wire(self, model: str, kind: str = "chat") -> AzureWire:
        facts = read_facts(PACKAGE)
        dialect = Dialect(reasoning=facts.reasoning, endpoints=self._surface.endpoints)
        return AzureWire(dialect, kind, known=tuple(facts.context))

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        return with_overrides(read_facts(PACKAGE).limits, env)

    def traits(self, model: str) -> Traits:
        return read_facts(PACKAGE).traits

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        said = [
            "prices are found by the deployment's name: one that is called otherwise than its model has none"
        ]
        if not env.get(QUEUE):
            said.append(f"how many tokens may wait is the deployment's quota: {QUEUE} tells it")
        if not env.get(LIVE_DEPLOYMENT):
            said.append(
                f"a deployment for batches answers no single requests: {LIVE_DEPLOYMENT} names one that does"
            )
        return tuple(said)

    def context_window(self, model: str) -> int | None:
        return read_facts(PACKAGE).context_window(model)

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> AzureConnection:
        return AzureConnection(
            open_http(env),
            surface=surface(env),
            kind=kind,
            live=env.get(LIVE_DEPLOYMENT, "").strip() or model,
            limits=self.limits(model, env),
        )


def open_http(env: Mapping[str, str], tokens: TokenProvider | None = None) -> Http:
    """The way to the resource; `tokens` stand in for Entra's. Raises `ConfigError` for what is missing."""
    base_url, token, key = address(env), static_token(env), None
    if token is None and tokens is None:
        key = api_key(env)
    bearer = Bearer(tokens or entra_tokens(env)) if token is None and key is None else None
    headers = {"Authorization": f"Bearer {token}"} if token else {"api-key": key} if key else {}

    def read(status: int, body: Any) -> Said:
        return read_error(status, body, token="" if bearer is None else bearer.last)

    return Http(
        base_url,
        headers=headers,
        secret=token or key or "",
        address_variable=ADDRESS,
        read_error=read,
        params=surface(env).params,
        more_headers=bearer,
    )


provider = Azure()
