"""The Gemini API as a provider: facts, wire and connection in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bulkrate.core.limits import Limits, Traits
from bulkrate.providers.facts import ENV_PREFIX, read_facts, with_overrides
from bulkrate.providers.google.client import GoogleConnection
from bulkrate.providers.google.failures import read_error
from bulkrate.providers.google.wire import GoogleWire
from bulkrate.providers.http import Http, key_of
from bulkrate.providers.provider import Connection

PACKAGE = "bulkrate.providers.google"
DEFAULT_BASE_URL = "https://generativelanguage.googleapis.com"
ADDRESS = "GOOGLE_GEMINI_BASE_URL"
# The SDK's own default is "v1" since 3.0; batches are documented for "v1beta", and `…-latest` models exist
# there only.
VERSION, DEFAULT_VERSION = "GOOGLE_GENAI_API_VERSION", "v1beta"
QUEUE = f"{ENV_PREFIX}QUEUED_TOKENS"


class Google:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "google"

    def wire(self, model: str, kind: str = "chat") -> GoogleWire:
        facts, name = read_facts(PACKAGE), _bare(model)
        models = facts.table["models"]
        budgets = models["budgets"] if name.startswith(tuple(models["thinking_budget"])) else {}
        return GoogleWire(model, kind, facts.reasons(name), budgets)

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        facts, name = read_facts(PACKAGE), _bare(model)
        known = [prefix for prefix in facts.table["queued_tokens"] if name.startswith(prefix)]
        queue = facts.table["queued_tokens"][max(known, key=len)] if known else None
        return with_overrides(replace(facts.limits, queued_tokens=queue), env)

    def traits(self, model: str) -> Traits:
        return read_facts(PACKAGE).traits

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        said = [
            "a batch that Google has not finished in 48 hours gives back nothing: its rows are sent again"
        ]
        if not env.get(QUEUE):
            said.append(
                f"as many tokens wait at Google as Tier 1 allows, where that is known: {QUEUE} raises it"
            )
        if env.get(ADDRESS, "").strip():
            said.append(f"{ADDRESS} points elsewhere: these are Google's own prices")
        return tuple(said)

    def context_window(self, model: str) -> int | None:
        return read_facts(PACKAGE).context_window(_bare(model))

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> Connection:
        key = key_of(env, *self.traits(model).keys)
        http = Http(
            env.get(ADDRESS, "").strip() or DEFAULT_BASE_URL,
            headers={"x-goog-api-key": key},
            secret=key,
            address_variable=ADDRESS,
            read_error=read_error,
        )
        version = env.get(VERSION, "").strip()
        return GoogleConnection(
            http,
            version=DEFAULT_VERSION if version in ("", "beta") else version,
            model=model,
            kind=kind,
            limits=self.limits(model, env),
        )


def _bare(model: str) -> str:
    return model.removeprefix("models/")


provider = Google()
