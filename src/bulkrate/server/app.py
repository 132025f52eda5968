"""The HTTP face: OpenAI's Files, Batches, Models, Chat Completions and Embeddings over a `BatchProcessor`."""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import anyio.to_thread
import orjson
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bulkrate.server import answers, wire
from bulkrate.server.answers import Calibration
from bulkrate.server.api_error import ApiError, invalid, missing
from bulkrate.server.calls import CHAT, EMBEDDINGS, endpoints, read_call
from bulkrate.server.processor import BatchProcessor
from bulkrate.server.records import BatchRecord

if TYPE_CHECKING:
    from starlette.types import Message, Receive

MAX_FILE_BYTES = 200_000_000
"""Per upload, OpenAI's limit (decimal megabytes; Batch guide, 2026-11)."""
MAX_BODY_BYTES = 16_000_000
"""Per JSON body."""
_FORM_BYTES = 65_536  # what a multipart form adds to its file
_READ_BYTES = 1 << 20

Handler = Callable[[Request], Awaitable[Response]]


def make_app(
    processor: BatchProcessor,
    *,
    api_key: str | None = None,
    instance: str = "",
    max_file_bytes: int = MAX_FILE_BYTES,
    on_request: Callable[[], None] = lambda: None,
) -> Starlette:
    """The ASGI application. `instance` is what /healthz answers with, so that a finder knows who it found;
    `on_request` is called at the beginning of each request."""
    api = _Api(processor, api_key, instance, max_file_bytes, on_request)
    table: tuple[tuple[str, str, Handler], ...] = (
        ("POST", "/v1/files", api.upload),
        ("GET", "/v1/files", api.list_files),
        ("GET", "/v1/files/{id}", api.file),
        ("DELETE", "/v1/files/{id}", api.delete_file),
        ("GET", "/v1/files/{id}/content", api.content),
        ("POST", "/v1/batches", api.create),
        ("GET", "/v1/batches", api.list_batches),
        ("GET", "/v1/batches/{id}", api.batch),
        ("POST", "/v1/batches/{id}/cancel", api.cancel),
        ("GET", "/v1/models", api.models),
        ("GET", "/v1/models/{id}", api.model),
        ("POST", CHAT, api.ask),
        ("POST", EMBEDDINGS, api.ask),
    )
    routes = [Route(path, api.guarded(handler), methods=[method]) for method, path, handler in table]
    routes.append(Route("/healthz", api.open_to_all(api.health)))
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_such_route, Exception: _broken})


class _Api:
    def __init__(
        self,
        processor: BatchProcessor,
        api_key: str | None,
        instance: str,
        max_file_bytes: int,
        on_request: Callable[[], None],
    ) -> None:
        self._processor = processor
        self._api_key, self._instance = api_key, instance
        self._max_file_bytes = max_file_bytes
        self._on_request = on_request

    def guarded(self, handler: Handler) -> Handler:
        """Check the key, turn refusals into error bodies, stamp the request id."""

        async def checked(request: Request) -> Response:
            if self._api_key is not None:
                given = request.headers.get("authorization", "").removeprefix("Bearer ")
                if not hmac.compare_digest(given.encode(), self._api_key.encode()):
                    raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")
            return await handler(request)

        return self.open_to_all(checked)

    def open_to_all(self, handler: Handler) -> Handler:
        """The same without a key."""

        async def endpoint(request: Request) -> Response:
            self._on_request()
            try:
                response = await handler(request)
            except ApiError as error:
                response = _json(error.body(), error.status)
                # The SDKs resend a 409 by default; this one will not change.
                response.headers["x-should-retry"] = "true" if error.status >= 500 else "false"
            response.headers["x-request-id"] = f"req_{secrets.token_hex(16)}"
            return response

        return endpoint

    # --- files ---

    async def upload(self, request: Request) -> Response:
        form_request = Request(request.scope, _limited(request.receive, self._max_file_bytes + _FORM_BYTES))
        async with form_request.form(max_files=1, max_fields=8) as form:
            upload, purpose = form.get("file"), form.get("purpose")
            if not isinstance(upload, UploadFile):
                raise missing("file")
            if not isinstance(purpose, str):
                raise missing("purpose")
            if purpose != "batch":
                raise invalid("purpose", "this server keeps files of purpose 'batch' only")
            filename = upload.filename or "upload"
            if not filename.endswith(".jsonl"):
                raise ApiError(400, "Invalid file format for Batch API. Must be .jsonl")
            if (upload.size or 0) > self._max_file_bytes:
                raise _too_large()
            expiry = {key: form.get(f"expires_after[{key}]") for key in ("anchor", "seconds")}
            life = wire.life_s(expiry if expiry["seconds"] else None, "expires_after")
            receive = partial(
                self._processor.files.receive,
                upload.file,
                file_id=f"file-{secrets.token_hex(16)}",
                filename=filename,
                purpose=purpose,
                now=int(self._processor.now()),
                life_s=life,
            )
            return _json(wire.file_object(await anyio.to_thread.run_sync(receive)))

    async def list_files(self, request: Request) -> Response:
        query = request.query_params
        records = [
            item for item in self._processor.files.all() if query.get("purpose") in (None, item.purpose)
        ]
        if query.get("order", "desc") == "desc":
            records.reverse()
        return _json(
            wire.page(
                records,
                query,
                identify=lambda item: item.id,
                render=wire.file_object,
                default=10_000,
                most=10_000,
            )
        )

    async def file(self, request: Request) -> Response:
        return _json(wire.file_object(self._processor.files.get(request.path_params["id"])))

    async def delete_file(self, request: Request) -> Response:
        file_id = request.path_params["id"]
        await anyio.to_thread.run_sync(self._processor.files.delete, file_id)
        return _json({"id": file_id, "object": "file", "deleted": True})

    async def content(self, request: Request) -> Response:
        file_id = request.path_params["id"]
        record = self._processor.files.get(file_id)
        return StreamingResponse(
            _stream(self._processor.files.open(file_id)),
            headers={"content-length": str(record.size_bytes)},
            media_type="application/octet-stream",
        )

    # --- batches ---

    async def create(self, request: Request) -> Response:
        call = wire.read_create(await _body(request), endpoints(self._processor.engine.kinds))
        return _json(self._object(await anyio.to_thread.run_sync(self._processor.create, call)))

    async def list_batches(self, request: Request) -> Response:
        await anyio.to_thread.run_sync(self._processor.tick)
        return _json(
            wire.page(
                self._processor.batches.all()[::-1],
                request.query_params,
                identify=lambda item: item.id,
                render=self._object,
                default=20,
                most=100,
            )
        )

    async def batch(self, request: Request) -> Response:
        self._processor.batches.get(request.path_params["id"])
        await anyio.to_thread.run_sync(self._processor.tick)
        return _json(self._object(self._processor.batches.get(request.path_params["id"])))

    async def cancel(self, request: Request) -> Response:
        cancel = partial(self._processor.cancel, request.path_params["id"])
        return _json(self._object(await anyio.to_thread.run_sync(cancel)))

    def _object(self, record: BatchRecord) -> dict[str, Any]:
        return wire.batch_object(record, self._processor.tally(record))

    # --- models and single requests ---

    async def models(self, _request: Request) -> Response:
        return _json({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self._check_model(request.path_params["id"])
        return _json(self._model())

    async def ask(self, request: Request) -> Response:
        if request.url.path not in endpoints(self._processor.engine.kinds):
            model = self._processor.engine.model
            raise ApiError(404, f"The model '{model}' is not served at {request.url.path}.")
        call = read_call(request.url.path, await _body(request))
        self._check_model(call.model)
        answer_id = secrets.token_hex(16)
        reply = self._processor.ask(call, answer_id)
        waiting = asyncio.wrap_future(reply)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            both: set[asyncio.Future[Any]] = {waiting, gone}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not waiting.done():
                self._processor.dispatcher.cancel(answer_id)
        if not waiting.done():
            return Response(status_code=499)  # nobody reads it
        entry = answers.from_engine(waiting.result(), call, int(self._processor.now()))
        if error := entry.get("error"):
            raise ApiError(error["status"], error["message"], code=error["code"], kind=error["type"])
        calibration = Calibration("none") if "scores" in entry else None
        return _json(
            answers.completion(entry, answer_id=answer_id, model=call.model, calibration=calibration)
        )

    def _model(self) -> dict[str, Any]:
        engine = self._processor.engine
        return wire.model_object(engine.model, engine.context_window)

    def _check_model(self, name: str) -> None:
        if name != self._processor.engine.model:
            message = f"The model does not exist; this server serves '{self._processor.engine.model}'."
            raise ApiError(404, message, code="model_not_found", param="model")

    async def health(self, _request: Request) -> Response:
        engine = self._processor.engine
        status = "ok" if self._processor.failure is None else "failed"
        body = {"status": status, "model": engine.model, "instance": self._instance}
        return _json(body, 200 if status == "ok" else 503)


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


async def _no_such_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"Invalid URL ({request.method} {request.url.path})" if status == 404 else "Not allowed."
    return _json(ApiError(status, message).body(), status)


async def _broken(_request: Request, _error: Exception) -> Response:
    message = "The server had an error while processing your request."
    return _json(ApiError(500, message, code="server_error", kind="server_error").body(), 500)


async def _body(request: Request) -> dict[str, Any]:
    limited = Request(request.scope, _limited(request.receive, MAX_BODY_BYTES))
    try:
        body = orjson.loads(await limited.body())
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise ApiError(400, "We could not parse the JSON body of your request.")
    return body


def _too_large() -> ApiError:
    return ApiError(413, "File is too large.", code="file_too_large", param="file")


def _limited(receive: Receive, limit_bytes: int) -> Receive:
    """`receive` that refuses a body over the limit as soon as it is."""
    left = limit_bytes

    async def counted() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise _too_large()
        return message

    return counted


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _stream(file: BinaryIO) -> AsyncIterator[bytes]:
    with file:
        while chunk := await anyio.to_thread.run_sync(file.read, _READ_BYTES):
            yield chunk
