"""A batch inference job, both ways: its name, the call that creates it, and what is told of it. Pure.

The tag is in the job's name, at fixed places, in base 36: `bulkrate-`, run 10, shard 5, digest 25, for a
slice its shard 5, first 4 and end 4, and at last one character that counts the jobs of this tag that failed
before. That is 63 characters for a slice, which is what a name may have (botocore 1.44.5,
`ModelInvocationJobName`). The same text is the `clientRequestToken`: however often a create arrives, one job
comes of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from bulkrate.core.identity import NUMBER_LENGTH, TAG_LENGTH, base36
from bulkrate.core.json_value import count, words
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.usage import Usage
from bulkrate.providers.bedrock.settings import Place
from bulkrate.providers.provider import BatchProblem, BatchStatus, ResultFile, Slice, Tag

PREFIX = "bulkrate-"
_NAME = re.compile(
    rf"{PREFIX}([0-9a-z]{{{TAG_LENGTH}}})([0-9a-z]{{5}})([0-9a-z]{{25}})(?:([0-9a-z]{{5}})([0-9a-z]{{4}})([0-9a-z]{{4}}))?"
    r"([0-9a-z])"
)
_DIGEST_LENGTH, _REQUEST_LENGTH = 25, 4
MOST_FAILURES = 35

ENDS = {
    "Completed": BatchEnd.COMPLETED,
    # "Not all of your records could be processed in time": the others had no turn.
    "PartiallyCompleted": BatchEnd.EXPIRED,
    "Expired": BatchEnd.EXPIRED,
    "Stopped": BatchEnd.CANCELLED,
    "Failed": BatchEnd.FAILED,
}
RUNNING = frozenset({"Submitted", "Validating", "Scheduled", "InProgress", "Stopping"})
# What a failed job says of itself is for people; only this is told from it.
_INTERNAL = re.compile(r"internal (?:server |service )?error|try again", re.IGNORECASE)


def stem_of(tag: Tag) -> str:
    """What the names of all jobs of this tag begin with."""
    name = f"{PREFIX}{tag.run}{base36(tag.shard, NUMBER_LENGTH)}{base36(int(tag.digest, 16), _DIGEST_LENGTH)}"
    if tag.slice is None:
        return name
    edges = (base36(edge, _REQUEST_LENGTH) for edge in (tag.slice.first, tag.slice.end))
    return name + base36(tag.slice.of, NUMBER_LENGTH) + "".join(edges)


def tag_of(name: object) -> Tag | None:
    """Read a job's name; None when it is none of ours."""
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        return None
    run, shard, digest, of, first, end, _ = found.groups()
    number = int(digest, 36)
    if number >> 128:
        return None
    cut = None if of is None else Slice(int(of, 36), int(first, 36), int(end, 36))
    return Tag(run, int(shard, 36), f"{number:032x}", cut)


@dataclass(frozen=True, slots=True)
class JobSettings:
    """What a job needs beside its requests."""

    model: str
    invocation: str
    role_arn: str
    place: Place
    timeout_hours: int
    kms_key: str | None = None


def creation(tag: Tag, input_uri: str, settings: JobSettings, *, failed_before: int) -> dict[str, Any]:
    """The fields of `CreateModelInvocationJob`."""
    name = stem_of(tag) + base36(min(failed_before, MOST_FAILURES), 1)
    output = {"s3Uri": settings.place.uri("output/")}
    if settings.kms_key:
        output["s3EncryptionKeyId"] = settings.kms_key
    return {
        "jobName": name,
        "clientRequestToken": name,
        "roleArn": settings.role_arn,
        "modelId": settings.model,
        "modelInvocationType": settings.invocation,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": input_uri, "s3InputFormat": "JSONL"}},
        "outputDataConfig": {"s3OutputDataConfig": output},
        "timeoutDurationInHours": settings.timeout_hours,
    }


def parse_job(fields: Mapping[str, Any]) -> BatchStatus:
    """A job as it is told of, alone or in a list; never raises, and knows nothing of its results yet.

    Unknown status words are kept and mean "not ended".
    """
    word = words(fields.get("status")) or "unknown"
    end = ENDS.get(word)
    message = words(fields.get("message"))
    problems: tuple[BatchProblem, ...] = ()
    if end is BatchEnd.FAILED:
        passing = message is not None and _INTERNAL.search(message)
        code = "internal_error" if passing else "job_failed"
        problems = (BatchProblem(code, message or "no reason given"),)
    return BatchStatus(
        id=words(fields.get("jobArn")) or "",
        word=word,
        end=end,
        strange=end is None and word not in RUNNING,
        tag=tag_of(fields.get("jobName")),
        input_file_id=_uri(fields, "inputDataConfig", "s3InputDataConfig"),
        total=count(fields.get("totalRecordCount")),
        completed=count(fields.get("successRecordCount")),
        failed=count(fields.get("errorRecordCount")),
        created_at=_time(fields.get("submitTime")),
        expires_at=_time(fields.get("jobExpirationTime")),
        problems=problems,
    )


def never_ran(status: BatchStatus) -> bool:
    """Whether the job failed before any record was processed: nothing was billed, nothing is to be had."""
    return status.end is BatchEnd.FAILED and not status.completed and not status.failed


def output_uri(fields: Mapping[str, Any]) -> str | None:
    """Where the job writes: a folder of its own, named by its id, in the place it was given."""
    place, arn = _uri(fields, "outputDataConfig", "s3OutputDataConfig"), words(fields.get("jobArn"))
    if place is None or arn is None:
        return None
    return f"{place.rstrip('/')}/{arn.rpartition('/')[2]}/"


def output_name(status: BatchStatus) -> str | None:
    """What the output file is called: `<input>.jsonl.out`."""
    return None if status.input_file_id is None else status.input_file_id.rpartition("/")[2] + ".out"


def with_results(status: BatchStatus, output: str | None, manifest: Mapping[str, Any] | None) -> BatchStatus:
    """An ended job with its output file, and what its manifest counts."""
    counts = manifest or {}
    usage = Usage(
        input_tokens=count(counts.get("inputTokenCount")) or 0,
        output_tokens=count(counts.get("outputTokenCount")) or 0,
    )
    total, completed, failed = (
        count(counts.get(f"{name}RecordCount")) for name in ("total", "success", "error")
    )
    return replace(
        status,
        results=() if output is None else (ResultFile("output", output),),
        usage=usage or None,
        total=status.total if total is None else total,
        completed=status.completed if completed is None else completed,
        failed=status.failed if failed is None else failed,
    )


def _uri(fields: Mapping[str, Any], config: str, place: str) -> str | None:
    outer = fields.get(config)
    inner = outer.get(place) if isinstance(outer, Mapping) else None
    return words(inner.get("s3Uri")) if isinstance(inner, Mapping) else None


def _time(value: object) -> datetime | None:
    return value.astimezone(UTC) if isinstance(value, datetime) else None
