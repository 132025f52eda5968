"""OpenAI as a provider: facts, wire and connection in one place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bulkrate.core.limits import Limits, Traits
from bulkrate.errors import ConfigError
from bulkrate.providers.facts import read_facts, with_overrides
from bulkrate.providers.openai.client import OpenAIConnection, open_http
from bulkrate.providers.openai.responses import ResponsesWire
from bulkrate.providers.openai.webhook import batch_of
from bulkrate.providers.openai.wire import ENDPOINTS, Dialect, OpenAIWire
from bulkrate.providers.webhook import WebhookFormat

PACKAGE = "bulkrate.providers.openai"
OUTPUT_EXPIRES = "BULKRATE_OPENAI_OUTPUT_EXPIRES_S"
EXPIRY_S = range(3_600, 2_592_001)


class OpenAI:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "openai"
    webhooks = WebhookFormat(variable="OPENAI_WEBHOOK_SECRET", batch_of=batch_of)

    def wire(self, model: str, kind: str = "chat") -> OpenAIWire:
        dialect = Dialect(reasoning=read_facts(PACKAGE).reasoning)
        return ResponsesWire(dialect) if kind == "responses" else OpenAIWire(dialect, kind)

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        return with_overrides(read_facts(PACKAGE).limits, env)

    def traits(self, model: str) -> Traits:
        return read_facts(PACKAGE).traits

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        notes = []
        if env.get("OPENAI_BASE_URL"):
            notes.append("OPENAI_BASE_URL points elsewhere: these are OpenAI's own prices")
        expires_s = output_expires_s(env)
        if expires_s is not None:
            notes.append(f"result files expire {expires_s / 3_600:g} hours after a batch has ended")
        return tuple(notes)

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
        return OpenAIConnection(
            client,
            endpoint=ENDPOINTS[kind],
            limits=self.limits(model, env),
            output_expires_s=output_expires_s(env),
        )


def output_expires_s(env: Mapping[str, str]) -> int | None:
    """When result files are to expire, in seconds after their creation; None: when the service lets them.

    Raises `ConfigError` for what the service does not take (SDK 3.54.0, `output_expires_after`).
    """
    text = env.get(OUTPUT_EXPIRES, "").strip()
    if not text:
        return None
    if not text.isdecimal() or int(text) not in EXPIRY_S:
        raise ConfigError(
            f"{OUTPUT_EXPIRES} is {text!r}",
            hint=f"a number of seconds from {EXPIRY_S.start:,} (an hour) to {EXPIRY_S.stop - 1:,} (30 days)",
        )
    return int(text)


provider = OpenAI()
