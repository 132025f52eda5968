"""The deep dialects: what a job calls a model there, and what a few rows need to be a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bulkrate.testing import Limits, MisbehavingProvider
from bulkrate.testing.dialects.bedrock import LIMITS as BEDROCK


@dataclass(frozen=True, slots=True)
class Dialect:
    """`limits` are the counterpart's where they are not the vendor's, `env` tells them to the client."""

    name: str
    model: str
    limits: Limits | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    def env_for(self, provider: MisbehavingProvider) -> dict[str, str]:
        """The environment in which a client finds `provider`."""
        return {**provider.env, **self.env}


DIALECTS = {
    dialect.name: dialect
    for dialect in (
        Dialect("openai", "openai/gpt-4o-mini"),
        Dialect("azure", "azure/gpt-4o-mini"),
        Dialect("anthropic", "anthropic/claude-haiku-4-5"),
        Dialect("google", "google/gemini-2.5-flash"),
        Dialect("mistral", "mistral/mistral-small-2603"),
        Dialect(
            "bedrock",
            "bedrock/us.amazon.nova-lite-v1:0",
            replace(BEDROCK, min_requests=1),
            {"BULKRATE_LIMITS__MIN_REQUESTS": "1"},
        ),
    )
}
