"""How a download's bytes travel: whole, in small pieces, compressed, only to the middle, or not at all."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse

from bulkrate.testing.blob import Blob
from bulkrate.testing.faults import Fault
from bulkrate.testing.gates import disconnected, transport_of

_GZIP = 31  # zlib's window bits for a gzip frame


def content_response(blob: Blob, faults: Mapping[str, Fault], request: Request) -> Response:
    """The answer that sends ``blob``: with a length, or chunked when it trickles or is compressed."""
    if "download_page" in faults:
        return HTMLResponse("<html>Please log in.</html>")
    if "download_short" in faults:
        some = blob.size_bytes * faults["download_short"].number("at") // 100
        blob = Blob([b"".join(blob.chunks())[:some]])
    headers: dict[str, str] = {}
    packed = "gzip" in faults and "gzip" in request.headers.get("accept-encoding", "")
    trickle, cut = faults.get("trickle"), faults.get("download_cut")
    chunks = blob.chunks() if trickle is None else blob.chunks(trickle.number("bytes"))
    size = blob.size_bytes
    if packed:
        body = b"".join(_compressed(blob.chunks()))
        chunks = Blob([body]).chunks() if trickle is None else Blob([body]).chunks(trickle.number("bytes"))
        headers["content-encoding"] = "gzip"
        size = len(body)
    if trickle is None:
        headers["content-length"] = str(size)
    most = None if cut is None else size * cut.number("at") // 100
    return StreamingResponse(
        _sent(chunks, most, request), headers=headers, media_type="application/octet-stream"
    )


async def _sent(chunks: Iterator[bytes], most: int | None, request: Request) -> AsyncIterator[bytes]:
    # Asynchronous, so that the event loop reads: a plain iterator would be read by a pool of threads.
    left = most
    for chunk in chunks:
        if left is not None and len(chunk) > left:
            if left:
                yield chunk[:left]
            await _hang_up(request)
            return
        yield chunk
        left = None if left is None else left - len(chunk)
        await asyncio.sleep(0)  # pieces go out one by one, and other calls get their turn
    if most is not None:  # cut at the very end: every byte has come, the end of the answer has not
        await _hang_up(request)


async def _hang_up(request: Request) -> None:
    transport = transport_of(request)
    if transport is None:
        raise ConnectionResetError("download: the connection was cut")
    transport.close()  # what was written still goes out
    await disconnected(request)


def _compressed(chunks: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(wbits=_GZIP)
    for chunk in chunks:
        yield packer.compress(chunk)
    yield packer.flush()
