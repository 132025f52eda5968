"""A result file arrives whole or not at all."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest
from scripted_http import Call, Reply, Script, answer, connected, scripted

from bulkrate.errors import NotFoundError, Unreachable
from bulkrate.providers.provider import ResultFile

CONTENT = b"".join(b'{"custom_id": "%06d"}\n' % number for number in range(20_000))
CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
CHUNKED = CLOSED + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


def download(script: Script) -> bytes:
    async def main() -> bytes:
        async with scripted(script) as server, connected(server.base_url) as to:
            return b"".join([part async for part in to.download(ResultFile("output", "file-out"))])

    return asyncio.run(main())


def always(reply: Reply) -> Script:
    return lambda _: reply


@pytest.mark.parametrize(
    "reply",
    [
        answer(200, CONTENT),
        answer(200, gzip.compress(CONTENT), headers={"Content-Encoding": "gzip"}),
        CHUNKED + chunk(CONTENT[:1000]) + chunk(CONTENT[1000:]) + b"0\r\n\r\n",
    ],
    ids=["length", "gzip", "chunked"],
)
def test_whole(reply: bytes) -> None:
    assert download(always(reply)) == CONTENT


@pytest.mark.parametrize(
    "reply",
    [
        answer(200, CONTENT[:-100], length=len(CONTENT)),
        answer(200, b"", length=len(CONTENT)),
        answer(200, gzip.compress(CONTENT)[:-40], headers={"Content-Encoding": "gzip"}, length=len(CONTENT)),
        answer(200, b"not gzip at all", headers={"Content-Encoding": "gzip"}),
        CHUNKED + chunk(CONTENT[:1000]),
        CHUNKED + b"400\r\nshort",
        CHUNKED + b"zz\r\nwhat",
        b"HTTP/1.1 200 O",
    ],
    ids=["length", "nothing", "gzip", "not gzip", "chunks", "chunk", "nonsense", "head"],
)
def test_cut(reply: bytes) -> None:
    with pytest.raises(Unreachable):
        download(always(reply))


def unframed(content: bytes, known: object) -> Script:
    """A body that ends when the connection does, as old proxies send it, and the file's own record."""

    def script(call: Call) -> bytes:
        if call.path.endswith("/content"):
            return CLOSED + b"\r\n" + content
        return answer(200, {"id": "file-out", "bytes": known})

    return script


def test_a_body_without_an_end_is_measured_against_the_record() -> None:
    assert download(unframed(CONTENT, len(CONTENT))) == CONTENT
    with pytest.raises(Unreachable, match=f"{len(CONTENT) - 25} of {len(CONTENT)} bytes"):
        download(unframed(CONTENT[:-25], len(CONTENT)))


def test_a_record_without_a_size_is_no_reason_to_refuse_a_file() -> None:
    assert download(unframed(CONTENT, None)) == CONTENT


def test_a_gzip_body_cut_with_its_connection() -> None:
    packed = gzip.compress(CONTENT)[:-500]
    head = CLOSED + b"Content-Encoding: gzip\r\n"

    def script(call: Call) -> bytes:
        if call.path.endswith("/content"):
            return head + b"\r\n" + packed
        return answer(200, {"id": "file-out", "bytes": len(CONTENT)})

    with pytest.raises(Unreachable):
        download(script)


def test_an_expired_file_is_said_to_be_gone(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        download(always(answer(404, {"error": {"message": "No such File object", "code": None}})))
