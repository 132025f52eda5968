"""Tools for testing batch pipelines, ours and yours: a provider that misbehaves, and a clock that is moved.

    from bulkrate.testing import MisbehavingProvider

    with MisbehavingProvider("missing=2 expire_after=600", seed=7) as provider:
        client = openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)
        ...
    assert provider.meter.rows_accepted == 1_000

Needs the extra ``bulkrate[testing]``. Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulkrate.testing.answers import Answer
    from bulkrate.testing.clock import FakeClock
    from bulkrate.testing.faults import FAULTS, Fault, FaultError, FaultPlan
    from bulkrate.testing.meter import Meter
    from bulkrate.testing.process import ProviderProcess, RemoteControl
    from bulkrate.testing.records import Limits
    from bulkrate.testing.server import MisbehavingProvider

__all__ = [
    "FAULTS",
    "Answer",
    "FakeClock",
    "Fault",
    "FaultError",
    "FaultPlan",
    "Limits",
    "Meter",
    "MisbehavingProvider",
    "ProviderProcess",
    "RemoteControl",
]

_HOME = {
    "Answer": "answers",
    "FakeClock": "clock",
    "FAULTS": "faults",
    "Fault": "faults",
    "FaultError": "faults",
    "FaultPlan": "faults",
    "Meter": "meter",
    "ProviderProcess": "process",
    "RemoteControl": "process",
    "Limits": "records",
    "MisbehavingProvider": "server",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
