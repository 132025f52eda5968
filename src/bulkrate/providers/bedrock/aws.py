"""boto3, one call at a time in a thread: no retries, failures in our words.

Why an SDK here, and no HTTP of our own: requests are signed, and credentials come from a dozen places that
boto3 knows (profiles, SSO, roles of machines and pods). S3 goes the same way: one chain of credentials, one
proxy, one certificate store for both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread

from bulkrate.core.limits import Limits
from bulkrate.errors import BulkrateError, ConfigError
from bulkrate.providers.bedrock.failures import failure

if TYPE_CHECKING:
    from boto3.session import Session

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 60.0
# As many single requests as the live lane ever has in flight, and some calls beside.
MOST_CALLS = 72


class Aws:
    """boto3's clients for Bedrock and S3. Raises `ConfigError` without the extra, or without a region."""

    def __init__(self, env: Mapping[str, str], limits: Limits) -> None:
        self._env, self._limits = env, limits
        self._session = _session(env)
        self._threads = anyio.CapacityLimiter(MOST_CALLS)

    @cached_property
    def bedrock(self) -> Any:
        """The client of the control plane."""
        return self._client("bedrock", self._limits.create_timeout_s)

    @cached_property
    def runtime(self) -> Any:
        """The client of single requests."""
        return self._client("bedrock-runtime", self._limits.answer_timeout_s)

    @cached_property
    def s3(self) -> Any:
        """The client of files."""
        return self._client("s3", READ_TIMEOUT_S)

    def _client(self, service: str, read_timeout_s: float) -> Any:
        from botocore.config import Config

        own = "AWS_ENDPOINT_URL_" + service.upper().replace("-", "_")
        config = Config(
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=read_timeout_s,
            # A create must never be repeated by anybody but the submit protocol.
            retries={"total_max_attempts": 1, "mode": "standard"},
            max_pool_connections=MOST_CALLS,
            user_agent_extra="bulkrate",
        )
        try:
            return self._session.client(
                service,
                endpoint_url=self._env.get(own) or self._env.get("AWS_ENDPOINT_URL") or None,
                config=config,
            )
        except Exception as error:  # a profile, a region or an address that cannot be
            raise _cannot_be_set_up(error) from None

    async def call(
        self, call: str, function: Callable[..., T], *arguments: Any, timeout_s: float, **named: Any
    ) -> T:
        """Run a call in a thread. `call` is its name; the errors are those of `failures.failure`.

        Whoever stops waiting leaves the thread to itself: the call may still have its effect.
        """
        try:
            with anyio.fail_after(timeout_s):
                return await anyio.to_thread.run_sync(
                    partial(function, *arguments, **named), abandon_on_cancel=True, limiter=self._threads
                )
        except BulkrateError:
            raise
        except Exception as error:
            raise failure(error, call) from error

    async def aclose(self) -> None:
        """Let go of connections."""
        for name in ("bedrock", "runtime", "s3"):
            client = self.__dict__.pop(name, None)
            if client is not None:
                client.close()


def _cannot_be_set_up(error: Exception) -> ConfigError:
    hint = "check AWS_PROFILE, AWS_REGION and AWS_ENDPOINT_URL"
    return ConfigError(f"AWS cannot be set up: {error}", code="no_key", hint=hint)


def _described() -> Any:
    """A botocore session that shares the services' descriptions, megabytes of JSON, with those before it."""
    import botocore.session

    session = botocore.session.Session()
    session.register_component("data_loader", _loader())
    return session


@cache
def _loader() -> Any:
    from botocore.loaders import create_loader

    return create_loader()


def _session(env: Mapping[str, str]) -> Session:
    """A session as the environment describes it; what that leaves open, boto3 finds as it always does."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise ConfigError(
            "Bedrock needs boto3, which is not installed",
            code="no_extra",
            hint="pip install 'bulkrate[bedrock]'",
        ) from None
    try:
        session = boto3.session.Session(
            botocore_session=_described(),
            aws_access_key_id=env.get("AWS_ACCESS_KEY_ID") or None,
            aws_secret_access_key=env.get("AWS_SECRET_ACCESS_KEY") or None,
            aws_session_token=env.get("AWS_SESSION_TOKEN") or None,
            region_name=env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION") or None,
            profile_name=env.get("AWS_PROFILE") or None,
        )
    except (BotoCoreError, ValueError) as error:
        raise _cannot_be_set_up(error) from None
    if session.region_name is None:
        raise ConfigError("no AWS region is set", code="no_region", hint="export AWS_REGION=us-east-1")
    return session
