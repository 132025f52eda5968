"""Batch jobs as Mistral tells of them. Pure.

Facts: mistralai 3.7.0 (`models/batchjob.py`, `createbatchjobrequest.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from bulkrate.core.json_value import count, mapping, moment, words
from bulkrate.core.reconcile import BatchEnd
from bulkrate.providers.provider import BatchProblem, BatchStatus, ResultFile, Submission, Tag

ENDS = {
    "SUCCESS": BatchEnd.COMPLETED,
    "FAILED": BatchEnd.FAILED,
    "TIMEOUT_EXCEEDED": BatchEnd.EXPIRED,
    "CANCELLED": BatchEnd.CANCELLED,
}
RUNNING = frozenset({"QUEUED", "RUNNING", "CANCELLATION_REQUESTED"})

_HOUR_S = 3_600
# "Below seven days": the guide, copy of 2026-08.
_MOST_HOURS = 7 * 24 - 1

# In messages of failed jobs, which have no codes: what says nothing against the requests.
_SERVICE = ("internal", "unavailable", "server error", "try again")


def create_body(submission: Submission, *, endpoint: str, model: str, window_s: float) -> dict[str, Any]:
    """What a create call says; the model is the job's, no line has one."""
    return {
        "input_files": [submission.file_id],
        "endpoint": endpoint,
        "model": model,
        "metadata": submission.tag.metadata(),
        "timeout_hours": min(max(math.ceil(window_s / _HOUR_S), 1), _MOST_HOURS),
    }


def parse_job(fields: Mapping[str, Any]) -> BatchStatus:
    """A job; never raises. What has another type than it should have is read as absent.

    An unknown word means "not ended" (to the SDK it is an end). One that has succeeded with answers and
    names no file is not quite there yet: its rows would be taken for missing and paid again.
    """
    word = words(fields.get("status")) or "unknown"
    end = ENDS.get(word)
    results = tuple(
        ResultFile(kind, file_id)
        for kind in ("output", "error")
        if (file_id := words(fields.get(f"{kind}_file")))
    )
    completed, failed = count(fields.get("succeeded_requests")), count(fields.get("failed_requests"))
    ran = any(fields.get(f"{how}_requests") for how in ("succeeded", "failed"))  # also one that is no count
    if end is BatchEnd.COMPLETED and not results and ran:
        end = None
    inputs = fields.get("input_files")
    return BatchStatus(
        id=words(fields.get("id")) or "",
        word=word,
        end=end,
        strange=end is None and word not in RUNNING and word not in ENDS,
        tag=Tag.from_metadata(mapping(fields.get("metadata"))),
        input_file_id=words(inputs[0]) if isinstance(inputs, list) and len(inputs) == 1 else None,
        results=results,
        total=count(fields.get("total_requests")),
        completed=completed,
        failed=failed,
        created_at=moment(fields.get("created_at")),
        problems=_problems(fields.get("errors"), ran=ran),
    )


def _problems(errors: Any, *, ran: bool) -> tuple[BatchProblem, ...]:
    """Messages with a count each. Where requests did run, the job failed by no fault of the others."""
    found = []
    for item in errors if isinstance(errors, list) else []:
        message = words(mapping(item).get("message")) or ""
        times = count(mapping(item).get("count")) or 1
        passing = ran or any(word in message.lower() for word in _SERVICE)
        said = f"{message} ({times} times)" if times > 1 else message
        found.append(BatchProblem("internal_error" if passing else "failed", said))
    return tuple(found)
