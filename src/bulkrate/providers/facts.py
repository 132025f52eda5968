"""Reading a provider's dated facts (`limits.toml`), with the user's overrides."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib.resources import files
from typing import Any, get_type_hints

from bulkrate.core.limits import Limits, Traits
from bulkrate.errors import ConfigError

# BULKRATE_LIMITS__QUEUED_TOKENS=2000000 sets a limit the provider's console shows and no API tells.
ENV_PREFIX = "BULKRATE_LIMITS__"
MAY_BE_ZERO = frozenset({"listing_lag_s", "clock_skew_s"})


@dataclass(frozen=True, slots=True)
class Facts:
    """A `limits.toml` in memory."""

    limits: Limits
    traits: Traits
    context: Mapping[str, int]
    reasoning: tuple[str, ...]
    table: Mapping[str, Any]

    def context_window(self, model: str) -> int | None:
        """Window of the longest model-name prefix in the table."""
        return longest_prefix(self.context, model)

    def reasons(self, model: str) -> bool:
        """Whether the model spends output tokens on reasoning, so that a tight cap would cut its answer."""
        return model.startswith(self.reasoning)


def longest_prefix(table: Mapping[str, int], model: str) -> int | None:
    """The entry for the longest beginning of the model's name in the table."""
    known = [prefix for prefix in table if model.startswith(prefix)]
    return table[max(known, key=len)] if known else None


@cache
def read_facts(package: str) -> Facts:
    """The facts of the dialect in `package` (a module name with a `limits.toml` beside it)."""
    table = tomllib.loads((files(package) / "limits.toml").read_text(encoding="utf-8"))
    models = table.get("models", {})
    return Facts(
        limits=Limits(**table["limits"]),
        traits=read_traits(table),
        context=models.get("context_window", {}),
        reasoning=tuple(models.get("reasoning", ())),
        table=table,
    )


def read_traits(table: Mapping[str, Any]) -> Traits:
    """The traits of a facts file, with its date and source; what it does not name is as `Traits` has it."""
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in table.get("traits", {}).items()
    }
    return Traits(**values, dated=str(table["dated"]), source=table["source"])


def with_overrides(limits: Limits, env: Mapping[str, str]) -> Limits:
    """`limits` with the user's figures in place of ours. Raises `ConfigError` for a figure that is none."""
    kinds = get_type_hints(Limits)
    changes: dict[str, int | float] = {}
    for field in fields(Limits):
        name = ENV_PREFIX + field.name.upper()
        text = env.get(name)
        if text is None:
            continue
        convert = float if kinds[field.name] is float else int
        try:
            number = convert(text)
        except ValueError:
            raise ConfigError(
                f"{name} is {text!r}, which is not a number", hint="give it as a plain number"
            ) from None
        # A limit of nothing would let no shard through, for ever; only a lag may be none.
        if not math.isfinite(number) or number < 0 or (number == 0 and field.name not in MAY_BE_ZERO):
            raise ConfigError(f"{name} is {text!r}, which bounds nothing", hint="give a number above zero")
        changes[field.name] = number
    return replace(limits, **changes)  # type: ignore[arg-type]  # the kinds come from the same hints
