"""The HTTP calls: files, batches, single answers.

Batches are file jobs only. Inline ones would save an upload, and cost two guarantees: a create call in doubt
could not be fenced off by deleting its input, and their results were seen out of order, so that an answer
whose metadata is missing is nobody's (googleapis/python-genai issues 1909 and 2124). Results that come
inline all the same are read.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import orjson

from bulkrate.core.json_value import words, writable
from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.errors import NotFoundError, OutcomeUnknown, ProviderError, RequestRefused, Unreachable
from bulkrate.providers.google.batches import display_name, inlined, parse_batch
from bulkrate.providers.google.failures import about_a_file, about_a_model
from bulkrate.providers.google.wire import create_body, model_path
from bulkrate.providers.http import Http
from bulkrate.providers.provider import Answer, BatchStatus, ResultFile, Search, Submission

CHUNK_BYTES = 1 << 18
PAGE = 100
METHODS = {"chat": "batchGenerateContent", "embed": "asyncBatchEmbedContent"}
SINGLE = {"chat": "generateContent", "embed": "embedContent"}


class GoogleConnection:
    """Implements `bulkrate.providers.provider.Connection`."""

    def __init__(self, http: Http, *, version: str, model: str, kind: str, limits: Limits) -> None:
        self._http, self._api, self._kind, self._limits = http, version, kind, limits
        self._model = f"{version}/{model_path(model)}"

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        fields = json.loads(body)
        if lane is Lane.FLEX:
            fields["serviceTier"] = "flex"
        path = f"{self._model}:{SINGLE[self._kind]}"
        try:
            given = await self._http.json(
                "answer", "POST", path, json=fields, timeout_s=self._limits.answer_timeout_s
            )
        except NotFoundError as error:
            raise about_a_model(error) from None
        except RequestRefused as error:
            if (
                error.code != "INVALID_ARGUMENT"
            ):  # a failed precondition is the account's: where it is, its plan
                raise
            return Answer(400, {"error": {"status": error.code, "message": error.message}})
        return Answer(200, given)

    async def upload(self, name: str, content: BinaryIO) -> str:
        size_bytes = content.seek(0, os.SEEK_END)
        content.seek(0)
        begun = await self._http.call(
            "upload",
            "POST",
            f"upload/{self._api}/files",
            json={"file": {"displayName": name, "mimeType": "application/jsonl"}},
            headers={
                "X-Goog-Upload-Protocol": "resumable",
                "X-Goog-Upload-Command": "start",
                "X-Goog-Upload-Header-Content-Length": str(size_bytes),
                "X-Goog-Upload-Header-Content-Type": "application/jsonl",
            },
        )
        where = urlsplit(begun.headers.get("x-goog-upload-url", ""))
        if not where.path:
            raise OutcomeUnknown("upload: the provider's answer names no place to upload to")
        sent = await self._http.json(
            "upload",
            "POST",
            # At our own address, as the SDK does: a proxy stays in between, the key goes nowhere else.
            where._replace(scheme="", netloc="").geturl().lstrip("/"),
            content=_chunks(content),
            headers={
                "X-Goog-Upload-Command": "upload, finalize",
                "X-Goog-Upload-Offset": "0",
                "Content-Length": str(size_bytes),
            },
            timeout_s=self._limits.upload_timeout_s,
        )
        file = sent.get("file")
        file_id = words(file.get("name")) if isinstance(file, dict) else None
        if file_id is None:
            raise OutcomeUnknown("upload: the provider's answer names no file")
        return file_id

    async def create(self, submission: Submission) -> BatchStatus:
        try:
            operation = await self._http.json(
                "create",
                "POST",
                f"{self._model}:{METHODS[self._kind]}",
                json=create_body(display_name(submission.tag), submission.file_id),
                timeout_s=self._limits.create_timeout_s,
            )
        except ProviderError as error:
            raise about_a_model(about_a_file(error)) from None
        return _batch(operation)

    async def find(self, search: Search) -> BatchStatus | None:
        async for status in self._all():
            # One that the quota refused never ran, and its file is sent again.
            if status.queue_refusal is not None:
                continue
            same_file = search.file_id is not None and status.input_file_id == search.file_id
            if status.tag == search.tag or same_file:
                return status
        return None

    async def find_run(self, run: str, since: datetime, known: frozenset[str]) -> list[BatchStatus]:
        found = [status async for status in self._all() if status.id not in known]
        return [status for status in found if status.tag is not None and status.tag.run == run]

    async def _all(self) -> AsyncIterator[BatchStatus]:
        """The project's batches, to the end of the list: its order is not documented, so that no page tells
        that the rest is older. It reaches back six weeks."""
        token, seen = "", set[str]()
        while True:
            params = {"pageSize": str(PAGE), **({"pageToken": token} if token else {})}
            page = await self._http.json("list", "GET", f"{self._api}/batches", params=params)
            entries = page.get("operations", [])
            if not isinstance(entries, list) or not (page.keys() <= {"operations", "nextPageToken"}):
                raise Unreachable("list: the provider's answer is not a list of batches")
            for entry in entries:
                if isinstance(entry, dict) and (status := parse_batch(entry)).id:
                    yield status
            token = page.get("nextPageToken") or ""
            if not token:
                return
            if token in seen:
                raise Unreachable("list: the provider repeats the same page, so absence cannot be told")
            seen.add(token)

    async def status(self, batch_id: str) -> BatchStatus:
        return _batch(await self._http.json("retrieve", "GET", f"{self._api}/{quote(batch_id)}"))

    async def download(self, file: ResultFile) -> AsyncIterator[bytes]:
        if file.id.startswith("batches/"):
            operation = await self._http.json("download", "GET", f"{self._api}/{quote(file.id)}")
            for result in inlined(operation):
                yield orjson.dumps(writable(result)) + b"\n"
            return
        # Not by the file's record: it has a name longer than the Files API reads (js-genai issue 1227).
        try:
            async for chunk in self._http.stream(
                "download", f"download/{self._api}/{quote(file.id)}:download", params={"alt": "media"}
            ):
                yield chunk
        except ProviderError as error:
            raise about_a_file(error) from None

    async def cancel(self, batch_id: str) -> BatchStatus:
        await self._http.call("cancel", "POST", f"{self._api}/{quote(batch_id)}:cancel", json={})
        return await self.status(batch_id)

    async def delete_file(self, file_id: str) -> None:
        try:
            await self._http.call("delete", "DELETE", f"{self._api}/{quote(file_id)}")
        except ProviderError as error:
            if not isinstance(about_a_file(error), NotFoundError):
                raise

    async def aclose(self) -> None:
        await self._http.aclose()


def _batch(operation: dict[str, Any]) -> BatchStatus:
    status = parse_batch(operation)
    if not status.id:
        raise OutcomeUnknown("the provider's answer is not a batch")
    return status


async def _chunks(content: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := content.read(CHUNK_BYTES):
        yield chunk
