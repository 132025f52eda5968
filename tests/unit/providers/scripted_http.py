"""A server on loopback that answers every call as the test says, to the byte, and notes what it was asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from bulkrate.core.limits import Limits
from bulkrate.providers.openai.client import OpenAIConnection, open_http

KEY = "sk-test-0123456789abcdef"


@dataclass(slots=True)
class Call:
    method: str
    path: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Endless:
    """`head`, then spaces for as long as somebody reads."""

    head: bytes


Reply = bytes | Endless | None  # None: never an answer
Script = Callable[[Call], Reply]


@dataclass(slots=True)
class Scripted:
    base_url: str
    calls: list[Call] = field(default_factory=list)

    def count(self, method: str, path: str) -> int:
        return sum(call.method == method and call.path.split("?")[0] == path for call in self.calls)


def answer(
    status: int, body: Any, *, headers: dict[str, str] | None = None, length: int | None = None
) -> bytes:
    """A whole HTTP answer; `length` may lie about the body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content) if length is None else length}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + content


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[Scripted]:
    """Serve `script` until the end of the block."""
    seen = Scripted("")

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            method, path, _ = first.split(" ")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            if headers.get("transfer-encoding") == "chunked":
                body = b""
                while size := int(await reader.readline(), 16):
                    body += (await reader.readexactly(size + 2))[:-2]
            else:
                body = await reader.readexactly(int(headers.get("content-length", 0)))
            call = Call(method, path, body, headers)
            seen.calls.append(call)
            reply = script(call)
            if reply is None:
                await reader.read()  # until the client gives up
            elif isinstance(reply, Endless):
                writer.write(reply.head)
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(0)
            else:
                writer.write(reply)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    seen.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield seen
    finally:
        server.close()


@asynccontextmanager
async def connected(
    base_url: str, *, limits: Limits | None = None, key: str = KEY
) -> AsyncIterator[OpenAIConnection]:
    """A connection of ours to `base_url`."""
    client = open_http(api_key=key, base_url=base_url)
    connection = OpenAIConnection(client, endpoint="/v1/chat/completions", limits=limits or Limits())
    try:
        yield connection
    finally:
        await connection.aclose()
