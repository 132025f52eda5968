"""Fixtures for pytest. Load them with ``pytest_plugins = ["bulkrate.testing.pytest_plugin"]``.

The names of the fixture types may be imported from here too, before or after pytest loads the plugin:
PYTEST_DONT_REWRITE keeps pytest from complaining about that (there are no asserts to rewrite).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from bulkrate.testing.clock import FakeClock
from bulkrate.testing.process import ProviderProcess
from bulkrate.testing.server import MisbehavingProvider

pytest.register_assert_rewrite("bulkrate.testing.conformance")

ProviderFactory = Callable[..., MisbehavingProvider]
ProcessFactory = Callable[..., ProviderProcess]


@pytest.fixture
def misbehaving_provider() -> Iterator[ProviderFactory]:
    """Makes providers that run until the test ends: ``misbehaving_provider("missing=2", seed=7)``."""
    with ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> MisbehavingProvider:
            return stack.enter_context(MisbehavingProvider(*arguments, **options))

        yield make


@pytest.fixture
def misbehaving_provider_process() -> Iterator[ProcessFactory]:
    """The same in processes of their own, for tests that kill the client."""
    with ExitStack() as stack:

        def make(*arguments: Any, **options: Any) -> ProviderProcess:
            return stack.enter_context(ProviderProcess(*arguments, **options))

        yield make


@pytest.fixture
def fake_clock() -> FakeClock:
    """A clock that passes time at once when somebody sleeps on it."""
    return FakeClock()
