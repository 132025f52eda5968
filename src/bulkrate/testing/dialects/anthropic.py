"""Anthropic's Message Batches over HTTP: requests in the create call, one stream of results, no names.

Facts: SDK anthropic 2.12.0 and the batch guide, copies of 2026. UNVERIFIED: the status of a cancel that comes
too late, and of a delete that comes too early.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bulkrate.testing.blob import Blob
from bulkrate.testing.dialects.anthropic_lines import (
    TOO_LARGE,
    AnthropicCodec,
    error_of,
    message_of,
    refusal,
)
from bulkrate.testing.faults import Fate
from bulkrate.testing.gates import Gates
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, Limits, Phase, Reason, Refused
from bulkrate.testing.sending import content_response

LIMITS: Final = Limits(max_requests=100_000, max_file_bytes=256_000_000, one_file=True)
"""Per create call, as published 2026-08."""

MESSAGES: Final = "/v1/messages"
BATCHES: Final = "/v1/messages/batches"
_MOST_LISTED: Final = 1_000
_STATUS: Final[Mapping[Reason, int]] = {
    Reason.NOT_FOUND: 404,
    Reason.INVALID: 400,
    Reason.CONFLICT: 400,
    Reason.UNAVAILABLE: 529,
    Reason.RATE_LIMITED: 429,
    Reason.TOLD: 500,
}


class AnthropicDialect:
    """The dialect object: see ``bulkrate.testing.dialects``."""

    prefix = ""
    limits = LIMITS

    def env(self, base_url: str, api_key: str) -> dict[str, str]:
        """The environment that leads a client here."""
        return {"ANTHROPIC_BASE_URL": base_url, "ANTHROPIC_API_KEY": api_key}

    def codec(self) -> AnthropicCodec:
        """The reader of requests and writer of results."""
        return AnthropicCodec()

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """``/v1/messages`` and ``/v1/messages/batches``."""
        api = _Api(state, gates, api_key)
        table: tuple[tuple[str, str, _Handler], ...] = (
            ("POST", MESSAGES, api.message),
            ("POST", BATCHES, api.create),
            ("GET", BATCHES, api.list_batches),
            ("GET", BATCHES + "/{id}", api.status),
            ("DELETE", BATCHES + "/{id}", api.delete),
            ("POST", BATCHES + "/{id}/cancel", api.cancel),
            ("GET", BATCHES + "/{id}/results", api.results),
        )
        return [Route(path, api.guarded(handler), methods=[method]) for method, path, handler in table]


_Handler = Callable[[Request], Awaitable[Response]]


class _Api:
    def __init__(self, state: ProviderState, gates: Gates, api_key: str) -> None:
        self._state, self._gates, self._api_key = state, gates, api_key

    def guarded(self, handler: _Handler) -> _Handler:
        """Check the key and the version, turn refusals into error bodies."""

        async def endpoint(request: Request) -> Response:
            bearer = (request.headers.get("authorization") or "").removeprefix("Bearer ")
            try:
                if self._api_key not in (bearer, request.headers.get("x-api-key")):
                    raise Refused(Reason.TOLD, "invalid x-api-key", status=401)
                if "anthropic-version" not in request.headers:
                    raise Refused(Reason.INVALID, "anthropic-version: header is required")
                return await handler(request)
            except Refused as refused:
                status = refused.status or _STATUS[refused.reason]
                response = _json(error_of(status, refused.message), status)
                if refused.retry_after_s is not None:
                    response.headers["retry-after"] = str(refused.retry_after_s)
                return response

        return endpoint

    async def message(self, request: Request) -> Response:
        params = _json_object(await request.body())
        why = refusal(params, self._state.models)
        if why is not None:
            raise Refused(Reason.INVALID, why)
        return _json(message_of(params, Fate.ANSWERED, self._state.writer.single())[0])

    # -- batches ---------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        # The requests travel in this call: an upload that is cut is a create that is cut.
        if await self._gates.cut_midway("upload", request):
            return Response(status_code=503)  # nobody reads it
        raw = await request.body()

        def effect() -> Response:
            if len(raw) > self._state.limits.max_file_bytes:
                raise Refused(Reason.TOLD, "Request exceeds the maximum allowed number of bytes", status=413)
            requests = _json_object(raw).get("requests")
            if not isinstance(requests, list):
                raise Refused(Reason.INVALID, "requests: Field required")
            lines = [orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in requests]
            return _json(self._object(request, self._created(Blob(lines))))

        return await self._gates.perform("create", request, effect)

    def _created(self, blob: Blob) -> Batch:
        for error in self._state.scanned(blob, MESSAGES).errors:
            raise Refused(Reason.TOLD, error.message, status=413 if error.code == TOO_LARGE else 400)
        stored = self._state.add_file(blob, name="requests", purpose="inline")
        full = Refused(Reason.RATE_LIMITED, "Too many requests are waiting in the queue.", retry_after_s=60)
        try:
            batch = self._state.create_batch(stored.id, endpoint=MESSAGES, window="24h")
        except Refused:
            raise full from None
        finally:
            self._state.delete_file(stored.id)  # which nobody ever sees
        if batch.scan.errors:
            # No batch of this provider fails as a whole: a full queue is told at once.
            del self._state.batches[batch.id]
            raise full
        return batch

    async def list_batches(self, request: Request) -> Response:
        query = request.query_params
        limit, after = query.get("limit", "20"), query.get("after_id")

        def effect() -> Response:
            if not limit.isdecimal() or not 1 <= int(limit) <= _MOST_LISTED:
                raise Refused(Reason.INVALID, f"limit: must be between 1 and {_MOST_LISTED}")
            shown = self._state.listed(first_page=after is None)
            ids = [batch.id for batch in shown]
            if after is not None and after not in ids:
                raise Refused(Reason.INVALID, "after_id: no such batch")
            begin = 0 if after is None else ids.index(after) + 1
            page = shown[begin : begin + int(limit)]
            for batch in page:  # a batch goes on, whether its owner knows of it or not
                self._state.step(batch)
            return _json(
                {
                    "data": [self._object(request, batch) for batch in page],
                    "has_more": begin + len(page) < len(shown),
                    "first_id": page[0].id if page else None,
                    "last_id": page[-1].id if page else None,
                }
            )

        return await self._gates.perform("list", request, effect)

    async def status(self, request: Request) -> Response:
        def effect() -> Response:
            return _json(self._object(request, self._state.poll(request.path_params["id"])))

        return await self._gates.perform("status", request, effect)

    async def cancel(self, request: Request) -> Response:
        def effect() -> Response:
            return _json(self._object(request, self._state.cancel(request.path_params["id"])))

        return await self._gates.perform("cancel", request, effect)

    async def delete(self, request: Request) -> Response:
        def effect() -> Response:
            batch = self._state.batch(request.path_params["id"])
            if not batch.ended:
                raise Refused(Reason.CONFLICT, "A batch can be deleted when its processing has ended.")
            del self._state.batches[batch.id]
            return _json({"id": batch.id, "type": "message_batch_deleted"})

        return await self._gates.perform("delete", request, effect)

    async def results(self, request: Request) -> Response:
        def effect() -> Response:
            batch = self._state.batch(request.path_params["id"])
            if not batch.ended:
                raise Refused(Reason.NOT_FOUND, "No results are available before processing has ended.")
            blob = self._state.download(batch.output_file_id).blob if batch.output_file_id else Blob()
            return content_response(blob, self._state.faults.on_content(), request)

        return await self._gates.perform("download", request, effect)

    def _object(self, request: Request, batch: Batch) -> dict[str, Any]:
        phase, ended, here = batch.phase, batch.ended, request.base_url
        word = "ended" if ended else "canceling" if phase is Phase.CANCELLING else "in_progress"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": batch.word or word,
            "request_counts": _counts(batch),
            "created_at": _time(batch.created_at),
            "expires_at": _time(batch.expires_at),
            "ended_at": _time(batch.at.get(phase)) if ended else None,
            "cancel_initiated_at": _time(batch.at.get(Phase.CANCELLING)),
            "archived_at": None,
            "results_url": f"{here}{BATCHES.removeprefix('/')}/{batch.id}/results" if ended else None,
        }


def _counts(batch: Batch) -> dict[str, int]:
    """Nothing but `processing` until the end; a row that no line tells of counts as done, all the same."""
    rows = batch.scan.rows
    if not batch.ended:
        return {"processing": rows, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    unrun = rows - batch.done - batch.failed
    cancelled = batch.phase is Phase.CANCELLED
    return {
        "processing": 0,
        "succeeded": batch.done,
        "errored": batch.failed,
        "canceled": unrun if cancelled else 0,
        "expired": 0 if cancelled else unrun,
    }


def _time(stamp: int | None) -> str | None:
    return None if stamp is None else datetime.fromtimestamp(stamp, UTC).isoformat()


def _json_object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refused(Reason.INVALID, "The request body is not valid JSON")
    return body


def _json(document: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(document), status, media_type="application/json")


dialect = AnthropicDialect()
