"""The wire dialects the misbehaving provider speaks, one module each.

A dialect has two parts. Its ``Codec`` (in ``records``) is pure: it reads uploaded requests and writes
result lines. Its routes are the HTTP shapes. A new one is a module here with a ``dialect`` object and a line
in ``_MODULES``; the state, the faults, the meter and the control API are shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, runtime_checkable

if TYPE_CHECKING:
    from starlette.routing import BaseRoute

    from bulkrate.testing.gates import Gates
    from bulkrate.testing.provider_state import ProviderState
    from bulkrate.testing.records import Batch, Codec, Limits

_MODULES: Final = {
    "anthropic": "bulkrate.testing.dialects.anthropic",
    "azure": "bulkrate.testing.dialects.azure",
    "bedrock": "bulkrate.testing.dialects.bedrock",
    "google": "bulkrate.testing.dialects.google",
    "mistral": "bulkrate.testing.dialects.mistral",
    "openai": "bulkrate.testing.dialects.openai",
    "together": "bulkrate.testing.dialects.together",
}

NAMES: Final = frozenset(_MODULES)
"""The providers that have a counterpart here."""


class Dialect(Protocol):
    """What a wire dialect gives the server."""

    @property
    def prefix(self) -> str:
        """The path under which the dialect's API lies, part of the base URL: ``/v1``."""

    @property
    def limits(self) -> Limits:
        """The provider's published limits."""

    def env(self, base_url: str, api_key: str) -> dict[str, str]:
        """The environment variables that lead a client to the server."""

    def codec(self) -> Codec:
        """The reader of requests and writer of results."""

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """The HTTP routes over ``state``; calls that can be interrupted go through ``gates``."""


@runtime_checkable
class TellingDialect(Protocol):
    """A ``Dialect`` of a provider that sends webhooks."""

    def event(self, batch: Batch) -> dict[str, Any]:
        """The message about a batch that has ended."""


def load_dialect(name: str) -> Dialect:
    """The dialect called ``name`` (``ValueError`` if there is none). Loads the web framework."""
    module = _MODULES.get(name)
    if module is None:
        raise ValueError(f"unknown dialect {name!r}; there are: {', '.join(_MODULES)}")
    return cast("Dialect", import_module(module).dialect)
