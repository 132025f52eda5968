"""Every dialect against its misbehaving counterpart: one suite, the same totals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.conformance import Counterpart, ProviderConformance
from bulkrate.testing.dialects.bedrock import LIMITS as BEDROCK


class OurOwn(ProviderConformance):
    """A dialect with a counterpart of ours, which has `options`; `env` is added to what leads there."""

    dialect: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    env: ClassVar[Mapping[str, str]] = {}

    @contextmanager
    def counterpart(self, faults: str, clock: FakeClock) -> Iterator[Counterpart]:
        with MisbehavingProvider(faults, dialect=self.dialect, now=clock.now, **self.options) as server:
            yield Counterpart({**server.env, **self.env}, server)


class TestOpenAI(OurOwn):
    dialect, model = "openai", "openai/gpt-4o-mini"


class TestAnthropic(OurOwn):
    dialect, model = "anthropic", "anthropic/claude-haiku-4-5"


class TestGoogle(OurOwn):
    dialect, model = "google", "google/gemini-2.5-flash"
    options: ClassVar = {"window_s": 172_800}


class TestBedrock(OurOwn):
    """Forty rows are too few for a batch there, so the least size is set aside on both sides."""

    dialect, model = "bedrock", "bedrock/us.amazon.nova-lite-v1:0"
    options: ClassVar = {"limits": replace(BEDROCK, min_requests=1)}
    env: ClassVar = {"BULKRATE_LIMITS__MIN_REQUESTS": "1"}


@pytest.mark.soak
class TestTogether(OurOwn):
    """The compatible server that is least like OpenAI: no metadata, no counts, other shapes."""

    dialect, model = "together", "together/meta-llama/Llama-3.3-70B-Instruct-Turbo"


class TestMistral(OurOwn):
    dialect, model = "mistral", "mistral/mistral-small-2603"


class TestAzure(OurOwn):
    dialect, model = "azure", "azure/gpt-4o-mini-batch"
