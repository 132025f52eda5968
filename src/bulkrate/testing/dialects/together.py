"""Together AI's batches: OpenAI's calls with other shapes around them, the oddest of the compatible servers.

Facts: SDK together 3.1.1 (batch and file types) and their OpenAPI of the upload, read 2026-11: create answers
``{"job": …}``, a list is a bare array, words are upper case, times are text, there are no counts and no
metadata, a line needs neither method nor url, and an error line holds nothing but the error.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

from bulkrate.testing.dialects.openai import OpenAIApi, OpenAIShapedDialect
from bulkrate.testing.dialects.openai_lines import OpenAICodec
from bulkrate.testing.dialects.openai_objects import as_json, file_object
from bulkrate.testing.faults import Fate
from bulkrate.testing.records import Batch, Limits, Phase, RowContext, Usage

LIMITS: Final = Limits(max_requests=50_000, max_file_bytes=100_000_000)


class TogetherCodec(OpenAICodec):
    """Bare lines in; rows that failed come out as their error alone."""

    def result(self, line: bytes, fate: Fate, context: RowContext) -> tuple[bytes, Usage | None]:
        written, usage = super().result(line, fate, context)
        entry = orjson.loads(written)
        response = entry["response"] or {"status_code": 0, "body": {"error": entry["error"]}}
        if response["status_code"] == 200:
            return written, usage
        error = response["body"]["error"]
        said = {"message": error["message"], "code": error["code"] or "invalid_model"}
        bare = {"custom_id": entry["custom_id"], "error": said}
        return orjson.dumps(bare, option=orjson.OPT_APPEND_NEWLINE), usage


class _TogetherApi(OpenAIApi):
    purpose = "batch-api"
    defaults = MappingProxyType({"completion_window": "24h"})

    def shown(self, batch: Batch) -> dict[str, Any]:
        failed = batch.phase is Phase.FAILED
        return {
            "id": batch.id,
            "user_id": "user-1",
            "endpoint": batch.endpoint,
            "model_id": batch.scan.model or None,
            "input_file_id": batch.input_file_id,
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
            "file_size_bytes": batch.blob.size_bytes,
            "status": (batch.word or str(batch.phase)).upper(),
            "progress": 100.0 * batch.done / batch.rows if batch.rows else 0.0,
            "error": "; ".join(error.message for error in batch.scan.errors) if failed else None,
            "created_at": _text(batch.created_at),
            "job_deadline": _text(batch.expires_at),
            "completed_at": None if not batch.ended else _text(batch.at[batch.phase]),
        }

    def created(self, batch: Batch) -> Response:
        return as_json({"job": self.shown(batch), "warning": ""}, 201)

    def listing(self, request: Request, batches: Sequence[Batch]) -> Response:
        return Response(orjson.dumps([self.shown(batch) for batch in batches]), media_type="application/json")

    async def list_files(self, request: Request) -> Response:
        def effect() -> Response:
            return as_json({"data": [file_object(item) for item in self._state.files.values()]})

        return await self._gates.perform("list", request, effect)


def _text(stamp: int) -> str:
    return datetime.fromtimestamp(stamp, UTC).isoformat().replace("+00:00", "Z")


class TogetherDialect(OpenAIShapedDialect):
    """The dialect object."""

    limits = LIMITS
    uploads_to = "/files/upload"
    api = _TogetherApi
    variables = "TOGETHER"

    def codec(self) -> TogetherCodec:
        """The reader of request lines and writer of result lines."""
        return TogetherCodec(bare=True)


dialect = TogetherDialect()
