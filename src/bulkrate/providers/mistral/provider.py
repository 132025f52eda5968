"""Mistral as a provider: facts, wire and connection in one place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bulkrate.core.limits import Limits, Traits
from bulkrate.errors import ConfigError
from bulkrate.providers.facts import read_facts, with_overrides
from bulkrate.providers.http import Http, checked_key, key_of
from bulkrate.providers.mistral.client import MistralConnection
from bulkrate.providers.mistral.failures import read_error
from bulkrate.providers.mistral.wire import ENDPOINTS, MistralWire

PACKAGE = "bulkrate.providers.mistral"
DEFAULT_BASE_URL = "https://api.mistral.ai"
# The SDK has no variable for its `server_url` (3.7.0); this is the name that others use.
ADDRESS = "MISTRAL_BASE_URL"


# A service account's token lies in a file that is renewed, and counts before a key, as in the SDK.
TOKEN_PATH, API_KEY = "MISTRAL_SA_TOKEN_PATH", "MISTRAL_API_KEY"


class Mistral:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "mistral"

    def wire(self, model: str, kind: str = "chat") -> MistralWire:
        return MistralWire(model, kind, read_facts(PACKAGE).reasons(model))

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        return with_overrides(read_facts(PACKAGE).limits, env)

    def traits(self, model: str) -> Traits:
        return read_facts(PACKAGE).traits

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        if not env.get(ADDRESS, "").strip():
            return ()
        return (f"{ADDRESS} points elsewhere: these are Mistral's own prices",)

    def context_window(self, model: str) -> int | None:
        return read_facts(PACKAGE).context_window(model)

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> MistralConnection:
        path = env.get(TOKEN_PATH, "").strip()
        key = _token(path) if path else key_of(env, API_KEY)

        async def fresh() -> Mapping[str, str]:
            return {"Authorization": f"Bearer {_token(path)}"}

        address = env.get(ADDRESS, "").strip().rstrip("/") or DEFAULT_BASE_URL
        http = Http(
            address.removesuffix("/v1"),  # the SDK's addresses have no version, those of others do
            headers={"Authorization": f"Bearer {key}"},
            secret=key,
            address_variable=ADDRESS,
            read_error=read_error,
            more_headers=fresh if path else None,
        )
        return MistralConnection(http, model=model, endpoint=ENDPOINTS[kind], limits=self.limits(model, env))


def _token(path: str) -> str:
    """The token in a file. Raises `ConfigError` where there is none: no call was made."""
    try:
        return checked_key(Path(path).read_text(encoding="utf-8"), TOKEN_PATH)
    except OSError as error:
        raise ConfigError(
            f"{TOKEN_PATH}: {path} cannot be read: {error.strerror or error}", code="no_key"
        ) from error


provider = Mistral()
