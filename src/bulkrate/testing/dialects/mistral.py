"""Mistral's files and batch jobs over HTTP, and single answers.

Facts: mistralai 3.7.0 and the batch guide, copy of 2026-08; what those leave open is marked UNVERIFIED.
Inline jobs are not spoken: Bulkrate sends none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bulkrate.testing.dialects.mistral_lines import (
    ANSWERED_ENDPOINTS,
    MistralCodec,
    error_object,
    refusal,
    respond,
)
from bulkrate.testing.dialects.mistral_objects import as_json, file_object, job_object, status_word
from bulkrate.testing.faults import Fate
from bulkrate.testing.gates import Gates
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, Limits, Reason, Refused
from bulkrate.testing.sending import content_response
from bulkrate.testing.uploads import read_upload

LIMITS: Final = Limits(max_requests=1_000_000, max_file_bytes=512_000_000)
"""As many requests as may be pending in a workspace; the size of a file is another client's figure."""

_STATUS: Final[Mapping[Reason, int]] = {
    Reason.NOT_FOUND: 404,
    Reason.INVALID: 422,
    Reason.CONFLICT: 400,
    Reason.UNAVAILABLE: 503,
    Reason.RATE_LIMITED: 429,
    Reason.TOLD: 500,
}
_FILTERS: Final = frozenset(
    {"page", "page_size", "model", "agent_id", "created_after", "created_by_me", "status", "order_by"}
)


class MistralDialect:
    """The dialect object: see ``bulkrate.testing.dialects``."""

    prefix = ""
    limits = LIMITS

    def env(self, base_url: str, api_key: str) -> dict[str, str]:
        """The environment that leads a client here."""
        return {"MISTRAL_BASE_URL": base_url, "MISTRAL_API_KEY": api_key}

    def codec(self) -> MistralCodec:
        """The reader of request lines and writer of result lines."""
        return MistralCodec()

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """Files, batch jobs and the endpoints of single answers."""
        api = _Api(state, gates, api_key)
        table: tuple[tuple[str, str, _Handler], ...] = (
            ("POST", "/v1/files", api.upload),
            ("GET", "/v1/files", api.list_files),
            ("GET", "/v1/files/{id}", api.file),
            ("GET", "/v1/files/{id}/content", api.download),
            ("DELETE", "/v1/files/{id}", api.delete_file),
            ("POST", "/v1/batch/jobs", api.create),
            ("GET", "/v1/batch/jobs", api.list_jobs),
            ("GET", "/v1/batch/jobs/{id}", api.status),
            ("DELETE", "/v1/batch/jobs/{id}", api.delete_job),
            ("POST", "/v1/batch/jobs/{id}/cancel", api.cancel),
            *(("POST", path, api.answer) for path in ANSWERED_ENDPOINTS),
        )
        return [Route(path, api.guarded(handler), methods=[method]) for method, path, handler in table]


_Handler = Callable[[Request], Awaitable[Response]]


class _Api:
    def __init__(self, state: ProviderState, gates: Gates, api_key: str) -> None:
        self._state, self._gates, self._api_key = state, gates, api_key

    def guarded(self, handler: _Handler) -> _Handler:
        """Check the key, turn refusals into error bodies: fields that are wrong have another shape."""

        async def endpoint(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self._api_key}":
                return as_json({"detail": "Unauthorized"}, 401)
            try:
                return await handler(request)
            except Refused as refused:
                status = refused.status or _STATUS[refused.reason]
                body: dict[str, Any] = error_object(status, refused.message)
                if status == 422:
                    place = ["body", *([refused.param] if refused.param else [])]
                    body = {"detail": [{"type": "value_error", "loc": place, "msg": refused.message}]}
                response = as_json(body, status)
                if refused.retry_after_s is not None:
                    response.headers["retry-after"] = str(refused.retry_after_s)
                return response

        return endpoint

    # -- files -----------------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        if await self._gates.cut_midway("upload", request):
            return Response(status_code=503)  # nobody reads it
        upload = await read_upload(request)

        def effect() -> Response:
            if upload.blob is None:
                raise Refused(Reason.INVALID, "Field required", param="file")
            if upload.text("purpose") != "batch":
                raise Refused(Reason.INVALID, "Only batches are spoken here.", param="purpose")
            if upload.blob.size_bytes > self._state.limits.max_file_bytes:
                raise Refused(Reason.INVALID, "The file is too large.", param="file")
            return as_json(file_object(self._state.add_file(upload.blob, name=upload.name, purpose="batch")))

        return await self._gates.perform("upload", request, effect)

    async def list_files(self, request: Request) -> Response:
        def effect() -> Response:
            files = [file_object(item) for item in self._state.files.values()][::-1]
            return as_json({"object": "list", "total": len(files), "data": files})

        return await self._gates.perform("list", request, effect)

    async def file(self, request: Request) -> Response:
        return as_json({**file_object(self._state.file(request.path_params["id"])), "deleted": False})

    async def download(self, request: Request) -> Response:
        def effect() -> Response:
            blob = self._state.download(request.path_params["id"]).blob
            response = content_response(blob, self._state.faults.on_content(), request)
            response.headers["content-type"] = "application/octet-stream"
            return response

        return await self._gates.perform("download", request, effect)

    async def delete_file(self, request: Request) -> Response:
        def effect() -> Response:
            file_id = request.path_params["id"]
            self._state.delete_file(file_id)
            return as_json({"object": "file", "deleted": True, "id": file_id})

        return await self._gates.perform("delete", request, effect)

    # -- batch jobs ------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        body = orjson.loads(await request.body() or b"{}")

        def effect() -> Response:
            files, metadata = body.get("input_files"), body.get("metadata")
            if body.get("endpoint") not in ANSWERED_ENDPOINTS:
                raise Refused(Reason.INVALID, "Input should be an endpoint", param="endpoint")
            if not isinstance(files, list) or len(files) != 1:
                raise Refused(Reason.INVALID, "One file is spoken here.", param="input_files")
            if not isinstance(body.get("model"), str):
                raise Refused(Reason.INVALID, "Field required", param="model")
            if self._state.models is not None and body["model"] not in self._state.models:
                raise Refused(Reason.TOLD, f"Invalid model: {body['model']}", status=400)
            if not all(isinstance(value, str) for value in (metadata or {}).values()):
                raise Refused(Reason.INVALID, "Input should be a valid string", param="metadata")
            hours = body.get("timeout_hours", 24)
            if not isinstance(hours, int) or not 1 <= hours < 7 * 24:
                raise Refused(Reason.INVALID, "Input should be below seven days", param="timeout_hours")
            stored = self._state.file(files[0])
            batch = self._state.create_batch(
                stored.id,
                endpoint=f"{body['endpoint']} {body['model']}",
                window=f"{hours}h",
                metadata=metadata,
            )
            return as_json(job_object(batch))

        return await self._gates.perform("create", request, effect)

    async def list_jobs(self, request: Request) -> Response:
        query = request.query_params
        # A map in a query is its pairs, as the SDK writes it; whether the service reads it so is UNVERIFIED.
        wanted = {name: value for name, value in query.items() if name not in _FILTERS}
        states = query.getlist("status")
        after = datetime.fromisoformat(query["created_after"]) if "created_after" in query else None

        def shows(batch: Batch) -> bool:
            kept = batch.metadata or {}
            return (
                all(kept.get(name) == value for name, value in wanted.items())
                and (not states or status_word(batch) in states)
                and (after is None or batch.created_at >= after.timestamp())
                and query.get("model") in (None, batch.scan.model)
            )

        def effect() -> Response:
            page, size = int(query.get("page", "0")), int(query.get("page_size", "100"))
            jobs = [job_object(batch) for batch in self._state.listed(first_page=page == 0) if shows(batch)]
            if query.get("order_by") == "created":
                jobs.reverse()
            shown = jobs[page * size : (page + 1) * size]
            return as_json({"object": "list", "total": len(jobs), "data": shown})

        return await self._gates.perform("list", request, effect)

    async def status(self, request: Request) -> Response:
        def effect() -> Response:
            return as_json(job_object(self._state.poll(request.path_params["id"])))

        return await self._gates.perform("status", request, effect)

    async def cancel(self, request: Request) -> Response:
        def effect() -> Response:
            return as_json(job_object(self._state.cancel(request.path_params["id"])))

        return await self._gates.perform("cancel", request, effect)

    async def delete_job(self, request: Request) -> Response:
        job_id = request.path_params["id"]
        self._state.batch(job_id)
        del self._state.batches[job_id]
        return as_json({"id": job_id, "object": "batch", "deleted": True})

    # -- single answers --------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Response:
        body = orjson.loads(await request.body() or b"{}")
        reason = refusal(body, request.url.path)
        if "model" not in body:
            reason = "body.model: Field required"
        if reason is not None:
            return as_json(error_object(422, reason), 422)
        said, _ = respond(body, Fate.ANSWERED, self._state.writer.single())
        return as_json(said)


dialect = MistralDialect()
