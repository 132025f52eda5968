"""Amazon Bedrock's batch inference over HTTP: jobs in REST-JSON, files in S3, single answers.

Facts: botocore 1.44.5 and the user guide, copies of 2026. A token that is known makes no second job, a name
that is taken is refused. UNVERIFIED: for how long a token is known (here: always).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import unquote

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bulkrate.testing.dialects.bedrock_lines import BedrockCodec, refusal, respond
from bulkrate.testing.dialects.bedrock_objects import (
    ARN,
    MANIFEST,
    arn_of,
    as_json,
    described,
    folder_of,
    job_object,
    manifest,
    name_of,
    refused,
    s3_refused,
)
from bulkrate.testing.dialects.bedrock_s3 import Handler, Objects
from bulkrate.testing.faults import Fate
from bulkrate.testing.gates import Gates
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, Limits, Reason, Refused

LIMITS: Final = Limits(max_requests=50_000, max_file_bytes=1_000_000_000, min_requests=100, one_file=True)
"""Quotas as they were published; an account has its own, per model."""

_CREDENTIAL: Final = re.compile(r"Credential=([^/]+)/")


class BedrockDialect:
    """The dialect object: see ``bulkrate.testing.dialects``."""

    prefix = ""
    limits = LIMITS

    def __init__(self, s3_url: str | None = None) -> None:
        """``s3_url``: another S3 where the files lie; without it they lie here."""
        self._s3_url = s3_url

    def env(self, base_url: str, api_key: str) -> dict[str, str]:
        """The environment that leads a client here."""
        return {
            "AWS_ENDPOINT_URL": base_url,
            "AWS_ACCESS_KEY_ID": api_key,
            "AWS_SECRET_ACCESS_KEY": "signatures-are-not-looked-at",
            "AWS_REGION": "us-east-1",
            "BULKRATE_BEDROCK_S3": "s3://a-bucket/batches",
            "BULKRATE_BEDROCK_ROLE_ARN": "arn:aws:iam::123456789012:role/batches",
        }

    def codec(self) -> BedrockCodec:
        """The reader of input lines and writer of output lines."""
        return BedrockCodec()

    def routes(self, state: ProviderState, gates: Gates, api_key: str) -> Sequence[BaseRoute]:
        """Jobs, models, and every other path: an object in S3. ``api_key`` is the access key's id."""
        objects = Objects(state, gates, self._s3_url)
        api = _Api(state, gates, objects)
        state.on_end = api.ended
        jobs = "/model-invocation-job"
        table: tuple[tuple[str, str, Handler], ...] = (
            ("POST", jobs, api.create),
            ("GET", jobs + "s", api.list_jobs),
            ("POST", jobs + "/{id:path}/stop", api.stop),
            ("GET", jobs + "/{id:path}", api.status),
            ("POST", "/model/{model:path}/converse", api.converse),
            ("POST", "/model/{model:path}/invoke", api.invoke),
        )
        guarded = [
            Route(path, _guarded(handler, api_key, refused), methods=[method])
            for method, path, handler in table
        ]
        s3 = _guarded(objects.call, api_key, s3_refused)
        listing = _guarded(objects.list_bucket, api_key, s3_refused)
        return [
            *guarded,
            Route("/{bucket}", listing, methods=["GET"]),
            Route("/{bucket}/{key:path}", s3, methods=["GET", "PUT", "POST", "DELETE"]),
        ]


def _guarded(handler: Handler, api_key: str, say: Callable[[Refused], Response]) -> Handler:
    """Check whose key signed (not the signature), turn refusals into error bodies."""

    async def endpoint(request: Request) -> Response:
        found = _CREDENTIAL.search(request.headers.get("authorization", ""))
        if found is None or found[1] != api_key:
            message = "The security token included in the request is invalid."
            headers = {"x-amzn-errortype": "UnrecognizedClientException"}
            return as_json({"message": message}, 403, headers)
        try:
            return await handler(request)
        except Refused as error:
            return say(error)

    return endpoint


class _Api:
    def __init__(self, state: ProviderState, gates: Gates, objects: Objects) -> None:
        self._state, self._gates, self._objects = state, gates, objects
        self._by_token: dict[str, Batch] = {}

    # -- jobs ------------------------------------------------------------------------------------------

    async def create(self, request: Request) -> Response:
        body = await _json(request)

        def effect() -> Response:
            return as_json({"jobArn": arn_of(self._create(body))})

        return await self._gates.perform("create", request, effect)

    def _create(self, body: dict[str, Any]) -> Batch:
        kept = described(body)
        known = self._by_token.get(kept["token"])
        if known is not None:
            return known
        taken = any(name_of(batch) == kept["stem"] + kept["rest"] for batch in self._state.batches.values())
        if taken:
            raise Refused(Reason.CONFLICT, "A job with this name already exists.")
        self._objects.fetch(kept["input"])
        if kept["input"] not in self._state.files:
            raise Refused(Reason.INVALID, f"The S3 input {kept['input']} does not exist.")
        made = self._state.create_batch(
            kept["input"],
            endpoint=f"{kept['invocation']} {kept['model']}",
            window=kept["hours"],
            metadata=kept,
        )
        if kept["token"]:
            self._by_token[kept["token"]] = made
        return made

    def ended(self, batch: Batch) -> None:
        """Write what a job leaves: its output and its manifest. One that never began leaves nothing."""
        if batch.output_file_id is None:
            return
        stored = self._state.files.pop(batch.output_file_id)
        if not stored.blob.size_bytes:
            batch.output_file_id = None
            return
        folder, name = folder_of(batch), (batch.metadata or {})["input"].rpartition("/")[2]
        batch.output_file_id = f"{folder}{name}.out"
        self._objects.publish(batch.output_file_id, b"".join(stored.blob.chunks()))
        self._objects.publish(folder + MANIFEST, manifest(batch))

    async def list_jobs(self, request: Request) -> Response:
        query = request.query_params

        def effect() -> Response:
            first, size = int(query.get("nextToken", "0")), int(query.get("maxResults", "1000"))
            part = query.get("nameContains", "")
            shown = [
                batch
                for batch in self._state.listed(first_page="nextToken" not in query)
                if part in name_of(batch)
            ]
            if query.get("sortOrder") == "Ascending":
                shown.reverse()
            page = {"invocationJobSummaries": [job_object(batch) for batch in shown[first : first + size]]}
            more = {"nextToken": str(first + size)} if first + size < len(shown) else {}
            return as_json({**page, **more})

        return await self._gates.perform("list", request, effect)

    def _id(self, request: Request) -> str:
        """The batch that an ARN, or the last part of it, names."""
        wanted = unquote(request.path_params["id"]).removeprefix(ARN)
        found = [batch.id for batch in self._state.batches.values() if arn_of(batch) == ARN + wanted]
        return found[0] if found else wanted

    async def status(self, request: Request) -> Response:
        def effect() -> Response:
            return as_json(job_object(self._state.poll(self._id(request))))

        return await self._gates.perform("status", request, effect)

    async def stop(self, request: Request) -> Response:
        await request.body()

        def effect() -> Response:
            self._state.cancel(self._id(request))
            return as_json({})

        return await self._gates.perform("cancel", request, effect)

    # -- single answers --------------------------------------------------------------------------------

    async def converse(self, request: Request) -> Response:
        body = await _json(request)
        tier = body.pop("serviceTier", None)
        answer = self._answer(request, body)
        return as_json(answer if tier is None else {**answer, "serviceTier": tier})

    async def invoke(self, request: Request) -> Response:
        return as_json(self._answer(request, await _json(request)))

    def _answer(self, request: Request, body: dict[str, Any]) -> dict[str, Any]:
        if self._state.models is not None and unquote(request.path_params["model"]) not in self._state.models:
            raise Refused(Reason.INVALID, "The provided model identifier is invalid.")
        reason = refusal(body, "InvokeModel")
        if reason is not None:
            raise Refused(Reason.INVALID, reason)
        self._gates.happened("answer_done")
        return respond(body, Fate.ANSWERED, self._state.writer.single())[0]


async def _json(request: Request) -> dict[str, Any]:
    try:
        body = orjson.loads(await request.body() or b"{}")
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise Refused(Reason.INVALID, "The request body is not a JSON object.")
    return body


dialect = BedrockDialect()
