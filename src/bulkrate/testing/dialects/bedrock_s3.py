"""As much of S3 as jobs need: objects by path, in one piece or in parts, and a list by prefix.

Files are the provider's files, with their address (``s3://bucket/key``) as their id. Where another S3 is
named, they lie there instead: what a job reads is fetched from it, and what it writes is put there.
"""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable
from urllib.parse import quote
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response

from bulkrate.testing.blob import Blob
from bulkrate.testing.dialects.bedrock_objects import as_xml
from bulkrate.testing.gates import Gates
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Reason, Refused, StoredFile
from bulkrate.testing.sending import content_response

# Who comes without a signature is nobody; that it is right, a stand-in does not check.
_HEADERS = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=AKIDBEDROCK/20260101/us-east-1/s3/aws4_request, "
    "SignedHeaders=host, Signature=0",
    "Content-Type": "application/octet-stream",
}

Handler = Callable[[Request], Awaitable[Response]]


class Objects:
    """The files of a provider, by address."""

    def __init__(self, state: ProviderState, gates: Gates, elsewhere: str | None) -> None:
        self._state, self._gates, self._elsewhere = state, gates, elsewhere
        self._parts: dict[str, dict[int, bytes]] = {}

    # -- for jobs --------------------------------------------------------------------------------------

    def fetch(self, uri: str) -> None:
        """Have the file here, if it is anywhere."""
        if self._elsewhere is not None:
            self._state.files.pop(uri, None)
            with contextlib.suppress(urllib.error.HTTPError):
                self._keep(uri, Blob([self._ask("GET", uri)]))

    def publish(self, uri: str, content: bytes) -> None:
        """Write a result."""
        if self._elsewhere is None:
            at = self._state.at()
            self._state.files[uri] = StoredFile(uri, uri, "batch_output", at, None, Blob([content]))
        else:
            self._ask("PUT", uri, content)

    def _ask(self, method: str, uri: str, content: bytes | None = None) -> bytes:
        address = f"{self._elsewhere}/{quote(uri.removeprefix('s3://'))}"
        request = urllib.request.Request(address, content, _HEADERS, method=method)  # noqa: S310 - loopback
        with urllib.request.urlopen(request) as response:  # noqa: S310
            found: bytes = response.read()
        return found

    def _keep(self, uri: str, blob: Blob) -> None:
        stored = self._state.add_file(blob, name=uri, purpose="batch")
        del self._state.files[stored.id]
        stored.id = uri
        self._state.files[uri] = stored

    # -- for clients -----------------------------------------------------------------------------------

    async def call(self, request: Request) -> Response:
        """One call on an object."""
        uri = f"s3://{request.path_params['bucket']}/{request.path_params['key']}"
        if request.method in ("PUT", "POST"):
            return await self._write(request, uri)
        if request.method == "DELETE":
            return await self._delete(request, uri)

        def effect() -> Response:
            if uri not in self._state.files:
                raise Refused(Reason.NOT_FOUND, "The specified key does not exist.")
            blob = self._state.download(uri).blob
            return content_response(blob, self._state.faults.on_content(), request)

        return await self._gates.perform("download", request, effect)

    async def _write(self, request: Request, uri: str) -> Response:
        query = request.query_params
        if "uploads" in query:
            upload = str(len(self._parts))
            self._parts[upload] = {}
            return as_xml(
                f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            )
        if await self._gates.cut_midway("upload", request):
            return Response(status_code=503)  # nobody reads it
        content = await request.body()
        if "partNumber" in query:
            self._parts[query["uploadId"]][int(query["partNumber"])] = content
            return Response(headers={"etag": f'"{query["partNumber"]}"'})
        blob = Blob([content])
        if "uploadId" in query:
            parts = self._parts.pop(query["uploadId"])
            blob = Blob(parts[number] for number in sorted(parts))

        def effect() -> Response:
            if blob.size_bytes > self._state.limits.max_file_bytes:
                raise Refused(Reason.INVALID, "The object is too large.", code="EntityTooLarge")
            self._keep(uri, blob)
            if "uploadId" in query:
                return as_xml(
                    '<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>'
                )
            return Response(headers={"etag": '"1"'})

        return await self._gates.perform("upload", request, effect)

    async def _delete(self, request: Request, uri: str) -> Response:
        if "uploadId" in request.query_params:
            self._parts.pop(request.query_params["uploadId"], None)
            return Response(status_code=204)

        def effect() -> Response:
            if uri in self._state.files:
                self._state.delete_file(uri)
            return Response(status_code=204)  # one that was not there is deleted, too

        return await self._gates.perform("delete", request, effect)

    async def list_bucket(self, request: Request) -> Response:
        """The objects of a bucket whose keys begin with a prefix. Not held up by faults of lists of jobs."""
        bucket, prefix = f"s3://{request.path_params['bucket']}/", request.query_params.get("prefix", "")
        found = [
            (uri.removeprefix(bucket), stored.blob.size_bytes)
            for uri, stored in self._state.files.items()
            if uri.startswith(bucket + prefix)
        ]
        items = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size></Contents>" for key, size in sorted(found)
        )
        count = f"<KeyCount>{len(found)}</KeyCount><IsTruncated>false</IsTruncated>"
        return as_xml(f"<ListBucketResult>{items}{count}</ListBucketResult>")
