"""Mistral's objects in JSON: files, batch jobs, errors.

Facts: mistralai 3.7.0 (`models/batchjob.py`, `createfileresponse.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response

from bulkrate.testing.records import Batch, Phase, StoredFile

_STATES: Final = {
    Phase.VALIDATING: "QUEUED",
    Phase.IN_PROGRESS: "RUNNING",
    Phase.FINALIZING: "RUNNING",
    Phase.CANCELLING: "CANCELLATION_REQUESTED",
    Phase.COMPLETED: "SUCCESS",
    Phase.FAILED: "FAILED",
    Phase.EXPIRED: "TIMEOUT_EXCEEDED",
    Phase.CANCELLED: "CANCELLED",
}


def file_object(stored: StoredFile) -> dict[str, Any]:
    """A file as the service tells of it."""
    made = stored.purpose != "batch"
    return {
        "id": stored.id,
        "object": "file",
        "bytes": stored.blob.size_bytes,
        "created_at": stored.created_at,
        "filename": stored.name,
        "purpose": "batch",
        "sample_type": ("batch_error" if "error" in stored.name else "batch_result")
        if made
        else "batch_request",
        "source": "mistral" if made else "upload",
        "num_lines": stored.blob.line_count,
        "mimetype": "application/jsonl",
        "signature": None,
    }


def status_word(batch: Batch) -> str:
    """The status of a batch, in the service's words."""
    return (batch.word or "").upper() or _STATES[batch.phase]


def job_object(batch: Batch) -> dict[str, Any]:
    """A batch job as the service tells of it."""
    endpoint, _, model = batch.endpoint.partition(" ")
    absent = "" if batch.empty_ids else None
    errors = batch.scan.errors if batch.phase is Phase.FAILED else ()
    return {
        "id": batch.id,
        "object": "batch",
        "input_files": [batch.input_file_id],
        "endpoint": endpoint,
        "model": model,
        "agent_id": None,
        "metadata": batch.metadata,
        "errors": [{"message": error.message, "count": 1} for error in errors],
        "status": status_word(batch),
        "created_at": batch.created_at,
        "started_at": batch.at.get(Phase.IN_PROGRESS),
        "completed_at": batch.at.get(batch.phase) if batch.ended else None,
        "total_requests": batch.rows,
        "completed_requests": batch.done + batch.failed,
        "succeeded_requests": batch.done,
        "failed_requests": batch.failed,
        "output_file": batch.output_file_id or absent,
        "error_file": batch.error_file_id or absent,
        "outputs": None,
    }


def as_json(value: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON response."""
    return Response(orjson.dumps(value), status, media_type="application/json")
