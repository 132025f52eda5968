"""Anthropic's Message Batches over HTTP: requests in the create call, one stream of results, no names.

Facts: SDK anthropic 2.12.0 and the batch guide, copies of 2026-08. UNVERIFIED: the status of a cancel that
comes too late.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bulkrate.testing.blob import Blob
from bulkrate.testing.dialects.anthropic_lines import AnthropicCodec, as_asked, error_of, message_of, refusal
from bulkrate.testing.faults import Fate
from bulkrate.testing.gates import Gates
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, Limits, Phase, Reason, Refused
from bulkrate.testing.sending import content_response

LIMITS: Final = Limits(max_requests=100_000, max_file_bytes=256_000_000, one_file=True)
"""Per create call, as published 2026-08."""

ENDPOINT: Final = "/v1/messages"
_STATUS: Final[Mapping[Reason, int]] = {
    Reason.NOT_FOUND: 404,
    Reason.INVALID: 400,
    Reason.CONFLICT: 400,
    Reason.UNAVAILABLE: 529,
    Reason.RATE_LIMITED: 429,
    Reason.TOLD: 500,
}
_Handler = Callable[[Request], Awaitable[Response]]


class AnthropicDialect:
    """The dialect object: see ``bulkrate.testing.dialects``."""

    prefix = ""
    limits = LIMITS

    def codec(self) -> AnthropicCodec:
        """The reader of requests and writer of results."""
        return AnthropicCodec()

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """``/v1/messages`` and ``/v1/messages/batches``."""
        api = _Api(state, gates, api_key)
        batches = "/v1/messages/batches"
        table: tuple[tuple[str, str, _Handler], ...] = (
            ("POST", ENDPOINT, api.message),
            ("POST", batches, api.create),
            ("GET", batches, api.list_batches),
            ("GET", batches + "/{id}", api.status),
            ("POST", batches + "/{id}/cancel", api.cancel),
            ("GET", batches + "/{id}/results", api.results),
        )
        return [Route(path, api.guarded(handler), methods=[method]) for method, path, handler in table]


class _Api:
    def __init__(self, state: ProviderState, gates: Gates, api_key: str) -> None:
        self._state, self._gates, self._api_key = state, gates, api_key
        self._counted: dict[str, Counter[str]] = {}

    def guarded(self, handler: _Handler) -> _Handler:
        """Check the key and the version, turn refusals into error bodies."""

        async def endpoint(request: Request) -> Response:
            keys = (request.headers.get("x-api-key"), request.headers.get("authorization"))
            try:
                if self._api_key not in (keys[0], (keys[1] or "").removeprefix("Bearer ")):
                    return _json(error_of(401, "invalid x-api-key"), 401)
                if "anthropic-version" not in request.headers:
                    return _json(error_of(400, "anthropic-version: header is required"), 400)
                return await handler(request)
            except Refused as refused:
                status = refused.status or _STATUS[refused.reason]
                response = _json(error_of(status, refused.message), status)
                if refused.retry_after_s is not None:
                    response.headers["retry-after"] = str(refused.retry_after_s)
                return response

        return endpoint

    async def message(self, request: Request) -> Response:
        params = json.loads(await request.body())
        why = refusal(as_asked(params), self._state.models)
        if why is not None:
            raise Refused(Reason.INVALID, why)
        return _json(message_of(params, Fate.ANSWERED, self._state.writer.single())[0])

    async def create(self, request: Request) -> Response:
        # The requests travel in this call: an upload that is cut is a create that is cut.
        if await self._gates.cut_midway("upload", request):
            return Response(status_code=503)  # nobody reads it
        raw = await request.body()

        def effect() -> Response:
            if len(raw) > self._state.limits.max_file_bytes:
                raise Refused(Reason.TOLD, "Request exceeds the maximum size", status=413)
            try:
                requests = orjson.loads(raw)["requests"]
                lines = [orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in requests]
            except (orjson.JSONDecodeError, KeyError, TypeError):
                raise Refused(Reason.INVALID, "The request body is not valid JSON") from None
            return _json(self._object(self._created(Blob(lines)), request.base_url))

        return await self._gates.perform("create", request, effect)

    def _created(self, blob: Blob) -> Batch:
        found = self._state.scanned(blob, ENDPOINT)
        if found.errors:
            error = found.errors[0]
            status = 413 if error.code == "request_too_large" else 400
            raise Refused(Reason.TOLD, error.message, status=status)
        stored = self._state.add_file(blob, name="requests", purpose="inline")
        try:
            return self._state.create_batch(stored.id, endpoint=ENDPOINT, window="24h")
        finally:
            # Nobody ever sees this file.
            self._state.delete_file(stored.id)

    async def list_batches(self, request: Request) -> Response:
        query = request.query_params

        def effect() -> Response:
            shown = self._state.listed(first_page="after_id" not in query)
            if "after_id" not in query:
                # Nobody polls a batch that is waited for by looking at the list: it must end all the same.
                for batch in shown:
                    self._state.step(batch)
            ids = [batch.id for batch in shown]
            begin = ids.index(query["after_id"]) + 1 if query.get("after_id") in ids else 0
            page = shown[begin : begin + int(query.get("limit", 20))]
            more = begin + len(page) < len(shown)
            data = [self._object(batch, request.base_url) for batch in page]
            first, last = (page[0].id, page[-1].id) if page else (None, None)
            return _json({"data": data, "has_more": more, "first_id": first, "last_id": last})

        return await self._gates.perform("list", request, effect)

    async def status(self, request: Request) -> Response:
        def effect() -> Response:
            return _json(self._object(self._state.poll(request.path_params["id"]), request.base_url))

        return await self._gates.perform("status", request, effect)

    async def cancel(self, request: Request) -> Response:
        def effect() -> Response:
            return _json(self._object(self._state.cancel(request.path_params["id"]), request.base_url))

        return await self._gates.perform("cancel", request, effect)

    async def results(self, request: Request) -> Response:
        def effect() -> Response:
            batch = self._state.batch(request.path_params["id"])
            if not batch.ended:
                raise Refused(Reason.NOT_FOUND, "The results are not available before processing has ended")
            blob = self._state.download(batch.output_file_id).blob if batch.output_file_id else Blob()
            return content_response(blob, self._state.content_faults(), request)

        return await self._gates.perform("download", request, effect)

    def _types(self, batch: Batch) -> Counter[str]:
        """How many results of an ended batch there are of each type."""
        if batch.id not in self._counted:
            name = batch.output_file_id
            lines = self._state.files[name].blob.lines() if name is not None else ()
            self._counted[batch.id] = Counter(map(_type_of, lines))
        return self._counted[batch.id]

    def _object(self, batch: Batch, base_url: object) -> dict[str, Any]:
        types = ("succeeded", "errored", "canceled", "expired")
        counts = {"processing": batch.scan.rows, **dict.fromkeys(types, 0)}
        if batch.ended:
            found = self._types(batch)
            counts = {"processing": 0, **{name: found[name] for name in types}}
            # A row that no line tells of counts as done, all the same.
            counts["succeeded"] += batch.scan.rows - sum(counts.values())
        word = "ended" if batch.ended else "canceling" if batch.phase is Phase.CANCELLING else "in_progress"
        ended_at = max(batch.at.values()) if batch.ended else None
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": batch.word or word,
            "request_counts": counts,
            "created_at": _time(batch.created_at),
            "expires_at": _time(batch.expires_at),
            "ended_at": _time(ended_at),
            "cancel_initiated_at": _time(batch.at.get(Phase.CANCELLING)),
            "archived_at": None,
            "results_url": f"{base_url}v1/messages/batches/{batch.id}/results" if batch.ended else None,
        }


def _type_of(line: bytes) -> str:
    try:
        return str(orjson.loads(line)["result"]["type"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "succeeded"  # a line that was damaged on its way


def _time(stamp: int | None) -> str | None:
    return None if stamp is None else datetime.fromtimestamp(stamp, UTC).isoformat()


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


dialect = AnthropicDialect()
