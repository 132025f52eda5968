"""A connection of ours to a server that answers as the test says, and what Bedrock might answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from scripted_http import Call, Script, answer, scripted

from bulkrate.providers.bedrock.client import BedrockConnection
from bulkrate.providers.bedrock.jobs import stem_of
from bulkrate.providers.bedrock.provider import provider
from bulkrate.providers.provider import Tag

TAG = Tag("0123456789", 7, "d" * 32)
INPUT = "s3://a-bucket/in/input/0123456789-00007-dddddddd.jsonl"
ARN = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/"
SECRET = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY"
NOVA, LLAMA = "amazon.nova-lite-v1:0", "meta.llama3-3-70b-instruct-v1:0"
ENV = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_REGION": "us-east-1",
    "BULKRATE_BEDROCK_S3": "s3://a-bucket/in",
    "BULKRATE_BEDROCK_ROLE_ARN": "arn:aws:iam::123456789012:role/batches",
}
JOBS, JOB = "/v1/model-invocation-jobs", "/v1/model-invocation-job"
FOLDER = "in/output/000000000001/"
OUTPUT, MANIFEST = FOLDER + "0123456789-00007-dddddddd.jsonl.out", FOLDER + "manifest.json.out"
NO_JOBS = answer(200, {"invocationJobSummaries": []})

T = TypeVar("T")


def using(
    script: Script,
    use: Callable[[BedrockConnection], Awaitable[T]],
    *,
    model: str = NOVA,
    calls: list[Call] | None = None,
    **env: str,
) -> T:
    """What `use` makes of a connection to a server that answers by `script`; `calls` gets the calls."""
    seen = [] if calls is None else calls

    async def main() -> T:
        async with scripted(script) as server:
            given = {**ENV, "AWS_ENDPOINT_URL": server.base_url, **env}
            connection = await provider.connect(model, env=given, state_dir=Path())
            try:
                return await use(connection)
            finally:
                await connection.aclose()
                seen.extend(server.calls)

    return asyncio.run(main())


def said(status: int, code: str, message: str = "no", **headers: str) -> bytes:
    return answer(status, {"message": message}, headers={"x-amzn-errortype": code, **headers})


def job(number: int, status: str = "InProgress", name: str = "mine", **fields: Any) -> dict[str, Any]:
    return {
        "jobArn": f"{ARN}{number:012d}",
        "jobName": name,
        "modelId": NOVA,
        "roleArn": ENV["BULKRATE_BEDROCK_ROLE_ARN"],
        "status": status,
        "submitTime": "2026-11-24T03:00:00Z",
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": INPUT}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://a-bucket/in/output/"}},
        **fields,
    }


def ours(number: int, status: str = "InProgress", *, failed: int = 0, **fields: Any) -> dict[str, Any]:
    return job(number, status, stem_of(TAG) + str(failed), **fields)
