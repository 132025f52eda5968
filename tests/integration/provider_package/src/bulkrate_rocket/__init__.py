"""A vendor's provider in a package of its own, by what `bulkrate.providers` makes public and nothing else.

Its service speaks like OpenAI, so the wire is OpenAI's; what is shown here is the way in.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bulkrate.core.limits import Limits, Traits
from bulkrate.providers.facts import with_overrides
from bulkrate.providers.http import key_of
from bulkrate.providers.openai.client import OpenAIConnection, open_http
from bulkrate.providers.openai.wire import Dialect, OpenAIWire
from bulkrate.providers.provider import Connection, Wire


class Rocket:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "rocket"

    def wire(self, model: str, kind: str = "chat") -> Wire:
        return OpenAIWire(Dialect(cap_field="max_tokens"), kind)

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        return with_overrides(Limits(requests=10), env)

    def traits(self, model: str) -> Traits:
        return Traits(keys=("ROCKET_KEY",), dated="2026-11-24", source="made up")

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        return ()

    def context_window(self, model: str) -> int | None:
        return None

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> Connection:
        http = open_http(api_key=key_of(env, "ROCKET_KEY"), base_url=env["ROCKET_URL"])
        endpoint = OpenAIWire(Dialect(), kind).endpoint
        return OpenAIConnection(http, endpoint=endpoint, limits=self.limits(model, env))


provider = Rocket()
