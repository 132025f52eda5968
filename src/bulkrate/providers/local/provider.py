"""The local engine as a provider: the OpenAI wire over true HTTP to a batch server of our own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bulkrate.core.limits import Limits
from bulkrate.providers.facts import with_overrides
from bulkrate.providers.local.models import local_model
from bulkrate.providers.openai.client import OpenAIConnection, make_client
from bulkrate.providers.openai.wire import ENDPOINTS, Dialect, OpenAIWire

# Our own server's bounds: it answers at once or not at all, and lists what it has written.
LIMITS = Limits(listing_lag_s=1.0, create_timeout_s=60.0, clock_skew_s=5.0)


class Local:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "local"

    def wire(self, model: str, kind: str = "chat") -> OpenAIWire:
        return OpenAIWire(Dialect(choice="structured_outputs"), kind)

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        return with_overrides(LIMITS, env)

    def context_window(self, model: str) -> int | None:
        return local_model(model).context_window

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> OpenAIConnection:
        from bulkrate.providers.local.launch import open_local

        base_url, api_key = await open_local(model, state_dir / "server")
        client = make_client(api_key=api_key, base_url=base_url)
        return OpenAIConnection(client, endpoint=ENDPOINTS[kind], limits=self.limits(model, env))


provider = Local()
