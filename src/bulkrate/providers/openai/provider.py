"""OpenAI as a provider: facts, wire and connection in one place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bulkrate.core.limits import Limits, Traits
from bulkrate.errors import ConfigError
from bulkrate.providers.facts import read_facts, with_overrides
from bulkrate.providers.openai.client import OpenAIConnection, open_http
from bulkrate.providers.openai.webhook import batch_of
from bulkrate.providers.openai.wire import ENDPOINTS, Dialect, OpenAIWire
from bulkrate.providers.webhook import WebhookFormat

PACKAGE = "bulkrate.providers.openai"


class OpenAI:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "openai"
    webhooks = WebhookFormat(variable="OPENAI_WEBHOOK_SECRET", batch_of=batch_of)

    def wire(self, model: str, kind: str = "chat") -> OpenAIWire:
        return OpenAIWire(Dialect(reasoning=read_facts(PACKAGE).reasoning), kind)

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        return with_overrides(read_facts(PACKAGE).limits, env)

    def traits(self, model: str) -> Traits:
        return read_facts(PACKAGE).traits

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        if not env.get("OPENAI_BASE_URL"):
            return ()
        return ("OPENAI_BASE_URL points elsewhere: these are OpenAI's own prices",)

    def context_window(self, model: str) -> int | None:
        return read_facts(PACKAGE).context_window(model)

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> OpenAIConnection:
        key = env.get("OPENAI_API_KEY")
        if not key:
            raise ConfigError(
                "OPENAI_API_KEY is not set", code="no_key", hint="export OPENAI_API_KEY=… and run again"
            )
        client = open_http(
            api_key=key,
            base_url=env.get("OPENAI_BASE_URL"),
            organization=env.get("OPENAI_ORG_ID"),
            project=env.get("OPENAI_PROJECT_ID"),
        )
        return OpenAIConnection(client, endpoint=ENDPOINTS[kind], limits=self.limits(model, env))


provider = OpenAI()
