"""Anthropic as a provider: facts, wire and connection in one place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bulkrate.core.limits import Limits, Traits
from bulkrate.providers.anthropic.client import AnthropicConnection, open_http
from bulkrate.providers.anthropic.wire import AnthropicWire, Family
from bulkrate.providers.facts import read_facts, with_overrides

PACKAGE = "bulkrate.providers.anthropic"


class Anthropic:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "anthropic"

    def wire(self, model: str, kind: str = "chat") -> AnthropicWire:
        return AnthropicWire(Family.of(model, read_facts(PACKAGE).table["models"]))

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        return with_overrides(read_facts(PACKAGE).limits, env)

    def traits(self, model: str) -> Traits:
        return read_facts(PACKAGE).traits

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        if not env.get("ANTHROPIC_BASE_URL"):
            return ()
        return ("ANTHROPIC_BASE_URL points elsewhere: these are Anthropic's own prices",)

    def context_window(self, model: str) -> int | None:
        return read_facts(PACKAGE).context_window(model)

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> AnthropicConnection:
        return AnthropicConnection(open_http(env), limits=self.limits(model, env))


provider = Anthropic()
