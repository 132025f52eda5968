"""Where the key goes when a server redirects us."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import httpx2
import pytest

from bulkrate.providers.failures import Said
from bulkrate.providers.http import Http

SECRETS = {"Authorization": "Bearer sk-1", "x-goog-api-key": "sk-2"}


async def renewed() -> Mapping[str, str]:
    return {"api-key": "sk-3"}


def sent(base_url: str, target: str) -> set[str]:
    """The secrets that arrive at `target`, to which the server at `base_url` redirects."""
    seen: list[httpx2.Request] = []

    def server(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(307, headers={"location": target}) if len(seen) == 1 else httpx2.Response(200)

    async def main() -> None:
        http = Http(
            base_url,
            headers=SECRETS,
            secret="sk-1",
            address_variable="X_BASE_URL",
            read_error=lambda status, body: Said(str(status), "no"),
            more_headers=renewed,
            transport=httpx2.MockTransport(server),
        )
        async with http:
            await http.call("retrieve", "GET", "batches/1")

    anyio.run(main)
    return {name for name in (*SECRETS, "api-key") if name in seen[1].headers}


@pytest.mark.parametrize(
    "target",
    ["https://api.example/v1/else", "https://API.example/else", "https://api.example:443/", "/else"],
)
def test_they_stay_with_their_server(target: str) -> None:
    assert sent("https://api.example/v1", target) == {*SECRETS, "api-key"}


def test_they_may_go_from_the_clear_to_where_nobody_reads_them() -> None:
    assert sent("http://api.example/v1", "https://api.example/v1/batches/1") == {*SECRETS, "api-key"}


@pytest.mark.parametrize(
    "target",
    [
        "http://api.example/v1/batches/1",  # in the clear
        "https://api.example:8443/v1",  # another server of that host
        "https://else.example/v1",
        "https://api.example@else.example/v1",
        "https://api.example.else.example/v1",
    ],
)
def test_they_go_nowhere_else(target: str) -> None:
    assert sent("https://api.example/v1", target) == set()
