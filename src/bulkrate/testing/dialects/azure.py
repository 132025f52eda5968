"""Azure OpenAI's files and batches: OpenAI's counterpart, with what Azure does otherwise.

Facts: Microsoft's batch articles (copies of 2025-08), the v1 REST reference and openai SDK 3.54 (2026). Both
APIs are spoken: the classic one with a dated version in the query, and v1. Which endpoint v1's lines name is
UNVERIFIED: both forms are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bulkrate.testing.answers import TokenCounter
from bulkrate.testing.dialects.openai import OpenAIApi, OpenAIShapedDialect
from bulkrate.testing.dialects.openai_lines import OpenAICodec
from bulkrate.testing.dialects.openai_objects import batch_object, error_response, json_object
from bulkrate.testing.faults import Fate
from bulkrate.testing.gates import Gates
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, JobError, Limits, Phase, RowContext, Scan, Usage

LIMITS: Final = Limits(
    max_requests=100_000,
    max_file_bytes=200_000_000,
    empty_files=True,  # a batch without failed rows names an error file of no bytes
    expires=False,
    queue_message=(
        "The number of enqueued tokens has surpassed the configured limit of {limit} for the deployment "
        "'{model}'. Please either increase the limit or try again once the current jobs have finished."
    ),
)
BATCHES_ONLY: Final = "-batch"
"""How the name of a deployment ends that answers no single requests."""

_BOM: Final = b"\xef\xbb\xbf"
_SAFE: Final = {
    name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")
}
_HIT: Final = {**_SAFE, "violence": {"filtered": True, "severity": "high"}}
_FILTERED: Final = {
    "message": "The response was filtered due to the prompt triggering the content management policy.",
    "type": None,
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
    "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": _HIT},
}


class AzureCodec(OpenAICodec):
    """OpenAI's lines, and what the filters say of each answer."""

    def scan(
        self,
        lines: Iterable[bytes],
        *,
        endpoint: str,
        limits: Limits,
        models: Sequence[str] | None,
        count_tokens: TokenCounter,
    ) -> Scan:
        """Validate a whole input file. One with a byte order mark is refused, for no reason that helps."""
        kept = list(lines)
        if kept and kept[0].startswith(_BOM):
            message = "Unable to extract the deployment name from the first line of the file."
            return Scan(errors=[JobError("invalid_request", message)])
        return super().scan(kept, endpoint=endpoint, limits=limits, models=models, count_tokens=count_tokens)

    def result(self, line: bytes, fate: Fate, context: RowContext) -> tuple[bytes, Usage | None]:
        """A result line; a refusal among the answers is the filter's."""
        written, usage = super().result(line, fate, context)
        fields = orjson.loads(written)
        body: Any = (fields["response"] or {}).get("body")
        if fate is Fate.REFUSED_IN_OUTPUT:
            body["error"] = _FILTERED
        if isinstance(body, dict) and "choices" in body:
            body["prompt_filter_results"] = [{"prompt_index": 0, "content_filter_results": _SAFE}]
            for choice in body["choices"]:
                hit = choice["finish_reason"] == "content_filter"
                choice["content_filter_results"] = _HIT if hit else _SAFE
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE), usage


class _Api(OpenAIApi):
    endpoints = ("/chat/completions", "/embeddings", "/v1/chat/completions", "/v1/embeddings")

    def turned_away(self, request: Request) -> Response | None:
        """A key, or a token in its place; and a version, where the path has none."""
        given = request.headers.get("api-key") or request.headers.get("authorization", "").removeprefix(
            "Bearer "
        )
        if given != self._api_key:
            return error_response(401, "Access denied due to invalid subscription key.", code="401")
        if not request.url.path.startswith("/openai/v1/") and "api-version" not in request.query_params:
            return error_response(404, "Resource not found", code="404")
        return None

    def shown(self, batch: Batch) -> dict[str, Any]:
        """A batch that does not expire, and of which little is told before it runs."""
        shown = {**batch_object(batch), "expires_at": None}
        if batch.phase is Phase.VALIDATING:
            shown |= {"endpoint": None, "request_counts": None, "output_file_id": "", "error_file_id": ""}
        return shown

    async def answer(self, request: Request) -> Response:
        """One answer, of a deployment that gives such."""
        body = json_object(await request.body())
        deployment = str(request.path_params.get("deployment") or body.get("model"))
        if deployment.endswith(BATCHES_ONLY):
            message = f"The chatCompletion operation does not work with the specified model, {deployment}."
            return error_response(400, message, code="OperationNotSupported")
        if self._state.models is not None and deployment not in self._state.models:
            message = "The API deployment for this resource does not exist."
            return error_response(404, message, code="DeploymentNotFound")
        return self.answered(request.url.path, {**body, "model": deployment})


class AzureDialect(OpenAIShapedDialect):
    """The dialect object: both APIs' paths, and single answers."""

    prefix = ""
    limits = LIMITS
    roots = ("/openai/v1", "/openai")
    api = _Api

    def env(self, base_url: str, api_key: str) -> dict[str, str]:
        """The environment that leads a client here."""
        return {
            "AZURE_OPENAI_ENDPOINT": base_url,
            "AZURE_OPENAI_API_KEY": api_key,
            "OPENAI_API_VERSION": "2025-03-01-preview",
        }

    def codec(self) -> AzureCodec:
        """The reader of request lines and writer of result lines."""
        return AzureCodec()

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """OpenAI's under both roots, and single answers under each one's path."""
        api = _Api(state, gates, api_key)
        answers = [
            Route(f"/openai/{place}/{path}", api.guarded(api.answer), methods=["POST"])
            for place in ("v1", "deployments/{deployment}")
            for path in ("chat/completions", "embeddings")
        ]
        return [*super().routes(state, gates, api_key), *answers]


dialect = AzureDialect()
