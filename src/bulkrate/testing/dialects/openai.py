"""OpenAI's Files and Batches over HTTP: objects, errors, lists and uploads in the service's shapes.

Facts: SDK openai 3.54 (types of files and batches) and the Batch guide, read 2026-11; what those leave
open is marked UNVERIFIED.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from bulkrate.testing.blob import Blob
from bulkrate.testing.dialects.openai_lines import ANSWERED_ENDPOINTS, OpenAICodec
from bulkrate.testing.gates import Gates
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, Limits, Phase, Reason, Refused, StoredFile

LIMITS: Final = Limits(max_requests=50_000, max_file_bytes=200_000_000, max_embedding_inputs=50_000)
"""Per input file, as published 2026-11; the size counts decimal megabytes (observed by a client, 2025)."""

DEFAULT_MODELS: Final = ("gpt-4o-mini", "gpt-5-mini", "text-embedding-3-small")
"""What ``GET /v1/models`` lists when the provider accepts any model."""

_STATUS: Final[Mapping[Reason, int]] = {
    Reason.NOT_FOUND: 404,
    Reason.INVALID: 400,
    Reason.CONFLICT: 409,
    Reason.UNAVAILABLE: 503,
}
_TIMES: Final = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_FILE_LIFE_S: Final = 30 * 86_400
_EXPIRY_S: Final = range(3_600, 2_592_001)
_METADATA_PAIRS, _METADATA_KEY, _METADATA_VALUE = 16, 64, 512

Item = TypeVar("Item")


class OpenAIDialect:
    """The dialect object: see ``bulkrate.testing.dialects``."""

    prefix = "/v1"
    limits = LIMITS

    def codec(self) -> OpenAICodec:
        """The reader of request lines and writer of result lines."""
        return OpenAICodec()

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """``/v1/files``, ``/v1/batches`` and ``/v1/models``."""
        api = _Api(state, gates, api_key)
        table: tuple[tuple[str, str, _Handler], ...] = (
            ("POST", "/v1/files", api.upload),
            ("GET", "/v1/files", api.list_files),
            ("GET", "/v1/files/{id}", api.file),
            ("GET", "/v1/files/{id}/content", api.download),
            ("DELETE", "/v1/files/{id}", api.delete_file),
            ("POST", "/v1/batches", api.create),
            ("GET", "/v1/batches", api.list_batches),
            ("GET", "/v1/batches/{id}", api.status),
            ("POST", "/v1/batches/{id}/cancel", api.cancel),
            ("GET", "/v1/models", api.models),
        )
        return [Route(path, api.guarded(handler), methods=[method]) for method, path, handler in table]


_Handler = Callable[[Request], Awaitable[Response]]


class _Api:
    def __init__(self, state: ProviderState, gates: Gates, api_key: str) -> None:
        self._state, self._gates, self._api_key = state, gates, api_key
        self._requests = 0

    def guarded(self, handler: _Handler) -> _Handler:
        """Check the key, turn refusals into error bodies, stamp the request id."""

        async def endpoint(request: Request) -> Response:
            self._requests += 1
            try:
                if request.headers.get("authorization") != f"Bearer {self._api_key}":
                    response = _error(401, "Incorrect API key provided.", code="invalid_api_key")
                else:
                    response = await handler(request)
            except Refused as refused:
                status = _STATUS[refused.reason]
                response = _error(status, refused.message, param=refused.param, code=refused.code)
            response.headers["x-request-id"] = f"req_{self._requests:032x}"
            response.headers["openai-version"] = "2020-10-01"
            return response

        return endpoint

    # -- files -----------------------------------------------------------------------------------------

    async def upload(self, request: Request) -> Response:
        form = await request.form()
        upload, purpose = form.get("file"), form.get("purpose")
        blob = Blob()
        if isinstance(upload, UploadFile):
            while chunk := await upload.read(1 << 20):
                blob.append(chunk)
        name = upload.filename or "" if isinstance(upload, UploadFile) else ""
        expiry = {key: form.get(f"expires_after[{key}]") for key in ("anchor", "seconds")}
        await form.close()

        def effect() -> Response:
            if not isinstance(upload, UploadFile):
                raise _missing("file")
            if not isinstance(purpose, str):
                raise _missing("purpose")
            if blob.size_bytes > self._state.limits.max_file_bytes:
                raise Refused(Reason.INVALID, "File is too large.")
            if purpose == "batch" and not name.endswith(".jsonl"):
                message = "Invalid file format for Batch API. Must be .jsonl"
                raise Refused(Reason.INVALID, message)
            stored = self._state.add_file(blob, name=name, purpose=purpose)
            life_s = _seconds(expiry) if expiry["seconds"] else _FILE_LIFE_S if purpose == "batch" else None
            stored.expires_at = None if life_s is None else stored.created_at + life_s
            return _json(_file_object(stored))

        return await self._gates.perform("upload", request, effect)

    async def list_files(self, request: Request) -> Response:
        purpose = request.query_params.get("purpose")

        def effect() -> Response:
            files = [item for item in self._state.files.values() if purpose in (None, item.purpose)]
            newest_first = request.query_params.get("order", "desc") == "desc"
            ordered = files[::-1] if newest_first else files
            return _page(request, ordered, lambda item: item.id, _file_object, most=10_000, default=10_000)

        return await self._gates.perform("list", request, effect)

    async def file(self, request: Request) -> Response:
        return _json(_file_object(self._state.file(request.path_params["id"])))

    async def download(self, request: Request) -> Response:
        def effect() -> Response:
            blob = self._state.download(request.path_params["id"]).blob
            headers = {"content-length": str(blob.size_bytes)}
            return StreamingResponse(_stream(blob), headers=headers, media_type="application/octet-stream")

        return await self._gates.perform("download", request, effect)

    async def delete_file(self, request: Request) -> Response:
        def effect() -> Response:
            file_id = request.path_params["id"]
            self._state.delete_file(file_id)
            return _json({"object": "file", "deleted": True, "id": file_id})

        return await self._gates.perform("delete", request, effect)

    # -- batches ---------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        body = _json_object(await request.body())

        def effect() -> Response:
            self._check_create(body)
            window = body["completion_window"]
            batch = self._state.create_batch(
                body["input_file_id"], endpoint=body["endpoint"], window=window, metadata=body.get("metadata")
            )
            return _json(_batch_object(batch))

        return await self._gates.perform("create", request, effect)

    async def list_batches(self, request: Request) -> Response:
        def effect() -> Response:
            newest = list(self._state.batches)[::-1]
            return _page(
                request,
                [self._state.batch(batch_id) for batch_id in newest],
                lambda item: item.id,
                _batch_object,
                most=100,
                default=20,
            )

        return await self._gates.perform("list", request, effect)

    async def status(self, request: Request) -> Response:
        def effect() -> Response:
            return _json(_batch_object(self._state.poll(request.path_params["id"])))

        return await self._gates.perform("status", request, effect)

    async def cancel(self, request: Request) -> Response:
        def effect() -> Response:
            return _json(_batch_object(self._state.cancel(request.path_params["id"])))

        return await self._gates.perform("cancel", request, effect)

    async def models(self, _request: Request) -> Response:
        names = DEFAULT_MODELS if self._state.models is None else self._state.models
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "misbehaving"} for name in names]
        return _json({"object": "list", "data": data})

    def _check_create(self, body: Mapping[str, Any]) -> None:
        for name in ("input_file_id", "endpoint", "completion_window"):
            if not isinstance(body.get(name), str):
                raise _missing(name)
        if body["endpoint"] not in ANSWERED_ENDPOINTS:
            known = ", ".join(ANSWERED_ENDPOINTS)
            message = f"Invalid value: '{body['endpoint']}'. Supported values are: {known}."
            raise Refused(Reason.INVALID, message, param="endpoint", code="invalid_value")
        if body["completion_window"] != "24h":
            message = f"Invalid value: '{body['completion_window']}'. Supported values are: '24h'."
            raise Refused(Reason.INVALID, message, param="completion_window", code="invalid_value")
        _check_metadata(body.get("metadata"))
        expiry = body.get("output_expires_after")
        if expiry is not None:
            _seconds(expiry)
        stored = self._state.files.get(body["input_file_id"])
        if stored is None:
            message = (
                f"Cannot find file {body['input_file_id']}, or project proj_misbehaving "
                "does not have access to it."
            )
            raise Refused(Reason.INVALID, message)
        if stored.purpose != "batch":
            message = f"Invalid file purpose '{stored.purpose}': must be 'batch'."
            raise Refused(Reason.INVALID, message, param="input_file_id")


def _check_metadata(metadata: Any) -> None:
    def invalid(message: str) -> Refused:
        return Refused(
            Reason.INVALID, f"Invalid 'metadata': {message}", param="metadata", code="invalid_value"
        )

    if metadata is None:
        return
    if not isinstance(metadata, dict):
        raise invalid("expected an object.")
    if len(metadata) > _METADATA_PAIRS:
        raise invalid(f"too many properties. Expected at most {_METADATA_PAIRS}.")
    for key, value in metadata.items():
        if len(key) > _METADATA_KEY:
            raise invalid(f"key too long. Expected at most {_METADATA_KEY} characters.")
        if not isinstance(value, str):
            raise invalid(f"expected a string for '{key}'.")
        if len(value) > _METADATA_VALUE:
            raise invalid(f"string too long for '{key}'. Expected at most {_METADATA_VALUE} characters.")


def _seconds(expiry: Any) -> int:
    """The seconds of an ``expires_after`` object."""
    anchor, seconds = (
        (expiry.get("anchor"), expiry.get("seconds")) if isinstance(expiry, dict) else (None, None)
    )
    if anchor != "created_at" or not str(seconds).isdecimal() or int(str(seconds)) not in _EXPIRY_S:
        message = "Invalid expiry: anchor must be 'created_at', seconds between 3600 and 2592000."
        raise Refused(Reason.INVALID, message, code="invalid_value")
    return int(str(seconds))


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refused(Reason.INVALID, "We could not parse the JSON body of your request.")
    return body


def _missing(name: str) -> Refused:
    message = f"Missing required parameter: '{name}'."
    return Refused(Reason.INVALID, message, param=name, code="missing_required_parameter")


def _page(
    request: Request,
    items: Sequence[Item],
    identify: Callable[[Item], str],
    render: Callable[[Item], dict[str, Any]],
    *,
    most: int,
    default: int,
) -> Response:
    """One page of a list, in the order given, after the id in ``after``."""
    limit, after = request.query_params.get("limit", str(default)), request.query_params.get("after")
    if not limit.isdecimal() or not 1 <= int(limit) <= most:
        message = f"Invalid 'limit': expected an integer between 1 and {most}."
        raise Refused(Reason.INVALID, message, param="limit", code="invalid_value")
    start = 0
    if after is not None:
        start = next((place for place, item in enumerate(items, 1) if identify(item) == after), 0)
        if not start:  # UNVERIFIED: what the real list says to a cursor it does not know
            raise Refused(Reason.INVALID, f"No such cursor: {after}", param="after")
    page = items[start : start + int(limit)]
    return _json(
        {
            "object": "list",
            "data": [render(item) for item in page],
            "first_id": identify(page[0]) if page else None,
            "last_id": identify(page[-1]) if page else None,
            "has_more": start + len(page) < len(items),
        }
    )


def _file_object(stored: StoredFile) -> dict[str, Any]:
    return {
        "object": "file",
        "id": stored.id,
        "purpose": stored.purpose,
        "filename": stored.name,
        "bytes": stored.blob.size_bytes,
        "created_at": stored.created_at,
        "expires_at": stored.expires_at,
        "status": "processed",
        "status_details": None,
    }


def _batch_object(batch: Batch) -> dict[str, Any]:
    usage, errors = batch.usage, None
    if batch.phase is Phase.FAILED:
        data = [
            {"code": item.code, "message": item.message, "param": item.param, "line": item.line}
            for item in batch.scan.errors
        ]
        errors = {"object": "list", "data": data}
    # On a clean batch the real one says "" for the absent error file and null for an absent output file
    # (live probe of 2026-07; issue of 2026-03).
    no_error_file = "" if batch.phase is Phase.COMPLETED else None
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.scan.model or None,
        "errors": errors,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.window,
        "status": str(batch.phase),
        "output_file_id": batch.output_file_id,
        "error_file_id": batch.error_file_id or no_error_file,
        "created_at": batch.created_at,
        "expires_at": batch.expires_at,
        **{f"{word}_at": batch.at.get(Phase(word)) for word in _TIMES},
        "request_counts": {"total": batch.rows, "completed": batch.done, "failed": batch.failed},
        "usage": usage
        and {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
        "metadata": batch.metadata,
    }


def _error(status: int, message: str, *, param: str | None = None, code: str | None = None) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return _json({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


async def _stream(blob: Blob) -> AsyncIterator[bytes]:
    # Asynchronous, so that the event loop reads: a plain iterator would be read by a pool of threads.
    for chunk in blob.chunks():
        yield chunk


def _json(value: Mapping[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")


dialect = OpenAIDialect()
