"""OpenAI's objects in JSON: files, batches, lists, errors, and the checks of what a caller sends.

Facts: SDK openai 3.54 (types of files and batches) and the Batch guide, read 2026-11; what those leave
open is marked UNVERIFIED.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import orjson
from starlette.requests import Request
from starlette.responses import Response

from bulkrate.testing.records import Batch, Phase, Reason, Refused, StoredFile

_TIMES: Final = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_EXPIRY_S: Final = range(3_600, 2_592_001)
_METADATA_PAIRS, _METADATA_KEY, _METADATA_VALUE = 16, 64, 512

Item = TypeVar("Item")


def check_metadata(metadata: Any) -> None:
    """Refuse metadata over the published bounds."""

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


def expiry_seconds(expiry: Any) -> int:
    """The seconds of an ``expires_after`` object."""
    anchor, seconds = (
        (expiry.get("anchor"), expiry.get("seconds")) if isinstance(expiry, dict) else (None, None)
    )
    if anchor != "created_at" or not str(seconds).isdecimal() or int(str(seconds)) not in _EXPIRY_S:
        message = "Invalid expiry: anchor must be 'created_at', seconds between 3600 and 2592000."
        raise Refused(Reason.INVALID, message, code="invalid_value")
    return int(str(seconds))


def json_object(raw: bytes) -> dict[str, Any]:
    """The JSON object of a request body."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refused(Reason.INVALID, "We could not parse the JSON body of your request.")
    return body


def missing(name: str) -> Refused:
    """The refusal of a call without a parameter it needs."""
    message = f"Missing required parameter: '{name}'."
    return Refused(Reason.INVALID, message, param=name, code="missing_required_parameter")


def list_page(
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
    return as_json(
        {
            "object": "list",
            "data": [render(item) for item in page],
            "first_id": identify(page[0]) if page else None,
            "last_id": identify(page[-1]) if page else None,
            "has_more": start + len(page) < len(items),
        }
    )


def file_object(stored: StoredFile) -> dict[str, Any]:
    """A file as the service tells of it."""
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


def event_object(batch: Batch) -> dict[str, Any]:
    """What a webhook says of a batch that has ended (SDK openai 3.54, ``types/webhooks/batch_*``)."""
    return {
        "id": batch.id.replace("batch_", "evt_", 1),
        "object": "event",
        "type": f"batch.{batch.phase}",
        "created_at": batch.at[batch.phase],
        "data": {"id": batch.id},
    }


def batch_object(batch: Batch) -> dict[str, Any]:
    """A batch as the service tells of it."""
    usage, errors = batch.usage, None
    absent = "" if batch.empty_ids else None  # Azure's output_file_id just after create (docs, 2026)
    if batch.phase is Phase.FAILED:
        data = [
            {"code": item.code, "message": item.message, "param": item.param, "line": item.line}
            for item in batch.scan.errors
        ]
        errors = {"object": "list", "data": data}
    # On a clean batch the real one says "" for the absent error file and null for an absent output file
    # (live probe of 2026-07; issue of 2026-03).
    no_error_file = "" if batch.phase is Phase.COMPLETED else absent
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "model": batch.scan.model or None,
        "errors": errors,
        "input_file_id": batch.input_file_id,
        "completion_window": batch.window,
        "status": batch.word or str(batch.phase),
        "output_file_id": batch.output_file_id or absent,
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


def error_response(
    status: int, message: str, *, param: str | None = None, code: str | None = None
) -> Response:
    """An error in the service's shape."""
    kind = "server_error" if status >= 500 else "requests" if status == 429 else "invalid_request_error"
    return as_json({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


def as_json(value: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON response."""
    return Response(orjson.dumps(value), status, media_type="application/json")
