"""OpenAI's Files and Batches over HTTP: objects, errors, lists and uploads in the service's shapes.

Facts: SDK openai 3.54 (types of files and batches) and the Batch guide, read 2026-11; what those leave
open is marked UNVERIFIED.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bulkrate.testing.dialects.openai_lines import ANSWERED_ENDPOINTS, OpenAICodec, refusal_of
from bulkrate.testing.dialects.openai_objects import (
    as_json,
    batch_object,
    check_metadata,
    error_response,
    event_object,
    expiry_seconds,
    file_object,
    json_object,
    list_page,
    missing,
)
from bulkrate.testing.faults import Fate
from bulkrate.testing.gates import Gates
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, Limits, Reason, Refused
from bulkrate.testing.sending import content_response
from bulkrate.testing.uploads import read_upload

LIMITS: Final = Limits(max_requests=50_000, max_file_bytes=200_000_000, max_embedding_inputs=50_000)
"""Per input file, as published 2026-11; the size counts decimal megabytes (observed by a client, 2025)."""

DEFAULT_MODELS: Final = ("gpt-4o-mini", "gpt-5-mini", "text-embedding-3-small")
"""What ``GET /v1/models`` lists when the provider accepts any model."""

_STATUS: Final[Mapping[Reason, int]] = {
    Reason.NOT_FOUND: 404,
    Reason.INVALID: 400,
    Reason.CONFLICT: 409,
    Reason.UNAVAILABLE: 503,
    Reason.RATE_LIMITED: 429,
    Reason.TOLD: 500,
}
_FILE_LIFE_S: Final = 30 * 86_400


Handler = Callable[[Request], Awaitable[Response]]


class OpenAIApi:
    """The handlers. Servers that only resemble OpenAI's put other shapes around the same calls."""

    purpose = "batch"
    endpoints: Sequence[str] = ANSWERED_ENDPOINTS
    defaults: Mapping[str, Any] = MappingProxyType({})  # of a create call

    def __init__(self, state: ProviderState, gates: Gates, api_key: str) -> None:
        self._state, self._gates, self._api_key = state, gates, api_key
        self._requests = 0

    def guarded(self, handler: Handler) -> Handler:
        """Check the key, turn refusals into error bodies, stamp the request id."""

        async def endpoint(request: Request) -> Response:
            self._requests += 1
            try:
                response = self.turned_away(request) or await handler(request)
            except Refused as refused:
                status = refused.status or _STATUS[refused.reason]
                response = error_response(status, refused.message, param=refused.param, code=refused.code)
                if refused.retry_after_s is not None:
                    response.headers["retry-after"] = str(refused.retry_after_s)
            response.headers["x-request-id"] = f"req_{self._requests:032x}"
            response.headers["openai-version"] = "2020-10-01"
            return response

        return endpoint

    # -- files -----------------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        if await self._gates.cut_midway("upload", request):
            return Response(status_code=503)  # nobody reads it
        upload = await read_upload(request)
        purpose = upload.text("purpose")
        expiry = {key: upload.text(f"expires_after[{key}]") for key in ("anchor", "seconds")}

        def effect() -> Response:
            if upload.blob is None:
                raise missing("file")
            if purpose is None:
                raise missing("purpose")
            if upload.blob.size_bytes > self._state.limits.max_file_bytes:
                raise Refused(Reason.INVALID, "File is too large.")
            if purpose == self.purpose and not upload.name.endswith(".jsonl"):
                message = "Invalid file format for Batch API. Must be .jsonl"
                raise Refused(Reason.INVALID, message)
            stored = self._state.add_file(upload.blob, name=upload.name, purpose=purpose)
            life_s = (
                expiry_seconds(expiry)
                if expiry["seconds"]
                else _FILE_LIFE_S
                if purpose == self.purpose
                else None
            )
            stored.expires_at = None if life_s is None else stored.created_at + life_s
            return as_json(file_object(stored))

        return await self._gates.perform("upload", request, effect)

    async def list_files(self, request: Request) -> Response:
        purpose = request.query_params.get("purpose")

        def effect() -> Response:
            files = [item for item in self._state.files.values() if purpose in (None, item.purpose)]
            newest_first = request.query_params.get("order", "desc") == "desc"
            ordered = files[::-1] if newest_first else files
            return list_page(request, ordered, lambda item: item.id, file_object, most=10_000, default=10_000)

        return await self._gates.perform("list", request, effect)

    async def file(self, request: Request) -> Response:
        return as_json(file_object(self._state.file(request.path_params["id"])))

    async def download(self, request: Request) -> Response:
        def effect() -> Response:
            blob = self._state.download(request.path_params["id"]).blob
            return content_response(blob, self._state.faults.on_content(), request)

        return await self._gates.perform("download", request, effect)

    async def delete_file(self, request: Request) -> Response:
        def effect() -> Response:
            file_id = request.path_params["id"]
            self._state.delete_file(file_id)
            return as_json({"object": "file", "deleted": True, "id": file_id})

        return await self._gates.perform("delete", request, effect)

    # -- batches ---------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        body = {**self.defaults, **json_object(await request.body())}

        def effect() -> Response:
            self._check_create(body)
            window = body["completion_window"]
            batch = self._state.create_batch(
                body["input_file_id"], endpoint=body["endpoint"], window=window, metadata=body.get("metadata")
            )
            expiry = body.get("output_expires_after")
            batch.output_expires_s = None if expiry is None else expiry_seconds(expiry)
            return self.created(batch)

        return await self._gates.perform("create", request, effect)

    async def list_batches(self, request: Request) -> Response:
        def effect() -> Response:
            # A later page belongs to the list call of the first one.
            shown = self._state.listed(first_page="after" not in request.query_params)
            return self.listing(request, shown)

        return await self._gates.perform("list", request, effect)

    async def status(self, request: Request) -> Response:
        def effect() -> Response:
            return as_json(self.shown(self._state.poll(request.path_params["id"])))

        return await self._gates.perform("status", request, effect)

    async def cancel(self, request: Request) -> Response:
        def effect() -> Response:
            return as_json(self.shown(self._state.cancel(request.path_params["id"])))

        return await self._gates.perform("cancel", request, effect)

    # -- single answers --------------------------------------------------------------------------------

    async def answer(self, request: Request) -> Response:
        """One answer, at once."""
        return self.answered(request.url.path, json_object(await request.body()))

    def answered(self, url: str, body: Mapping[str, Any]) -> Response:
        """The answer to a body that is sent to ``url`` by itself."""
        refused = refusal_of(body, url)
        if refused is not None:
            return error_response(400, refused[0], param=refused[1])
        line = orjson.dumps({"custom_id": "", "url": url, "body": body})
        written, _ = self._state.codec.result(line, Fate.ANSWERED, self._state.writer.single())
        return as_json(orjson.loads(written)["response"]["body"])

    # -- shapes ----------------------------------------------------------------------------------------

    def turned_away(self, request: Request) -> Response | None:
        """The answer to a caller without the right key."""
        if request.headers.get("authorization") == f"Bearer {self._api_key}":
            return None
        return error_response(401, "Incorrect API key provided.", code="invalid_api_key")

    def shown(self, batch: Batch) -> dict[str, Any]:
        """A batch as an answer tells of it."""
        return batch_object(batch)

    def created(self, batch: Batch) -> Response:
        """The answer to a create call."""
        return as_json(self.shown(batch))

    def listing(self, request: Request, batches: Sequence[Batch]) -> Response:
        """The answer to a list call."""
        return list_page(request, batches, lambda item: item.id, self.shown, most=100, default=20)

    async def models(self, _request: Request) -> Response:
        names = DEFAULT_MODELS if self._state.models is None else self._state.models
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "misbehaving"} for name in names]
        return as_json({"object": "list", "data": data})

    def _check_create(self, body: Mapping[str, Any]) -> None:
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(body.get(name), str):
                raise missing(name)
        if body["endpoint"] not in self.endpoints:
            known = ", ".join(self.endpoints)
            message = f"Invalid value: '{body['endpoint']}'. Supported values are: {known}."
            raise Refused(Reason.INVALID, message, param="endpoint", code="invalid_value")
        if body["completion_window"] != "24h":
            message = f"Invalid value: '{body['completion_window']}'. Supported values are: '24h'."
            raise Refused(Reason.INVALID, message, param="completion_window", code="invalid_value")
        check_metadata(body.get("metadata"))
        expiry = body.get("output_expires_after")
        if expiry is not None:
            expiry_seconds(expiry)
        stored = self._state.files.get(body["input_file_id"])
        if stored is None:
            message = (
                f"Cannot find file {body['input_file_id']}, or project proj_misbehaving "
                "does not have access to it."
            )
            raise Refused(Reason.INVALID, message)
        if stored.purpose != self.purpose:
            message = f"Invalid file purpose '{stored.purpose}': must be '{self.purpose}'."
            raise Refused(Reason.INVALID, message, param="input_file_id")


class OpenAIShapedDialect:
    """A dialect of a server that resembles OpenAI's: see ``bulkrate.testing.dialects``."""

    prefix = "/v1"
    limits = LIMITS
    roots: Sequence[str] = ("/v1",)
    uploads_to = "/files"
    api: type[OpenAIApi] = OpenAIApi
    variables: str = "OPENAI"

    def env(self, base_url: str, api_key: str) -> dict[str, str]:
        """The environment that leads a client here."""
        return {f"{self.variables}_BASE_URL": base_url, f"{self.variables}_API_KEY": api_key}

    def codec(self) -> OpenAICodec:
        """The reader of request lines and writer of result lines."""
        return OpenAICodec()

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """Files, batches and models, below every root."""
        api = self.api(state, gates, api_key)
        table: tuple[tuple[str, str, Handler], ...] = (
            ("POST", self.uploads_to, api.upload),
            ("GET", "/files", api.list_files),
            ("GET", "/files/{id}", api.file),
            ("GET", "/files/{id}/content", api.download),
            ("DELETE", "/files/{id}", api.delete_file),
            ("POST", "/batches", api.create),
            ("GET", "/batches", api.list_batches),
            ("GET", "/batches/{id}", api.status),
            ("POST", "/batches/{id}/cancel", api.cancel),
            ("GET", "/models", api.models),
        )
        return [
            Route(f"{root}{path}", api.guarded(handler), methods=[method])
            for root in self.roots
            for method, path, handler in table
        ]


class OpenAIDialect(OpenAIShapedDialect):
    """OpenAI's own, which sends webhooks and answers single requests."""

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """Files, batches and models, and every endpoint of which a batch may be."""
        api = self.api(state, gates, api_key)
        answers = [Route(path, api.guarded(api.answer), methods=["POST"]) for path in ANSWERED_ENDPOINTS]
        return [*super().routes(state, gates, api_key), *answers]

    def event(self, batch: Batch) -> dict[str, Any]:
        """``batch.completed`` and its like."""
        return event_object(batch)


dialect = OpenAIDialect()
