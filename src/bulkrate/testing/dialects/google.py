"""The Gemini API over HTTP: resumable uploads, file jobs, operations, and single answers.

Facts: google-genai 3.4.0 and the batch-api page, copy of 2026; what those leave open is marked UNVERIFIED.
Inline jobs are not spoken: Bulkrate sends none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bulkrate.testing.blob import Blob
from bulkrate.testing.dialects.google_lines import CHAT, EMBED, GoogleCodec, refusal, respond
from bulkrate.testing.dialects.google_objects import (
    NO_FILE,
    as_json,
    batch_id,
    error_response,
    file_id,
    file_object,
    operation,
    refused,
)
from bulkrate.testing.faults import Fate
from bulkrate.testing.gates import Gates
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, Limits, Phase, Reason, Refused, StoredFile
from bulkrate.testing.sending import content_response

# 2 GB a file; no count of requests is published. What a cancelled batch leaves behind is UNVERIFIED: nothing,
# which is the worse case. An expired one has no results (documented).
LIMITS: Final = Limits(
    max_requests=1_000_000,
    max_file_bytes=2_000_000_000,
    one_file=True,
    lost_at=frozenset({Phase.EXPIRED, Phase.CANCELLED}),
)
_API: Final = "/{version}"  # v1 or v1beta: the same
_SINGLE: Final = {"generateContent": CHAT, "embedContent": EMBED}


class GoogleDialect:
    """The dialect object: see ``bulkrate.testing.dialects``."""

    prefix = ""
    limits = LIMITS

    def env(self, base_url: str, api_key: str) -> dict[str, str]:
        """The environment that leads a client here."""
        return {"GOOGLE_GEMINI_BASE_URL": base_url, "GEMINI_API_KEY": api_key}

    def codec(self) -> GoogleCodec:
        """The reader of request lines and writer of result lines."""
        return GoogleCodec()

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """Files (uploads and downloads have addresses of their own), models and batches."""
        api = _Api(state, gates, api_key)
        table: tuple[tuple[str, str, _Handler], ...] = (
            ("POST", f"/upload{_API}/files", api.upload),
            ("GET", f"/download{_API}/files/{{name}}:download", api.download),
            ("GET", f"{_API}/files/{{name}}:download", api.download),  # the SDK's way
            ("GET", f"{_API}/files", api.list_files),
            ("GET", f"{_API}/files/{{name}}", api.file),
            ("DELETE", f"{_API}/files/{{name}}", api.delete_file),
            ("POST", f"{_API}/models/{{model}}:{{method}}", api.call_model),
            ("GET", f"{_API}/batches", api.list_batches),
            ("POST", f"{_API}/batches/{{name}}:cancel", api.cancel),
            ("GET", f"{_API}/batches/{{name}}", api.status),
            ("DELETE", f"{_API}/batches/{{name}}", api.delete_batch),
        )
        return [Route(path, api.guarded(handler), methods=[method]) for method, path, handler in table]


_Handler = Callable[[Request], Awaitable[Response]]


class _Api:
    def __init__(self, state: ProviderState, gates: Gates, api_key: str) -> None:
        self._state, self._gates, self._api_key = state, gates, api_key
        self._uploads: dict[str, tuple[str, Blob]] = {}

    def guarded(self, handler: _Handler) -> _Handler:
        """Check the key, turn refusals into error bodies."""

        async def endpoint(request: Request) -> Response:
            # An upload that has begun is known by its address alone: the SDK sends no key there.
            begun = request.query_params.get("upload_id") in self._uploads
            if not begun and request.headers.get("x-goog-api-key") != self._api_key:
                error = {
                    "code": 400,
                    "message": "API key not valid. Please pass a valid API key.",
                    "status": "INVALID_ARGUMENT",
                    "details": [{"@type": "google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
                }
                return as_json({"error": error}, 400)
            try:
                return await handler(request)
            except Refused as error:
                return refused(error)

        return endpoint

    # -- files -----------------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        command = request.headers.get("x-goog-upload-command", "")
        if command == "start":
            file = orjson.loads(await request.body() or b"{}").get("file", {})
            number = str(len(self._uploads))
            # The service reads names in either spelling, and the SDK mixes them.
            self._uploads[number] = (str(file.get("displayName") or file.get("display_name") or ""), Blob())
            where = f"{request.url.scheme}://{request.url.netloc}{request.url.path}?upload_id={number}"
            headers = {"x-goog-upload-url": where, "x-goog-upload-status": "active"}
            return Response(b"", headers=headers)
        name, blob = self._uploads[request.query_params["upload_id"]]
        if await self._gates.cut_midway("upload", request):
            return Response(status_code=503)  # nobody reads it
        if request.headers.get("x-goog-upload-offset") != str(blob.size_bytes):
            raise Refused(Reason.INVALID, "The offset is not that of the upload.")
        async for chunk in request.stream():
            blob.append(chunk)
        if "finalize" not in command:
            return Response(b"", headers={"x-goog-upload-status": "active"})

        def effect() -> Response:
            if blob.size_bytes > self._state.limits.max_file_bytes:
                raise Refused(Reason.INVALID, "The file is too large.")
            response = as_json({"file": file_object(self._state.add_file(blob, name=name, purpose="batch"))})
            response.headers["x-goog-upload-status"] = "final"
            return response

        return await self._gates.perform("upload", request, effect)

    def _stored(self, name: str) -> StoredFile:
        found = self._state.files.get(file_id(name))
        if found is None:
            raise Refused(Reason.TOLD, NO_FILE, status=403)
        return found

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name.startswith("batch-"):  # 42 characters in the real one, where 40 are allowed (2026-01)
            raise Refused(Reason.INVALID, "* GetFileRequest.name: File names must be 40 characters or less.")
        return as_json(file_object(self._stored(name)))

    async def list_files(self, request: Request) -> Response:
        files = [item for item in self._state.files.values() if item.purpose == "batch"]
        return await self._gates.perform(
            "list", request, lambda: as_json({"files": [file_object(item) for item in files]})
        )

    async def delete_file(self, request: Request) -> Response:
        def effect() -> Response:
            self._state.delete_file(self._stored(request.path_params["name"]).id)
            return as_json({})

        return await self._gates.perform("delete", request, effect)

    async def download(self, request: Request) -> Response:
        def effect() -> Response:
            stored = self._stored(request.path_params["name"])
            if stored.purpose != "batch_output":
                raise Refused(Reason.INVALID, "Only generated files can be downloaded.")
            blob = self._state.download(stored.id).blob
            return content_response(blob, self._state.faults.on_content(), request)

        return await self._gates.perform("download", request, effect)

    # -- models ----------------------------------------------------------------------------------------

    async def call_model(self, request: Request) -> Response:
        model, method = request.path_params["model"], request.path_params["method"]
        body = orjson.loads(await request.body() or b"{}")
        if self._state.models is not None and model not in self._state.models:
            message = f"models/{model} is not found for API version v1beta, or is not supported for {method}."
            raise Refused(Reason.NOT_FOUND, message)
        if method in _SINGLE:
            return self._answer(body, embedding=method == "embedContent")
        if method not in (CHAT, EMBED):
            raise Refused(Reason.NOT_FOUND, f"No method {method} of models/{model}.")
        return await self._gates.perform("create", request, lambda: self._create(model, method, body))

    def _answer(self, body: dict[str, Any], *, embedding: bool) -> Response:
        reason = refusal(body, embedding=embedding)
        if reason is not None:
            return error_response(400, reason)
        response, _ = respond(body, Fate.ANSWERED, self._state.writer.single())
        return as_json(response)

    def _create(self, model: str, method: str, body: dict[str, Any]) -> Response:
        batch = body.get("batch") or {}
        config = batch.get("inputConfig") or batch.get("input_config") or {}
        name = config.get("fileName") or config.get("file_name")
        if not isinstance(batch.get("displayName"), str) or not batch["displayName"]:
            raise Refused(Reason.INVALID, "batch.display_name is required.")
        if not isinstance(name, str):
            raise Refused(Reason.INVALID, "batch.input_config: only files are spoken here.")
        stored = self._stored(name.removeprefix("files/"))
        # By its pieces, so that somebody else's name may differ in one of them.
        pieces = {str(place): piece for place, piece in enumerate(batch["displayName"].split("-"))}
        made = self._state.create_batch(
            stored.id, endpoint=f"models/{model}:{method}", window="48h", metadata=pieces
        )
        return self._told(made)

    # -- batches ---------------------------------------------------------------------------------------

    def _told(self, batch: Batch) -> Response:
        return as_json(self._operation(batch))

    def _operation(self, batch: Batch) -> dict[str, Any]:
        output = None if batch.output_file_id is None else self._state.files.get(batch.output_file_id)
        return operation(batch, output)

    async def list_batches(self, request: Request) -> Response:
        query = request.query_params

        def effect() -> Response:
            shown = self._state.listed(first_page="pageToken" not in query)
            first, size = int(query.get("pageToken", "0")), int(query.get("pageSize", "50"))
            page = {"operations": [self._operation(batch) for batch in shown[first : first + size]]}
            more = {"nextPageToken": str(first + size)} if first + size < len(shown) else {}
            # An empty list is an empty object.
            return as_json({**(page if page["operations"] else {}), **more})

        return await self._gates.perform("list", request, effect)

    async def status(self, request: Request) -> Response:
        def effect() -> Response:
            return self._told(self._state.poll(batch_id(request.path_params["name"])))

        return await self._gates.perform("status", request, effect)

    async def cancel(self, request: Request) -> Response:
        await request.body()

        def effect() -> Response:
            self._state.cancel(batch_id(request.path_params["name"]))
            return as_json({})

        return await self._gates.perform("cancel", request, effect)

    async def delete_batch(self, request: Request) -> Response:
        self._state.batches.pop(batch_id(request.path_params["name"]), None)
        return as_json({})


dialect = GoogleDialect()
