"""Bedrock's objects and errors in JSON, S3's in XML, and the checks of what a caller sends.

Facts: botocore 1.44.5 (bedrock 2023-04-20, s3 2006-03-01); names that are taken: a public pull request of
2025.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from xml.sax.saxutils import escape

import orjson
from starlette.responses import Response

from bulkrate.testing.records import Batch, Phase, Reason, Refused

ARN: Final = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/"
MANIFEST: Final = "manifest.json.out"
_NAME: Final = re.compile(r"[a-zA-Z0-9]{1,63}(-*[a-zA-Z0-9+\-.]){0,63}")
_TOKEN: Final = re.compile(r"[a-zA-Z0-9]{1,256}(-*[a-zA-Z0-9]){0,256}")
_ROLE: Final = re.compile(r"arn:aws(-[^:]+)?:iam::([0-9]{12})?:role/.+")
_HOURS: Final = range(24, 169)
# Where a name is cut, so that somebody else's may differ in its beginning or in its end.
_STEM: Final = 24

_WAITING: Final = ("Submitted", "Validating", "Scheduled")
_WORDS: Final[Mapping[Phase, str]] = {
    Phase.IN_PROGRESS: "InProgress",
    Phase.FINALIZING: "InProgress",
    Phase.CANCELLING: "Stopping",
    Phase.COMPLETED: "Completed",
    Phase.FAILED: "Failed",
    Phase.CANCELLED: "Stopped",
}
_ERRORS: Final[Mapping[Reason, tuple[int, str]]] = {
    Reason.NOT_FOUND: (404, "ResourceNotFoundException"),
    Reason.INVALID: (400, "ValidationException"),
    Reason.CONFLICT: (400, "ConflictException"),
    Reason.UNAVAILABLE: (503, "ServiceUnavailableException"),
    Reason.RATE_LIMITED: (429, "ThrottlingException"),
}
_S3_ERRORS: Final[Mapping[Reason, tuple[int, str]]] = {
    Reason.NOT_FOUND: (404, "NoSuchKey"),
    Reason.INVALID: (400, "InvalidRequest"),
    Reason.RATE_LIMITED: (503, "SlowDown"),
}


def described(body: Mapping[str, Any]) -> dict[str, str]:
    """What a create call says, checked, as a batch keeps it: its name cut in two, first and last."""
    name, token = body.get("jobName"), body.get("clientRequestToken")
    inputs = (body.get("inputDataConfig") or {}).get("s3InputDataConfig") or {}
    outputs = (body.get("outputDataConfig") or {}).get("s3OutputDataConfig") or {}
    hours = body.get("timeoutDurationInHours", 24)
    invocation = body.get("modelInvocationType", "InvokeModel")
    checks = {
        "jobName": isinstance(name, str) and len(name) <= 63 and _NAME.fullmatch(name),
        "clientRequestToken": token is None or (isinstance(token, str) and _TOKEN.fullmatch(token)),
        "roleArn": isinstance(body.get("roleArn"), str) and _ROLE.fullmatch(body["roleArn"]),
        "modelId": bool(body.get("modelId")),
        "inputDataConfig": str(inputs.get("s3Uri")).startswith("s3://"),
        "outputDataConfig": str(outputs.get("s3Uri")).startswith("s3://"),
        "timeoutDurationInHours": hours in _HOURS,
        "modelInvocationType": invocation in ("InvokeModel", "Converse"),
    }
    for field, good in checks.items():
        if not good:
            raise Refused(Reason.INVALID, f"1 validation error detected: Value at '{field}' is not valid.")
    return {
        "stem": str(name)[:_STEM],
        "model": str(body["modelId"]),
        "role": str(body["roleArn"]),
        "input": str(inputs["s3Uri"]),
        "output": str(outputs["s3Uri"]),
        "hours": str(hours),
        "invocation": str(invocation),
        "token": str(token or ""),
        "rest": str(name)[_STEM:],
    }


def name_of(batch: Batch) -> str:
    """The job's name."""
    kept = batch.metadata or {}
    return kept["stem"] + kept["rest"]


def arn_of(batch: Batch) -> str:
    """The job's ARN; the last part of it is the id, 12 letters and digits."""
    return ARN + batch.id.removeprefix("batch_")[:12]


def folder_of(batch: Batch) -> str:
    """Where the job's files go."""
    return f"{(batch.metadata or {})['output'].rstrip('/')}/{arn_of(batch).rpartition('/')[2]}/"


def job_object(batch: Batch) -> dict[str, Any]:
    """A job as the service tells of it, alone or in a list."""
    kept = batch.metadata or {}
    message = batch.scan.errors[0].message if batch.phase is Phase.FAILED else None
    ran = batch.phase not in (Phase.VALIDATING, Phase.FAILED)
    counts = {
        "totalRecordCount": batch.rows,
        "processedRecordCount": batch.done + batch.failed,
        "successRecordCount": batch.done,
        "errorRecordCount": batch.failed,
    }
    ended = {"endTime": _time(batch.at[batch.phase])} if batch.ended else {}
    return {
        "jobArn": arn_of(batch),
        "jobName": name_of(batch),
        "modelId": kept["model"],
        "clientRequestToken": kept["token"],
        "roleArn": kept["role"],
        "status": batch.word or _word(batch),
        **({} if message is None else {"message": message}),
        "submitTime": _time(batch.created_at),
        "lastModifiedTime": _time(max([batch.created_at, *batch.at.values()])),
        **ended,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": kept["input"], "s3InputFormat": "JSONL"}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": kept["output"]}},
        "timeoutDurationInHours": int(kept["hours"]),
        "jobExpirationTime": _time(batch.expires_at),
        "modelInvocationType": kept["invocation"],
        **(counts if ran else {}),
    }


def manifest(batch: Batch) -> bytes:
    """What the job says of itself when it has ended."""
    usage = batch.usage
    counts = {
        "totalRecordCount": batch.rows,
        "processedRecordCount": batch.done + batch.failed,
        "successRecordCount": batch.done,
        "errorRecordCount": batch.failed,
    }
    if usage is not None:
        counts |= {"inputTokenCount": usage.input_tokens, "outputTokenCount": usage.output_tokens}
    return orjson.dumps(counts)


def _word(batch: Batch) -> str:
    if batch.phase is Phase.VALIDATING:
        return _WAITING[min(batch.asked, len(_WAITING) - 1)]
    if batch.phase is Phase.EXPIRED:
        return "PartiallyCompleted" if batch.done or batch.failed else "Expired"
    return _WORDS[batch.phase]


def _time(stamp: int) -> str:
    return datetime.fromtimestamp(stamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def refused(error: Refused) -> Response:
    """A refusal as Bedrock says it."""
    status, kind = _ERRORS.get(error.reason, (error.status or 500, "InternalServerException"))
    if error.code == "token_limit_exceeded":
        status, kind = 400, "ServiceQuotaExceededException"
    headers = {"x-amzn-errortype": kind, **_retry_after(error)}
    return as_json({"message": error.message}, status, headers)


def s3_refused(error: Refused) -> Response:
    """A refusal as S3 says it."""
    status, code = _S3_ERRORS.get(error.reason, (error.status or 500, "InternalError"))
    return s3_error(status, error.code or code, error.message, headers=_retry_after(error))


def s3_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error in S3's shape."""
    inner = f"<Code>{escape(code)}</Code><Message>{escape(message)}</Message>"
    return as_xml(f"<Error>{inner}</Error>", status, headers)


def _retry_after(error: Refused) -> dict[str, str]:
    return {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}


def as_json(
    value: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON response."""
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def as_xml(inner: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An XML response."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{inner}'
    return Response(text, status, headers, media_type="application/xml")
