"""Which of Azure's two APIs is spoken, and where: from the variables that the SDK reads. Pure.

The classic API has a dated version in every call; the v1 API has its own path and needs none (openai SDK
3.54.0, `lib/azure.py`; the v1 articles, 2026).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bulkrate.errors import ConfigError
from bulkrate.providers.facts import read_facts

PACKAGE = "bulkrate.providers.azure"
ADDRESS, VERSION = "AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION"
BATCH_ENDPOINT = "BULKRATE_AZURE_BATCH_ENDPOINT"
_DATED = re.compile(r"\d{4}-\d\d-\d\d(-preview)?")


@dataclass(frozen=True, slots=True)
class Surface:
    """One of the two: the query of every call, and the endpoint that lines and batches name, by kind."""

    classic: bool
    params: Mapping[str, str]
    endpoints: Mapping[str, str]

    def answers_at(self, deployment: str, kind: str) -> str:
        """The path of single answers."""
        path = {"chat": "chat/completions", "embed": "embeddings"}[kind]
        return f"deployments/{deployment}/{path}" if self.classic else path


def surface(env: Mapping[str, str]) -> Surface:
    """The surface that the environment asks for: the classic one where it names a dated version."""
    version = env.get(VERSION, "").strip()
    classic = _DATED.fullmatch(version) is not None
    endpoints = dict(read_facts(PACKAGE).table["endpoints"]["classic" if classic else "v1"])
    if own := env.get(BATCH_ENDPOINT, "").strip():
        endpoints["chat"] = own
    return Surface(classic, {"api-version": version} if version else {}, endpoints)


def address(env: Mapping[str, str]) -> str:
    """Where the API is. Raises `ConfigError` when the resource is not named."""
    given = env.get(ADDRESS, "").strip().rstrip("/")
    if not given:
        raise ConfigError(
            f"{ADDRESS} is not set",
            code="no_endpoint",
            hint=f"export {ADDRESS}=https://RESOURCE.openai.azure.com",
        )
    root = given.removesuffix("/v1").removesuffix("/openai")  # as the portal shows it, or as SDKs take it
    return f"{root}/openai" if surface(env).classic else f"{root}/openai/v1"
