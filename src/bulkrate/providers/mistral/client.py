"""The HTTP calls: files, batch jobs, single answers.

Jobs are made from files only. Inline ones (under 10,000 requests) would save an upload, and could not be
fenced off by deleting their input when nobody knows whether the create call happened.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, BinaryIO
from urllib.parse import quote

from bulkrate.core.json_value import words
from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.errors import OutcomeUnknown, RequestRefused, Unreachable
from bulkrate.providers.failures import ANSWER, ROW_FAULTS, json_object
from bulkrate.providers.http import Http
from bulkrate.providers.mistral.batches import create_body, parse_job
from bulkrate.providers.provider import Answer, BatchStatus, ResultFile, Search, Submission

PAGE = 100


class MistralConnection:
    """Implements `bulkrate.providers.provider.Connection`."""

    def __init__(self, http: Http, *, model: str, endpoint: str, limits: Limits) -> None:
        self._http, self._model, self._endpoint, self._limits = http, model, endpoint, limits

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        fields = {"model": self._model, **json.loads(body)}
        raw = await self._http.call(
            ANSWER,
            "POST",
            self._endpoint.removeprefix("/"),
            json=fields,
            timeout_s=self._limits.answer_timeout_s,
            answers=ROW_FAULTS,
        )
        return Answer(raw.status_code, json_object(raw.content))

    async def upload(self, name: str, content: BinaryIO) -> str:
        fields = await self._http.json(
            "upload",
            "POST",
            "v1/files",
            data={"purpose": "batch"},
            files={"file": (name, content, "application/jsonl")},
            timeout_s=self._limits.upload_timeout_s,
        )
        file_id = words(fields.get("id"))
        if file_id is None:
            raise OutcomeUnknown("upload: the provider's answer names no file")
        return file_id

    async def create(self, submission: Submission) -> BatchStatus:
        body = create_body(
            submission, endpoint=self._endpoint, model=self._model, window_s=self._limits.window_s
        )
        timeout_s = self._limits.create_timeout_s
        return _job(await self._http.json("create", "POST", "v1/batch/jobs", json=body, timeout_s=timeout_s))

    async def find(self, search: Search) -> BatchStatus | None:
        def ours(status: BatchStatus) -> bool:
            same_file = search.file_id is not None and status.input_file_id == search.file_id
            return status.tag == search.tag or same_file

        # The filter only finds sooner. That it understood the question can be seen in what it shows, not in
        # an empty answer: how a map is written as a query is the SDK's reading of a specification.
        found = [status for status in await self._filtered(search.tag.metadata()) if ours(status)]
        if not found:
            found = [status async for status in self._jobs(_since(search.since)) if ours(status)]
        return found[0] if found else None

    async def find_run(self, run: str, since: datetime, known: frozenset[str]) -> list[BatchStatus]:
        def ours(found: list[BatchStatus]) -> list[BatchStatus]:
            return [status for status in found if status.tag is not None and status.tag.run == run]

        filtered = await self._filtered({"bulkrate_run": run})
        # One that shows this run's jobs and nothing else has filtered, and there are no others.
        if not filtered or len(ours(filtered)) < len(filtered):
            filtered = ours([status async for status in self._jobs(_since(since))])
        return [status for status in filtered if status.id not in known]

    async def _filtered(self, metadata: dict[str, str]) -> list[BatchStatus]:
        """The jobs that the server says have these pairs; none where it will not be asked so."""
        try:
            return [status async for status in self._jobs(metadata)]
        except RequestRefused:
            return []

    async def _jobs(self, params: dict[str, str]) -> AsyncIterator[BatchStatus]:
        """The workspace's jobs that match, newest first, to the end of the list.

        Pages are numbered, so a job that is deleted meanwhile moves another one past the reader, and one that
        is created is not seen: a list that does not come out even says nothing of absence.
        """
        seen, most, page = set[str](), 0, 0
        while True:
            numbers = {"page": str(page), "page_size": str(PAGE), "order_by": "-created"}
            fields = await self._http.json("list", "GET", "v1/batch/jobs", params={**params, **numbers})
            entries, total = fields.get("data"), fields.get("total")
            if entries is None and total == 0:
                entries = []
            if not isinstance(entries, list) or not isinstance(total, int):
                raise Unreachable("list: the provider's answer is not a list of batch jobs")
            found = [parse_job(entry) for entry in entries if isinstance(entry, dict)]
            new = [status for status in found if status.id and status.id not in seen]
            for status in new:
                yield status
            seen.update(status.id for status in new)
            if total < most or (not new and len(seen) < total):
                raise Unreachable("list: it changed while it was read, so absence cannot be told")
            if len(seen) >= total:
                return
            most, page = total, page + 1

    async def status(self, batch_id: str) -> BatchStatus:
        return _job(await self._http.json("retrieve", "GET", f"v1/batch/jobs/{quote(batch_id)}"))

    async def download(self, file: ResultFile) -> AsyncIterator[bytes]:
        async for chunk in self._http.file(f"v1/files/{quote(file.id)}"):
            yield chunk

    async def cancel(self, batch_id: str) -> BatchStatus:
        return _job(await self._http.json("cancel", "POST", f"v1/batch/jobs/{quote(batch_id)}/cancel"))

    async def delete_file(self, file_id: str) -> None:
        await self._http.delete(f"v1/files/{quote(file_id)}")

    async def aclose(self) -> None:
        await self._http.aclose()


def _since(moment: datetime) -> dict[str, str]:
    return {"created_after": moment.replace(microsecond=0).isoformat()}  # as exact as what it is held against


def _job(fields: dict[str, Any]) -> BatchStatus:
    status = parse_job(fields)
    if not status.id:
        raise OutcomeUnknown("the provider's answer is not a batch job")
    return status
