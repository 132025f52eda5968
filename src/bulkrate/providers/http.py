"""HTTP for dialects that are spoken without a vendor's SDK: one call at a time, failures in our words.

Nothing is retried here: a create that timed out may have happened, and reads are asked again by the
driver's own pacing. Proxies and certificates are taken from the environment, as httpx2 does.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio

from bulkrate.errors import BulkrateError, ConfigError, OutcomeUnknown, Unreachable
from bulkrate.providers.failures import Said, json_object, refusal, tells_its_end, unreachable

if TYPE_CHECKING:
    import httpx2

CHUNK_BYTES = 1 << 16
READ_TIMEOUT_S = 60.0

# Reads an error answer: its status, and its body as a JSON value (None if it is none).
ReadError = Callable[[int, Any], Said]


class Http:
    """A vendor's API at one address.

    `secret` is the key, kept out of every message; `address_variable` is the environment variable that sets
    the address, for hints.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        secret: str,
        address_variable: str,
        read_error: ReadError,
        use_proxies: bool = True,
    ) -> None:
        import httpx2

        if not base_url.lower().startswith(("http://", "https://")):
            raise ConfigError(
                f"{address_variable} is {base_url!r}, which is not an HTTP address",
                hint="https://host/v1, for instance",
            )
        self._client = httpx2.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            headers=dict(headers),
            timeout=READ_TIMEOUT_S,
            trust_env=use_proxies,
            follow_redirects=True,
        )
        self._secret, self._address_variable, self._read_error = secret, address_variable, read_error

    async def call(
        self,
        call: str,
        method: str,
        path: str,
        *,
        timeout_s: float = READ_TIMEOUT_S,
        **options: Any,
    ) -> httpx2.Response:
        """One call, its answer read whole and of status 2xx; `options` are httpx2's (`json`, `params`, …).

        `call` is its name (`create` and `upload` keep their doubt), `path` is relative to the address or a
        URL. `timeout_s` bounds the whole call. Raises the errors of `providers.failures`.
        """
        with self._translated(call), anyio.fail_after(timeout_s):
            response = await self._client.request(method, path, timeout=timeout_s, **options)
            self._check(call, response)
            return response

    async def json(self, call: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """A call whose answer is a JSON object."""
        return json_object((await self.call(call, method, path, **options)).content)

    async def stream(self, call: str, path: str, **options: Any) -> AsyncIterator[bytes]:
        """The bytes of a GET. Raises `Unreachable` for a body whose end cannot be told from a cut."""
        with self._translated(call):
            async with self._client.stream("GET", path, **options) as response:
                if response.is_error:
                    await response.aread()
                self._check(call, response)
                async for chunk in response.aiter_bytes(CHUNK_BYTES):
                    yield chunk
                if not tells_its_end(response.http_version, response.headers):
                    raise Unreachable(f"{call}: the answer has no length, so a cut would not be seen")

    def _check(self, call: str, response: httpx2.Response) -> None:
        if not response.is_success:
            try:
                body = response.json()
            except (ValueError, RecursionError):
                body = None
            said = self._read_error(response.status_code, body)
            raise refusal(call, response.status_code, said, response.headers, self._secret)

    @contextmanager
    def _translated(self, call: str) -> Iterator[None]:
        import httpx2

        try:
            yield
        except BulkrateError:
            raise
        except (
            httpx2.HTTPError,
            httpx2.StreamError,
            ssl.SSLError,
            TimeoutError,
            anyio.EndOfStream,
            anyio.BrokenResourceError,
        ) as error:
            raise unreachable(error, call, check=self._address_variable) from error
        except Exception as error:
            if call == "create":  # whatever it is, it does not prove that nothing was created
                raise OutcomeUnknown(f"{call}: {type(error).__name__}") from error
            raise

    async def aclose(self) -> None:
        """Let go of connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def key_of(env: Mapping[str, str], *names: str) -> str:
    """The API key under the first of these variables that is set. Raises `ConfigError` without one."""
    for name in names:
        key = env.get(name, "").strip()
        if key and (not key.isascii() or not key.isprintable() or " " in key):
            raise ConfigError(f"{name} holds characters that no key has", hint="set it again, without quotes")
        if key:
            return key
    raise ConfigError(f"{names[0]} is not set", code="no_key", hint=f"export {names[0]}=… and run again")
