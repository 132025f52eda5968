"""The calls to Bedrock and S3; nothing else.

A create that is sent twice makes one job: its name and its token follow from the tag, and Bedrock ignores a
token that it knows (botocore 1.44.5) and refuses a name that is taken (seen 2025-04). The submit protocol
does not rest on that, as nobody says for how long a token is known; it makes the late create harmless, which
on other providers only the deleted input file stops.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, BinaryIO

import anyio
import orjson

from bulkrate.core.json_value import parsed, words
from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.core.reconcile import BatchEnd
from bulkrate.errors import ConfigError, OutcomeUnknown, RequestRefused, Unreachable
from bulkrate.providers.bedrock.aws import READ_TIMEOUT_S, Aws
from bulkrate.providers.bedrock.bucket import Files
from bulkrate.providers.bedrock.jobs import (
    PREFIX,
    JobSettings,
    creation,
    never_ran,
    output_name,
    output_uri,
    parse_job,
    stem_of,
    with_results,
)
from bulkrate.providers.failures import ANSWER
from bulkrate.providers.provider import Answer, BatchStatus, ResultFile, Search, Submission

PAGE = 100
MANIFEST = "manifest.json.out"
# How often an ended job is asked again for a manifest that is not there: a stopped one may still be writing.
MANIFEST_TRIES = 3


class BedrockConnection:
    """Implements `bulkrate.providers.provider.Connection`. `settings` is None where a role or a place in S3
    is not set: there are no batches then, and single requests go all the same; `missing` says so."""

    def __init__(
        self,
        aws: Aws,
        *,
        model: str,
        invocation: str,
        settings: JobSettings | None,
        missing: str,
        limits: Limits,
    ) -> None:
        self._aws, self._files = aws, Files(aws)
        self._model, self._invocation, self._limits = model, invocation, limits
        self._settings, self._missing = settings, missing
        self._unwritten: Counter[str] = Counter()

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        tier = "flex" if lane is Lane.FLEX else None
        try:
            if self._invocation == "Converse":
                return Answer(200, await self._converse(json.loads(body), tier))
            return Answer(200, await self._invoke(body, tier))
        except RequestRefused as error:
            # A definite no to this request: its own fault, not the way's.
            return Answer(400, {"code": error.code, "message": error.message})

    async def _converse(self, fields: dict[str, Any], tier: str | None) -> object:
        if tier is not None:
            fields["serviceTier"] = {"type": tier}
        said = await self._aws.call(
            ANSWER,
            self._aws.runtime.converse,
            modelId=self._model,
            **_with_bytes(fields),
            timeout_s=self._limits.answer_timeout_s,
        )
        return _without_bytes({name: value for name, value in said.items() if name != "ResponseMetadata"})

    async def _invoke(self, body: bytes, tier: str | None) -> object:
        options = {} if tier is None else {"serviceTier": tier}

        def invoke() -> bytes:
            said = self._aws.runtime.invoke_model(
                modelId=self._model,
                body=body,
                contentType="application/json",
                accept="application/json",
                **options,
            )
            content: bytes = said["body"].read()
            return content

        content = await self._aws.call(ANSWER, invoke, timeout_s=self._limits.answer_timeout_s)
        try:
            return parsed(content.decode())
        except (ValueError, RecursionError):
            raise OutcomeUnknown("answer: the provider's answer is not JSON") from None

    async def upload(self, name: str, content: BinaryIO) -> str:
        uri = self._for_batches().place.uri(f"input/{name}")
        await self._files.upload(uri, content, timeout_s=self._limits.upload_timeout_s)
        return uri

    async def create(self, submission: Submission) -> BatchStatus:
        settings, tag = self._for_batches(), submission.tag
        assert submission.file_id is not None
        with anyio.move_on_after(self._limits.create_timeout_s) as scope:
            # One that failed before keeps its name and its token for ever: the next one counts on.
            failed = [job async for job in self._jobs(stem_of(tag)) if job.tag == tag and never_ran(job)]
        if scope.cancelled_caught:
            raise Unreachable("create: the listing before it took too long")
        fields = await self._aws.call(
            "create",
            self._aws.bedrock.create_model_invocation_job,
            **creation(tag, submission.file_id, settings, failed_before=len(failed)),
            timeout_s=max(scope.deadline - anyio.current_time(), 0.001),
        )
        arn = words(fields.get("jobArn"))
        if arn is None:
            raise OutcomeUnknown("create: the provider's answer names no job")
        return BatchStatus(arn, "Submitted", tag=tag, input_file_id=submission.file_id)

    async def find(self, search: Search) -> BatchStatus | None:
        found = None
        async for status in self._jobs(stem_of(search.tag)):
            # One that failed at the door never ran: a create sent again makes another.
            ours = status.tag == search.tag and status.id not in search.known and not never_ran(status)
            found = found or (status if ours else None)
        return found

    async def find_run(self, run: str, since: datetime, known: frozenset[str]) -> list[BatchStatus]:
        found = [status async for status in self._jobs(PREFIX + run) if status.id not in known]
        ours = [status for status in found if status.tag is not None and status.tag.run == run]
        return [status for status in ours if status.created_at is None or status.created_at >= since]

    async def _jobs(self, name: str) -> AsyncIterator[BatchStatus]:
        """All jobs with this in their names, newest first.

        No bound in time is sent: the name tells enough, and clocks may differ.
        """
        options: dict[str, str] = {}
        seen: set[str] = set()
        while True:
            page = await self._aws.call(
                "list",
                self._aws.bedrock.list_model_invocation_jobs,
                nameContains=name,
                sortBy="CreationTime",
                sortOrder="Descending",
                maxResults=PAGE,
                **options,
                timeout_s=READ_TIMEOUT_S,
            )
            jobs = page.get("invocationJobSummaries")
            if not isinstance(jobs, list):
                raise Unreachable("list: the provider's answer is not a list of jobs")
            for job in jobs:
                status = parse_job(job)
                if status.id:
                    yield status
            token = page.get("nextToken")
            if not token:
                return
            if token in seen:
                raise Unreachable("list: the provider repeats the same page, so absence cannot be told")
            seen.add(token)
            options = {"nextToken": token}

    async def status(self, batch_id: str) -> BatchStatus:
        fields = await self._aws.call(
            "retrieve",
            self._aws.bedrock.get_model_invocation_job,
            jobIdentifier=batch_id,
            timeout_s=READ_TIMEOUT_S,
        )
        status = parse_job(fields)
        if not status.id:
            raise Unreachable("retrieve: the provider's answer is not a job")
        return status if status.end is None else await self._with_results(status, fields)

    async def _with_results(self, status: BatchStatus, fields: Mapping[str, Any]) -> BatchStatus:
        """An ended job with what it left in S3, whatever its end. One that should have written and has not
        done so yet is told of as running, for a while."""
        folder, name = output_uri(fields), output_name(status)
        if folder is None or name is None:
            return status
        files = await self._files.names(folder)
        output = folder + name if name in files else None
        if MANIFEST not in files and fields.get("processedRecordCount") != 0 and not never_ran(status):
            self._unwritten[status.id] += 1
            if self._unwritten[status.id] < MANIFEST_TRIES:
                return replace(status, end=None)
        if output is None and status.end is BatchEnd.COMPLETED:
            output = folder + name  # gone, or not listed: the download will tell
        manifest = await self._manifest(folder) if MANIFEST in files else None
        return with_results(status, output, manifest)

    async def _manifest(self, folder: str) -> Mapping[str, Any] | None:
        content = await self._files.read(folder + MANIFEST)
        try:
            counts = orjson.loads(content or b"")
        except orjson.JSONDecodeError:
            return None
        return counts if isinstance(counts, dict) else None

    def download(self, file: ResultFile) -> AsyncIterator[bytes]:
        return self._files.download(file.id)

    async def cancel(self, batch_id: str) -> BatchStatus:
        await self._aws.call(
            "cancel",
            self._aws.bedrock.stop_model_invocation_job,
            jobIdentifier=batch_id,
            timeout_s=READ_TIMEOUT_S,
        )
        return await self.status(batch_id)

    async def delete_file(self, file_id: str) -> None:
        await self._files.delete(file_id)
        if file_id.endswith(".jsonl.out"):
            await self._files.delete(file_id.rpartition("/")[0] + "/" + MANIFEST)

    def _for_batches(self) -> JobSettings:
        if self._settings is None:
            raise ConfigError(self._missing, code="no_bucket", hint="docs/how-to/use-bedrock.md says how")
        return self._settings

    async def aclose(self) -> None:
        await self._aws.aclose()


def _with_bytes(value: Any) -> Any:
    """The body as boto3 wants it: content of images and documents as bytes, which a line has in base64."""
    if isinstance(value, dict):
        return {
            name: base64.b64decode(inner)
            if name == "bytes" and isinstance(inner, str)
            else _with_bytes(inner)
            for name, inner in value.items()
        }
    return [_with_bytes(item) for item in value] if isinstance(value, list) else value


def _without_bytes(value: Any) -> Any:
    """An answer as JSON has it."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {name: _without_bytes(inner) for name, inner in value.items()}
    return [_without_bytes(item) for item in value] if isinstance(value, list) else value
