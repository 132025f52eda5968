"""The Gemini API's objects in JSON: files, operations, errors.

Facts: google-genai 3.4.0, the batch-api page (copy of 2026), and operations quoted in public issues.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from starlette.responses import Response

from bulkrate.testing.dialects.google_lines import CHAT
from bulkrate.testing.records import Batch, Phase, Reason, Refused, StoredFile

NAMES: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}
QUOTA: Final = (
    "You exceeded your current quota, please check your plan and billing details. "
    "For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
)
# A file that is not there is "forbidden": nobody is to learn which files exist.
NO_FILE: Final = "You do not have permission to access the File or it may not exist."
_STATES: Final = {
    Phase.VALIDATING: "PENDING",
    Phase.IN_PROGRESS: "RUNNING",
    Phase.FINALIZING: "RUNNING",
    Phase.CANCELLING: "CANCELLING",
    Phase.COMPLETED: "SUCCEEDED",
    Phase.FAILED: "FAILED",
    Phase.EXPIRED: "EXPIRED",
    Phase.CANCELLED: "CANCELLED",
}


def file_name(stored: StoredFile) -> str:
    """A file's name; that of results is longer than the Files API itself can read."""
    mark = "batch-" if stored.purpose == "batch_output" else ""
    return f"files/{mark}{stored.id.removeprefix('file-')}"


def file_id(name: str) -> str:
    """Its id in the provider's state, from a name without ``files/``."""
    return "file-" + name.removeprefix("batch-")


def batch_name(batch: Batch) -> str:
    """A batch's name."""
    return f"batches/{batch.id.removeprefix('batch_')}"


def batch_id(name: str) -> str:
    """Its id in the provider's state, from a name without ``batches/``."""
    return f"batch_{name}"


def file_object(stored: StoredFile) -> dict[str, Any]:
    """A file as the service tells of it."""
    return {
        "name": file_name(stored),
        "displayName": stored.name,
        "mimeType": "application/jsonl",
        "sizeBytes": str(stored.blob.size_bytes),
        "createTime": moment(stored.created_at),
        "expirationTime": moment(stored.created_at + 172_800),
        "state": "ACTIVE",
        "source": "GENERATED" if stored.purpose == "batch_output" else "UPLOADED",
    }


def operation(batch: Batch, output: StoredFile | None) -> dict[str, Any]:
    """A batch as the service tells of it: a long-running operation."""
    method = batch.endpoint.partition(":")[2]
    kind = "GenerateContentBatch" if method == CHAT else "EmbedContentBatch"
    state = _STATES[batch.phase] if batch.word is None else batch.word.upper()
    if batch.phase is Phase.COMPLETED and batch.failed:
        state = "PARTIALLY_SUCCEEDED"
    # Both spellings are met in the wild: here they take turns, for the states that have both.
    both = state in _STATES.values() and state != "CANCELLING"
    prefix = "BATCH_STATE_" if both and batch.asked % 2 == 0 else "JOB_STATE_"
    results = {} if output is None else {"responsesFile": file_name(output)}
    counts = {
        "requestCount": batch.rows or batch.scan.rows,
        "successfulRequestCount": batch.done,
        "failedRequestCount": batch.failed,
        "pendingRequestCount": max((batch.rows or batch.scan.rows) - batch.done - batch.failed, 0),
    }
    at = batch.at.get(batch.phase, batch.created_at)
    told: dict[str, Any] = {
        "name": batch_name(batch),
        "metadata": {
            "@type": f"type.googleapis.com/google.ai.generativelanguage.v1main.{kind}",
            "model": f"models/{batch.scan.model}",
            "displayName": "-".join((batch.metadata or {}).values()),
            "inputConfig": {"fileName": f"files/{batch.input_file_id.removeprefix('file-')}"},
            **({"output": results} if results else {}),
            "createTime": moment(batch.created_at),
            "updateTime": moment(at),
            **({"endTime": moment(at)} if batch.ended else {}),
            # Whole numbers of 64 bits are texts, and zeros are left out.
            "batchStats": {name: str(count) for name, count in counts.items() if count},
            "state": prefix + state,
            "name": batch_name(batch),
        },
    }
    if not batch.ended:
        return told
    told["done"] = True
    match batch.phase:
        case Phase.COMPLETED:
            told["response"] = {
                "@type": "type.googleapis.com/google.ai.generativelanguage.v1main." + kind,
                **results,
            }
        case Phase.FAILED:
            told["error"] = _failure(batch)
        case Phase.CANCELLED:
            told["error"] = {"code": 1, "message": "The batch was cancelled."}
        case _:
            told["error"] = {"code": 4, "message": "The batch expired."}
    return told


def _failure(batch: Batch) -> dict[str, Any]:
    error = batch.scan.errors[0]
    if error.code == "token_limit_exceeded":
        return {"code": 8, "message": QUOTA}
    return {"code": int(error.code) if error.code.isdecimal() else 3, "message": error.message}


def refused(error: Refused) -> Response:
    """A refusal in the service's shape."""
    statuses = {
        Reason.NOT_FOUND: 404,
        Reason.UNAVAILABLE: 503,
        Reason.RATE_LIMITED: 429,
        Reason.TOLD: 500,
    }
    status = error.status or statuses.get(error.reason, 400)
    message = error.message
    if message.startswith("Cannot find file"):
        status, message = 403, NO_FILE
    if error.code == "token_limit_exceeded":
        status = 429
    if status == 429:
        # Which quota it is, nobody learns: only a link comes with it (public reports, 2026).
        message = QUOTA
    response = error_response(status, message)
    if error.retry_after_s is not None:
        response.headers["retry-after"] = str(error.retry_after_s)
    return response


def error_response(status: int, message: str) -> Response:
    """An error in the service's shape."""
    error: dict[str, Any] = {"code": status, "message": message, "status": NAMES.get(status, "INTERNAL")}
    if status == 429:
        link = {"description": "Learn more about Gemini API quotas", "url": "https://ai.google.dev"}
        error["details"] = [{"@type": "type.googleapis.com/google.rpc.Help", "links": [link]}]
    return as_json({"error": error}, status)


def as_json(value: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON response."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def moment(at: int) -> str:
    """A moment as the service writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "123Z"
