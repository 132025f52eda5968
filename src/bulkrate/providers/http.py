"""HTTP for dialects that are spoken without a vendor's SDK: one call at a time, failures in our words.

Nothing is retried here: a create that timed out may have happened, and reads are asked again by the
driver's own pacing. Proxies and certificates are taken from the environment, as httpx2 does.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Self

import anyio

from bulkrate.core.json_value import parsed
from bulkrate.errors import BulkrateError, ConfigError, NotFoundError, OutcomeUnknown, Unreachable
from bulkrate.providers.failures import Said, json_object, refusal, tells_its_end, unreachable

if TYPE_CHECKING:
    import httpx2

CHUNK_BYTES = 1 << 16
READ_TIMEOUT_S = 60.0

LONGEST_TEXT = 2_000

# Reads an error answer: its status, and its body as a JSON value, or as text if it is none.
ReadError = Callable[[int, Any], Said]
SizeOf = Callable[[], Awaitable[int | None]]


class Http:
    """A vendor's API at one address.

    `secret` is the key, kept out of every message; `address_variable` is the environment variable that sets
    the address, for hints. `use_proxies=False` leaves the environment's proxies aside, for a server on this
    machine. `params` go into the query of every call, and what `more_headers` gives into its headers.
    Raises `ConfigError` for an address that cannot be.
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
        params: Mapping[str, str] | None = None,
        more_headers: Callable[[], Awaitable[Mapping[str, str]]] | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        import httpx2

        if not base_url.lower().startswith(("http://", "https://")):
            raise ConfigError(
                f"{address_variable} is {base_url!r}, which is not an HTTP address",
                hint="https://host/v1, for instance",
            )
        own_url, secrets = httpx2.URL(base_url), set(headers)

        async def keep_secrets(request: httpx2.Request) -> None:
            # httpx2 drops only `Authorization` when a redirect leads elsewhere.
            if not _same_place(own_url, request.url):
                for name in secrets:
                    request.headers.pop(name, None)
            elif more_headers is not None:
                more = await more_headers()
                secrets.update(more)
                request.headers.update(more)

        self._client = httpx2.AsyncClient(
            base_url=base_url.rstrip("/") + "/",
            headers=dict(headers),
            params=dict(params or {}),
            timeout=READ_TIMEOUT_S,
            trust_env=use_proxies,
            verify=_certificates(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            follow_redirects=True,
            transport=transport,
            event_hooks={"request": [keep_secrets]},
        )
        self._secret, self._address_variable, self._read_error = secret, address_variable, read_error

    async def call(
        self,
        call: str,
        method: str,
        path: str,
        *,
        timeout_s: float = READ_TIMEOUT_S,
        answers: frozenset[int] = frozenset(),
        **options: Any,
    ) -> httpx2.Response:
        """One call, its answer read whole; `options` are httpx2's (`json`, `params`, …).

        `call` is its name (`create` and `upload` keep their doubt), `path` is relative to the address or a
        URL. `timeout_s` bounds the whole call: the client's own bounds only each wait in it. Raises the
        errors of `providers.failures` for a status that is neither 2xx nor one of `answers`.
        """
        with self._translated(call), anyio.fail_after(timeout_s):
            response = await self._client.request(method, path, timeout=timeout_s, **options)
            if response.status_code not in answers:
                self._check(call, response)
            return response

    async def json(self, call: str, method: str, path: str, **options: Any) -> dict[str, Any]:
        """A call whose answer is a JSON object."""
        return json_object((await self.call(call, method, path, **options)).content)

    async def stream(
        self, call: str, path: str, *, size_of: SizeOf | None = None, **options: Any
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a GET. Raises `Unreachable` for a body that was cut.

        A body without a length or chunks ends like a cut connection: `size_of` then tells its size, from a
        record of the file (None: the record has none), and without it such a body is not accepted.
        """
        size_bytes = 0
        with self._translated(call):
            async with self._client.stream("GET", path, **options) as response:
                if response.is_error:
                    await response.aread()
                self._check(call, response)
                async for chunk in response.aiter_bytes(CHUNK_BYTES):
                    size_bytes += len(chunk)
                    yield chunk
                whole = tells_its_end(response.http_version, response.headers)
        if not whole:
            if size_of is None:
                raise Unreachable(f"{call}: the answer has no length, so a cut would not be seen")
            known = await size_of()
            if known is not None and size_bytes < known:
                raise Unreachable(f"{call}: {size_bytes} of {known} bytes arrived")

    async def file(self, path: str) -> AsyncGenerator[bytes, None]:
        """The content of a file: `path` tells its size, as `bytes`, and `path/content` is the content."""

        async def size_of() -> int | None:
            known = (await self.json("download", "GET", path)).get("bytes")
            return known if isinstance(known, int) else None

        async for chunk in self.stream("download", f"{path}/content", size_of=size_of):
            yield chunk

    async def delete(self, path: str) -> None:
        """Delete what is there; what is gone already is no error."""
        with suppress(NotFoundError):
            await self.call("delete", "DELETE", path)

    def _check(self, call: str, response: httpx2.Response) -> None:
        if not response.is_success:
            try:
                body: Any = parsed(response.content.decode("utf-8-sig"))
            except (ValueError, RecursionError):
                body = response.text[:LONGEST_TEXT]
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


def _same_place(own: httpx2.URL, url: httpx2.URL) -> bool:
    """Whether `url` is of the same server, and not in the clear where our own is not."""
    return own.host == url.host and own.port == url.port and url.scheme in (own.scheme, "https")


@cache
def _certificates(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Whom to trust, as httpx2 finds it out; reading it takes 20 ms, so connections share it."""
    import httpx2

    del file, folder  # what httpx2 looks at
    return httpx2.create_ssl_context()


def key_of(env: Mapping[str, str], *names: str) -> str:
    """The API key under the first of these variables that is set. Raises `ConfigError` without one."""
    for name in names:
        if key := env.get(name, ""):
            return checked_key(key, name)
    raise ConfigError(f"{names[0]} is not set", code="no_key", hint=f"export {names[0]}=… and run again")


def checked_key(key: str, name: str) -> str:
    """The key without white space around it. Raises `ConfigError` if it cannot be one."""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"{name} holds characters that no key has", hint="set it again, without quotes")
    return key
