"""Names, tags and status words of jobs; what a create says is held against botocore's model."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from typing import Any

import boto3
import botocore.validate
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.usage import Usage
from bulkrate.errors import ConfigError
from bulkrate.providers.bedrock import settings
from bulkrate.providers.bedrock.jobs import (
    JobSettings,
    creation,
    never_ran,
    output_name,
    output_uri,
    parse_job,
    stem_of,
    tag_of,
    with_results,
)
from bulkrate.providers.bedrock.provider import provider
from bulkrate.providers.bedrock.settings import Place, place_of, role_of, split_uri, timeout_hours
from bulkrate.providers.provider import BatchProblem, ResultFile, Slice, Tag

ROLE = "arn:aws:iam::123456789012:role/batches"
ARN = "arn:aws:bedrock:us-east-1:123456789012:model-invocation-job/abc123def456"
SETTINGS = JobSettings("amazon.nova-lite-v1:0", "InvokeModel", ROLE, Place("a-bucket", "in/here/"), 48)
INPUT = "s3://a-bucket/in/here/input/0123456789-00007-dddddddd.jsonl"

tags = st.builds(
    Tag,
    st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=10, max_size=10),
    st.integers(0, 36**5 - 1),
    st.integers(0, 2**128 - 1).map("{:032x}".format),
    st.none() | st.builds(Slice, st.integers(0, 36**5 - 1), st.integers(0, 9_999), st.integers(1, 100_000)),
)


@cache
def shapes() -> Any:
    session = boto3.session.Session(aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1")
    return session.client("bedrock").meta.service_model


def keeps_its_pattern(name: str, value: str) -> bool:
    about = shapes().shape_for(name).metadata
    return re.fullmatch(about["pattern"], value) is not None and len(value) <= about["max"]


@given(tags, st.integers(0, 40))
def test_a_tag_is_the_name_and_the_token_of_its_job(tag: Tag, failed: int) -> None:
    fields = creation(tag, INPUT, SETTINGS, failed_before=failed)
    assert fields["clientRequestToken"] == fields["jobName"]
    assert tag_of(fields["jobName"]) == tag
    assert fields["jobName"].startswith(stem_of(tag))
    assert keeps_its_pattern("ModelInvocationJobName", fields["jobName"])
    assert keeps_its_pattern("ModelInvocationIdempotencyToken", fields["clientRequestToken"])
    assert keeps_its_pattern("ModelInvocationJobName", stem_of(tag))  # it is sent as a filter, too


@given(tags, tags)
def test_different_tags_have_different_names(one: Tag, other: Tag) -> None:
    assert (stem_of(one) == stem_of(other)) == (one == other)


@pytest.mark.parametrize("name", [None, 7, "", "bulkrate-", "x" * 63, "bulkrate-" + "z" * 41, "my-job"])
def test_others_names_are_not_ours(name: Any) -> None:
    assert tag_of(name) is None


def test_a_create_is_what_botocore_takes() -> None:
    tag = Tag("0123456789", 7, "d" * 32)
    fields = creation(tag, INPUT, replace(SETTINGS, kms_key="alias/mine"), failed_before=0)
    shape = shapes().operation_model("CreateModelInvocationJob").input_shape
    assert botocore.validate.ParamValidator().validate(fields, shape).generate_report() == ""
    assert keeps_its_pattern("S3Uri", INPUT)
    assert keeps_its_pattern("S3Uri", fields["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"])
    assert keeps_its_pattern("RoleArn", ROLE)
    assert fields["timeoutDurationInHours"] == 48
    assert fields["modelInvocationType"] in shapes().shape_for("ModelInvocationType").enum
    again = creation(tag, INPUT, SETTINGS, failed_before=1)
    assert again["clientRequestToken"] != fields["clientRequestToken"]


def job(status: str, **fields: Any) -> dict[str, Any]:
    return {
        "jobArn": ARN,
        "jobName": "somebody-s",
        "status": status,
        "submitTime": datetime(2026, 11, 24, 3, tzinfo=timezone(timedelta(hours=2))),
        "inputDataConfig": {"s3InputDataConfig": {"s3Uri": INPUT}},
        "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": "s3://a-bucket/in/here/output/"}},
        **fields,
    }


def test_every_status_word_of_the_service_is_known() -> None:
    words = shapes().shape_for("ModelInvocationJobStatus").enum
    ends = {word: parse_job(job(word)).end for word in words}
    assert {word: end for word, end in ends.items() if end is not None} == {
        "Completed": BatchEnd.COMPLETED,
        "PartiallyCompleted": BatchEnd.EXPIRED,
        "Expired": BatchEnd.EXPIRED,
        "Stopped": BatchEnd.CANCELLED,
        "Failed": BatchEnd.FAILED,
    }
    assert not any(parse_job(job(word)).strange for word in words)
    odd = parse_job(job("Paused"))
    assert (odd.strange, odd.end, odd.word) == (True, None, "Paused")


def test_a_job_is_read() -> None:
    counted = {"totalRecordCount": 100, "successRecordCount": 60, "errorRecordCount": 2}
    status = parse_job(job("InProgress", **counted))
    assert (status.id, status.total, status.completed, status.failed) == (ARN, 100, 60, 2)
    assert status.created_at == datetime(2026, 11, 24, 1, tzinfo=UTC)
    assert status.input_file_id == INPUT
    assert status.results == ()
    assert output_uri(job("InProgress")) == "s3://a-bucket/in/here/output/abc123def456/"
    assert output_name(status) == "0123456789-00007-dddddddd.jsonl.out"


def test_why_a_job_failed_is_kept() -> None:
    refused = parse_job(job("Failed", message="fewer records than 100"))
    assert refused.problems == (BatchProblem("job_failed", "fewer records than 100"),)
    # Of which the rows are innocent: they are sent again.
    assert parse_job(job("Failed", message="Internal server error")).problems[0].code == "internal_error"
    assert never_ran(refused)
    assert not never_ran(parse_job(job("Failed", successRecordCount=3)))
    assert not never_ran(parse_job(job("Stopped")))


def test_a_manifest_is_the_control_total() -> None:
    counts = {"totalRecordCount": 9, "successRecordCount": 7, "errorRecordCount": 2, "inputTokenCount": 90}
    status = with_results(parse_job(job("Completed")), "s3://b/o", {**counts, "outputTokenCount": 30})
    assert status.usage == Usage(input_tokens=90, output_tokens=30)
    assert (status.total, status.completed, status.failed) == (9, 7, 2)
    assert status.results == (ResultFile("output", "s3://b/o"),)
    assert with_results(parse_job(job("Expired")), None, None).results == ()


@pytest.mark.parametrize(
    "odd", [None, 7, "text", [], {"s3InputDataConfig": 7}, {"s3InputDataConfig": {"s3Uri": 1}}]
)
def test_odd_objects_are_no_exception(odd: Any) -> None:
    fields = dict.fromkeys(("jobArn", "jobName", "status", "submitTime", "totalRecordCount", "message"), odd)
    status = parse_job({**fields, "inputDataConfig": odd, "outputDataConfig": odd})
    assert status.end is None
    assert status.tag is None
    assert output_uri({"outputDataConfig": odd}) is None


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://a-bucket", Place("a-bucket", "")),
        ("s3://a-bucket/", Place("a-bucket", "")),
        ("s3://a-bucket/in/here/", Place("a-bucket", "in/here/")),
        ("", None),
    ],
)
def test_a_place_in_s3(text: str, place: Place | None) -> None:
    assert place_of({settings.S3: text}) == place


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        (settings.S3, "a-bucket/x", place_of),
        (settings.S3, "s3://A_Bucket", place_of),
        (settings.S3, "s3://a-bucket/with space", place_of),
        (settings.ROLE, "batches", role_of),
        (settings.ROLE, "arn:aws:iam::123:role/x", role_of),
        (settings.TIMEOUT, "12", timeout_hours),
        (settings.TIMEOUT, "169", timeout_hours),
        (settings.TIMEOUT, "1 day", timeout_hours),
    ],
)
def test_settings_that_cannot_be_are_named(name: str, value: str, read: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        read({name: value})


@pytest.mark.parametrize("uri", ["s3://a-bucket", "s3://a-bucket/", "https://a-bucket/key", ""])
def test_what_is_no_file_is_said(uri: str) -> None:
    with pytest.raises(ConfigError, match="no file in S3"):
        split_uri(uri)


def test_a_longer_timeout_moves_the_window_and_what_is_overdue() -> None:
    plain = provider.limits("m", {})
    longer = provider.limits("m", {settings.TIMEOUT: "168", "BULKRATE_LIMITS__REQUESTS": "10"})
    assert (plain.window_s, plain.min_requests) == (86_400, 100)
    assert longer.window_s == 7 * 86_400
    assert longer.overdue_s > longer.window_s
    assert longer.requests == 10


def test_what_is_missing_is_noted() -> None:
    assert "BULKRATE_BEDROCK_S3 and BULKRATE_BEDROCK_ROLE_ARN are not set" in provider.notes({})[0]
    assert provider.notes({settings.S3: "s3://a-bucket", settings.ROLE: ROLE}) == ()
