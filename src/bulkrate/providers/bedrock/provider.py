"""Amazon Bedrock as a provider: facts, wire and connection in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from bulkrate.core.limits import Limits, Traits
from bulkrate.providers.bedrock import settings as given
from bulkrate.providers.bedrock.aws import Aws
from bulkrate.providers.bedrock.client import BedrockConnection
from bulkrate.providers.bedrock.jobs import JobSettings
from bulkrate.providers.bedrock.models import base_name, facts
from bulkrate.providers.bedrock.wire import BedrockWire, invocation_type
from bulkrate.providers.facts import with_overrides

HOUR_S = 3_600
# A job ends by its own timeout; beyond that, something is wrong with it.
OVERDUE_S = 12 * HOUR_S


class Bedrock:
    """Implements `bulkrate.providers.provider.Provider`."""

    name = "bedrock"

    def wire(self, model: str, kind: str = "chat") -> BedrockWire:
        return BedrockWire(model)

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        window_s = float(given.timeout_hours(env) * HOUR_S)
        limits = replace(facts().limits, window_s=window_s, overdue_s=window_s + OVERDUE_S)
        return with_overrides(limits, env)

    def traits(self, model: str) -> Traits:
        return facts().traits

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        missing = _missing(env)
        return (missing,) if missing else ()

    def context_window(self, model: str) -> int | None:
        return facts().context_window(base_name(model))

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> BedrockConnection:
        limits, invocation = self.limits(model, env), invocation_type(model)
        role, place = given.role_of(env), given.place_of(env)
        settings = None
        if role is not None and place is not None:
            settings = JobSettings(
                model, invocation, role, place, given.timeout_hours(env), env.get(given.KMS_KEY) or None
            )
        return BedrockConnection(
            Aws(env, limits),
            model=model,
            invocation=invocation,
            settings=settings,
            missing=_missing(env),
            limits=limits,
        )


def _missing(env: Mapping[str, str]) -> str:
    """What is not set that batches need; empty when all is there."""
    names = [name for name in (given.S3, given.ROLE) if not env.get(name, "").strip()]
    if not names:
        return ""
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} not set: no batch can be sent"


provider = Bedrock()
