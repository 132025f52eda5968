"""Anthropic as a provider: facts, wire and connection in one place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bulkrate.core.limits import Limits, Traits
from bulkrate.providers.anthropic.client import AnthropicConnection
from bulkrate.providers.anthropic.wire import AnthropicWire
from bulkrate.providers.facts import read_facts, with_overrides
from bulkrate.providers.failures import Said
from bulkrate.providers.http import Http, checked_key, key_of

PACKAGE = "bulkrate.providers.anthropic"
DEFAULT_BASE_URL = "https://api.anthropic.com"
VERSION = "2023-06-01"


class Anthropic:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "anthropic"

    def wire(self, model: str, kind: str = "chat") -> AnthropicWire:
        return AnthropicWire()

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
        headers = {"anthropic-version": VERSION}
        if token := env.get("ANTHROPIC_AUTH_TOKEN") if not env.get("ANTHROPIC_API_KEY") else None:
            secret = checked_key(token, "ANTHROPIC_AUTH_TOKEN")
            headers["Authorization"] = f"Bearer {secret}"
        else:
            secret = key_of(env, "ANTHROPIC_API_KEY")
            headers["x-api-key"] = secret
        http = Http(
            (env.get("ANTHROPIC_BASE_URL") or "").strip() or DEFAULT_BASE_URL,
            headers=headers,
            secret=secret,
            address_variable="ANTHROPIC_BASE_URL",
            read_error=read_error,
        )
        return AnthropicConnection(http, limits=self.limits(model, env))


def read_error(status: int, body: Any) -> Said:
    """Read `{"type": "error", "error": {"type", "message"}}`."""
    error = body.get("error") if isinstance(body, Mapping) else None
    fields: Mapping[str, Any] = error if isinstance(error, Mapping) else {}
    kind = str(fields.get("type") or status)
    message = fields.get("message") or (body if isinstance(body, str) else "") or "no reason given"
    return Said(kind, str(message), no_money=kind == "billing_error")


provider = Anthropic()
