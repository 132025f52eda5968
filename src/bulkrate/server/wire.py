"""OpenAI's objects of files, batches, models and lists, and its create call, as the server speaks them.

Shapes from SDK openai 3.54 (`types/batch*.py`, `types/file_*.py`), limits from the Batch guide, 2026-11.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bulkrate.server.answers import Tally
from bulkrate.server.api_error import invalid, missing
from bulkrate.server.batch_states import BatchState
from bulkrate.server.records import BatchRecord, FileRecord, window_s

_TIMES = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
_LIFE_S = range(3_600, 2_592_001)
_METADATA_PAIRS, _METADATA_KEY, _METADATA_VALUE = 16, 64, 512

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class CreateCall:
    """A `POST /v1/batches`, read."""

    input_file_id: str
    endpoint: str
    completion_window: str
    window_s: int
    metadata: dict[str, str] | None
    output_life_s: int | None


def read_create(body: Mapping[str, Any], endpoints: Sequence[str]) -> CreateCall:
    """Read a create call for one of `endpoints`. Raises ApiError 400."""
    for name in ("input_file_id", "endpoint", "completion_window"):
        if not isinstance(body.get(name), str):
            raise missing(name)
    if body["endpoint"] not in endpoints:
        raise invalid("endpoint", f"this server answers {' and '.join(map(repr, endpoints))} only")
    seconds = window_s(body["completion_window"])
    if seconds is None:
        raise invalid("completion_window", "expected '24h', or a number of d, h, m or s")
    return CreateCall(
        input_file_id=body["input_file_id"],
        endpoint=body["endpoint"],
        completion_window=body["completion_window"],
        window_s=seconds,
        metadata=_metadata(body.get("metadata")),
        output_life_s=life_s(body.get("output_expires_after"), "output_expires_after"),
    )


def life_s(value: Any, name: str) -> int | None:
    """The seconds of an `expires_after` object; None when there is none. Raises ApiError 400."""
    if value is None:
        return None
    anchor, seconds = (value.get("anchor"), value.get("seconds")) if isinstance(value, dict) else (None, None)
    if anchor != "created_at" or not str(seconds).isdecimal() or int(str(seconds)) not in _LIFE_S:
        raise invalid(name, "expected anchor 'created_at' and from 3600 to 2592000 seconds")
    return int(str(seconds))


def file_object(record: FileRecord) -> dict[str, Any]:
    """A file."""
    return {
        "id": record.id,
        "object": "file",
        "bytes": record.size_bytes,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "filename": record.filename,
        "purpose": record.purpose,
        "status": "processed",
        "status_details": None,
    }


def batch_object(record: BatchRecord, tally: Tally) -> dict[str, Any]:
    """A batch. Rows that never had their turn are in no count but the total, as OpenAI counts them."""
    errors = None
    if record.state is BatchState.FAILED:
        data = [
            {"code": item.code, "line": item.line, "message": item.message, "param": item.param}
            for item in record.problems
        ]
        errors = {"object": "list", "data": data}
    return {
        "id": record.id,
        "object": "batch",
        "endpoint": record.endpoint,
        "model": record.model,
        "errors": errors,
        "input_file_id": record.input_file_id,
        "completion_window": record.completion_window,
        "status": record.state.value,
        "output_file_id": record.output_file_id,
        "error_file_id": record.error_file_id,
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        **{f"{name}_at": record.times.get(name) for name in _TIMES},
        "request_counts": {"total": record.total, "completed": tally.completed, "failed": tally.failed},
        "usage": {
            "input_tokens": tally.input_tokens,
            "input_tokens_details": {"cached_tokens": tally.cached_tokens},
            "output_tokens": tally.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tally.input_tokens + tally.output_tokens,
        },
        "metadata": record.metadata,
    }


def model_object(model: str, context_window: int) -> dict[str, Any]:
    """The model; `context_window` (tokens) is our addition."""
    return {
        "id": model,
        "object": "model",
        "created": 0,
        "owned_by": "bulkrate",
        "context_window": context_window,
    }


def page(
    items: Sequence[Item],
    query: Mapping[str, str],
    *,
    identify: Callable[[Item], str],
    render: Callable[[Item], dict[str, Any]],
    default: int,
    most: int,
) -> dict[str, Any]:
    """One page of a list in the order given, after the id in `after`. Raises ApiError 400."""
    limit, after, start = query.get("limit", str(default)), query.get("after"), 0
    if not limit.isdecimal() or not 1 <= int(limit) <= most:
        raise invalid("limit", f"expected an integer from 1 to {most}")
    if after is not None:
        start = next((place for place, item in enumerate(items, 1) if identify(item) == after), 0)
        if not start:
            raise invalid("after", "no such object")
    chosen = items[start : start + int(limit)]
    return {
        "object": "list",
        "data": [render(item) for item in chosen],
        "first_id": identify(chosen[0]) if chosen else None,
        "last_id": identify(chosen[-1]) if chosen else None,
        "has_more": start + len(chosen) < len(items),
    }


def _metadata(value: Any) -> dict[str, str] | None:
    if value is None:
        return None
    if not isinstance(value, dict) or len(value) > _METADATA_PAIRS:
        raise invalid("metadata", f"expected an object of at most {_METADATA_PAIRS} strings")
    for key, text in value.items():
        if len(key) > _METADATA_KEY:
            raise invalid("metadata", f"a key is longer than {_METADATA_KEY} characters")
        if not isinstance(text, str) or len(text) > _METADATA_VALUE:
            raise invalid("metadata", f"expected strings of at most {_METADATA_VALUE} characters")
    return dict(value)
