"""boto3 drives Bedrock's counterpart, over its own S3 and over moto's; and our S3 calls drive moto."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from bedrock_moto import client, moto_s3, new_bucket
from botocore.exceptions import ClientError
from dialect_desk import Desk, shouted, upper

from bulkrate.errors import ConfigError, NotFoundError
from bulkrate.providers.bedrock.aws import Aws
from bulkrate.providers.bedrock.bucket import Files
from bulkrate.providers.bedrock.provider import provider as bedrock
from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.dialects.bedrock import BedrockDialect
from bulkrate.testing.pytest_plugin import ProviderFactory

MODEL = "amazon.nova-lite-v1:0"
ROLE = "arn:aws:iam::123456789012:role/batches"
ROWS = 100


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_s3() as url:
        yield url


@pytest.fixture(params=["own", "moto"])
def place(request: Any, misbehaving_provider: ProviderFactory) -> tuple[MisbehavingProvider, Any, str]:
    """A counterpart, a client of the S3 where its files lie, and a bucket there."""
    if request.param == "own":
        provider = misbehaving_provider(dialect="bedrock")
        return provider, client("s3", provider.base_url, provider.api_key), "a-bucket"
    url = request.getfixturevalue("moto")
    provider = misbehaving_provider(dialect=BedrockDialect(url))
    return provider, client("s3", url), new_bucket(url)


def record(number: int, text: str = "hello") -> dict[str, Any]:
    turn = {"role": "user", "content": [{"text": text}]}
    return {
        "recordId": f"REC{number:08d}",
        "modelInput": {"schemaVersion": "messages-v1", "messages": [turn]},
    }


def put(s3: Any, bucket: str, key: str = "in/rows.jsonl", rows: int = ROWS) -> str:
    lines = b"".join(json.dumps(record(number)).encode() + b"\n" for number in range(rows))
    s3.put_object(Bucket=bucket, Key=key, Body=lines)
    return f"s3://{bucket}/{key}"


def job(uri: str, **fields: Any) -> dict[str, Any]:
    return {
        "jobName": "mine",
        "roleArn": ROLE,
        "modelId": MODEL,
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": uri}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": uri.rpartition("/in/")[0] + "/out/"}},
        **fields,
    }


def test_boto3_creates_polls_reads_and_lists(place: tuple[MisbehavingProvider, Any, str]) -> None:
    provider, s3, bucket = place
    to = client("bedrock", provider.base_url, provider.api_key)
    arn = to.create_model_invocation_job(**job(put(s3, bucket)))["jobArn"]
    words = []
    for _ in range(10):
        told = to.get_model_invocation_job(jobIdentifier=arn)
        words.append(told["status"])
        if "endTime" in told:
            break
    assert words[-1] == "Completed"
    assert set(words) <= {"Submitted", "Validating", "Scheduled", "InProgress", "Completed"}
    assert (told["totalRecordCount"], told["successRecordCount"]) == (ROWS, ROWS)
    folder = f"out/{arn.rpartition('/')[2]}/"
    names = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket, Prefix=folder)["Contents"]]
    assert names == [folder + "manifest.json.out", folder + "rows.jsonl.out"]
    manifest = json.loads(s3.get_object(Bucket=bucket, Key=names[0])["Body"].read())
    lines = s3.get_object(Bucket=bucket, Key=names[1])["Body"].read().splitlines()
    found = {line["recordId"]: line for line in map(json.loads, lines)}
    assert set(found) == {f"REC{number:08d}" for number in range(ROWS)}
    used = [line["modelOutput"]["usage"] for line in found.values()]
    assert manifest["successRecordCount"] == ROWS
    assert manifest["outputTokenCount"] == sum(usage["outputTokens"] for usage in used)
    assert provider.meter.rows_billed == ROWS
    (listed,) = to.list_model_invocation_jobs(nameContains="min")["invocationJobSummaries"]
    assert listed["jobArn"] == arn
    assert to.list_model_invocation_jobs(nameContains="other")["invocationJobSummaries"] == []


def test_boto3_creates_once_however_often_it_asks(place: tuple[MisbehavingProvider, Any, str]) -> None:
    provider, s3, bucket = place
    to, uri = client("bedrock", provider.base_url, provider.api_key), put(s3, bucket)
    first = to.create_model_invocation_job(**job(uri, clientRequestToken="token1"))
    assert (
        to.create_model_invocation_job(**job(uri, clientRequestToken="token1"))["jobArn"] == first["jobArn"]
    )
    with pytest.raises(to.exceptions.ConflictException):
        to.create_model_invocation_job(**job(uri, clientRequestToken="token2"))
    assert provider.meter.batches_created == 1


def test_boto3_stops_and_is_refused(place: tuple[MisbehavingProvider, Any, str]) -> None:
    provider, s3, bucket = place
    to = client("bedrock", provider.base_url, provider.api_key)
    arn = to.create_model_invocation_job(**job(put(s3, bucket)))["jobArn"]
    to.stop_model_invocation_job(jobIdentifier=arn.rpartition("/")[2])
    assert to.get_model_invocation_job(jobIdentifier=arn)["status"] == "Stopped"
    with pytest.raises(to.exceptions.ConflictException):
        to.stop_model_invocation_job(jobIdentifier=arn)
    with pytest.raises(to.exceptions.ResourceNotFoundException):
        to.get_model_invocation_job(jobIdentifier=arn[:-1] + "x")
    with pytest.raises(to.exceptions.ValidationException, match="does not exist"):
        to.create_model_invocation_job(**job(f"s3://{bucket}/in/none.jsonl", jobName="second"))
    few = to.create_model_invocation_job(**job(put(s3, bucket, "in/few.jsonl", 3), jobName="few"))["jobArn"]
    told = to.get_model_invocation_job(jobIdentifier=few)
    assert told["status"] == "Failed"
    assert "fewer records (3) than the required minimum of 100" in told["message"]
    stranger = client("bedrock", provider.base_url, "AKIDSTRANGER")
    with pytest.raises(ClientError, match="security token"):
        stranger.list_model_invocation_jobs()


def test_boto3_asks_for_single_answers(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider(dialect="bedrock")
    to = client("bedrock-runtime", provider.base_url, provider.api_key)
    turns = [{"role": "user", "content": [{"text": "hello"}]}]
    said = to.converse(modelId=MODEL, messages=turns, serviceTier={"type": "flex"})
    assert said["output"]["message"]["content"][0]["text"].startswith("answer")
    assert said["serviceTier"] == {"type": "flex"}
    body = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": turns}
    raw = to.invoke_model(modelId="anthropic.claude-3-haiku-20240307-v1:0", body=json.dumps(body))
    assert json.loads(raw["body"].read())["stop_reason"] == "end_turn"
    with pytest.raises(to.exceptions.ValidationException, match="max_tokens"):
        to.invoke_model(modelId=MODEL, body=json.dumps({**body, "max_tokens": 0}))


def files_on(url: str) -> Files:
    env = {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "B", "AWS_REGION": "us-east-1"}
    return Files(Aws({**env, "AWS_ENDPOINT_URL_S3": url}, bedrock.limits(MODEL, {})))


def test_our_files_travel_whole_in_parts_and_are_deleted(
    moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In three parts of the least size that S3 takes."""
    content = random.Random(1).randbytes(11 << 20)
    monkeypatch.setattr("bulkrate.providers.bedrock.bucket.PART_BYTES", 5 << 20)
    bucket = new_bucket(moto)
    uri, files = f"s3://{bucket}/in/here/big.jsonl", files_on(moto)

    async def main() -> None:
        await files.upload(uri, io.BytesIO(content), timeout_s=60)
        assert await files.names(f"s3://{bucket}/in/here/") == ["big.jsonl"]
        assert await files.names(f"s3://{bucket}/in/") == []
        assert b"".join([chunk async for chunk in files.download(uri)]) == content
        assert await files.read(uri) is None  # not a small one
        await files.delete(uri)
        await files.delete(uri)
        assert await files.read(uri) is None
        with pytest.raises(NotFoundError):
            [chunk async for chunk in files.download(uri)]
        with pytest.raises(ConfigError, match="no such bucket"):
            await files.upload("s3://nobody-s-bucket/x", io.BytesIO(b"x"), timeout_s=60)

    anyio.run(main)


def test_many_files_are_listed_page_by_page(moto: str) -> None:
    bucket = new_bucket(moto)
    s3 = client("s3", moto)
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"out/{number}", Body=b"x")
    files = files_on(moto)
    files._aws.s3.meta.events.register(
        "before-parameter-build.s3.ListObjectsV2", lambda params, **_: params.update(MaxKeys=2)
    )
    assert anyio.run(files.names, f"s3://{bucket}/out/") == ["0", "1", "2", "3", "4"]


def test_a_run_over_moto_s_s3(
    moto: str, tmp_path: Path, misbehaving_provider: ProviderFactory, fake_clock: FakeClock
) -> None:
    bucket = new_bucket(moto)
    dialect, faults = BedrockDialect(moto), "create_cut=1 missing=2 expire_after=110"
    provider = misbehaving_provider(faults, dialect=dialect, answer=upper, now=fake_clock.now)
    place = {"AWS_ENDPOINT_URL_S3": moto, "BULKRATE_BEDROCK_S3": f"s3://{bucket}/mine"}
    model = "bedrock/us.amazon.nova-lite-v1:0"
    desk = Desk(tmp_path, provider, fake_clock, model=model, rows=120, env=place)
    assert desk.run(desk.job(keep_remote="none"))["rows"]["succeeded"] == 120
    assert desk.answers() == shouted(120)
    assert provider.meter.rows_accepted == 120
    assert "Contents" not in client("s3", moto).list_objects_v2(Bucket=bucket)
