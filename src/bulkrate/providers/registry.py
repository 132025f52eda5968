"""Finding providers: entry points of group `bulkrate.providers`, so that a package can bring its own."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points

from bulkrate.errors import ConfigError
from bulkrate.providers.provider import Provider

GROUP = "bulkrate.providers"


def provider_names() -> list[str]:
    """Names of the installed providers."""
    return sorted(point.name for point in entry_points(group=GROUP))


def get_provider(name: str) -> Provider:
    """The provider called `name`. Raises `ConfigError` when none is installed under it."""
    for point in entry_points(group=GROUP):
        if point.name == name:
            provider: Provider = point.load()
            return provider
    known = provider_names()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"installed: {', '.join(known)}"
    raise ConfigError(f"no provider called {name}", code="unknown_provider", hint=hint)
