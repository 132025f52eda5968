"""Every dialect against its misbehaving counterpart: one suite, the same totals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.conformance import Counterpart, ProviderConformance
from bulkrate.testing.dialects.bedrock import LIMITS as BEDROCK


class TestOpenAI(ProviderConformance):
    model = "openai/gpt-4o-mini"

    @contextmanager
    def counterpart(self, faults: str, clock: FakeClock) -> Iterator[Counterpart]:
        with MisbehavingProvider(faults, now=clock.now) as server:
            yield Counterpart({"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key}, server)


class TestAnthropic(ProviderConformance):
    model = "anthropic/claude-haiku-4-5"

    @contextmanager
    def counterpart(self, faults: str, clock: FakeClock) -> Iterator[Counterpart]:
        with MisbehavingProvider(faults, dialect="anthropic", now=clock.now) as server:
            yield Counterpart(
                {"ANTHROPIC_BASE_URL": server.base_url, "ANTHROPIC_API_KEY": server.api_key}, server
            )


class TestGoogle(ProviderConformance):
    model = "google/gemini-2.5-flash"

    @contextmanager
    def counterpart(self, faults: str, clock: FakeClock) -> Iterator[Counterpart]:
        with MisbehavingProvider(faults, dialect="google", now=clock.now, window_s=172_800) as server:
            env = {"GOOGLE_GEMINI_BASE_URL": server.base_url, "GEMINI_API_KEY": server.api_key}
            yield Counterpart(env, server)


class TestBedrock(ProviderConformance):
    """Forty rows are too few for a batch there, so the least size is set aside on both sides."""

    model = "bedrock/us.amazon.nova-lite-v1:0"

    @contextmanager
    def counterpart(self, faults: str, clock: FakeClock) -> Iterator[Counterpart]:
        limits = replace(BEDROCK, min_requests=1)
        with MisbehavingProvider(faults, dialect="bedrock", now=clock.now, limits=limits) as server:
            env = {
                "AWS_ENDPOINT_URL": server.base_url,
                "AWS_ACCESS_KEY_ID": server.api_key,
                "AWS_SECRET_ACCESS_KEY": "none",
                "AWS_REGION": "us-east-1",
                "BULKRATE_BEDROCK_S3": "s3://a-bucket/batches",
                "BULKRATE_BEDROCK_ROLE_ARN": "arn:aws:iam::123456789012:role/batches",
                "BULKRATE_LIMITS__MIN_REQUESTS": "1",
            }
            yield Counterpart(env, server)


class TestTogether(ProviderConformance):
    """The compatible server that is least like OpenAI: no metadata, no counts, other shapes."""

    model = "together/meta-llama/Llama-3.3-70B-Instruct-Turbo"

    @contextmanager
    def counterpart(self, faults: str, clock: FakeClock) -> Iterator[Counterpart]:
        with MisbehavingProvider(faults, dialect="together", now=clock.now) as server:
            env = {"TOGETHER_BASE_URL": server.base_url, "TOGETHER_API_KEY": server.api_key}
            yield Counterpart(env, server)


class TestMistral(ProviderConformance):
    model = "mistral/mistral-small-2603"

    @contextmanager
    def counterpart(self, faults: str, clock: FakeClock) -> Iterator[Counterpart]:
        with MisbehavingProvider(faults, dialect="mistral", now=clock.now) as server:
            env = {"MISTRAL_BASE_URL": server.base_url, "MISTRAL_API_KEY": server.api_key}
            yield Counterpart(env, server)


class TestAzure(ProviderConformance):
    model = "azure/gpt-4o-mini-batch"

    @contextmanager
    def counterpart(self, faults: str, clock: FakeClock) -> Iterator[Counterpart]:
        with MisbehavingProvider(faults, dialect="azure", now=clock.now) as server:
            env = {
                "AZURE_OPENAI_ENDPOINT": server.base_url,
                "AZURE_OPENAI_API_KEY": server.api_key,
                "OPENAI_API_VERSION": "2025-03-01-preview",
            }
            yield Counterpart(env, server)
