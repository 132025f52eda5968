"""The calls about jobs: what a failure means, what counts as ours, what an end left; nothing is retried."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from bedrock_calls import (
    ARN,
    INPUT,
    JOB,
    MANIFEST,
    NO_JOBS,
    NOVA,
    OUTPUT,
    SECRET,
    TAG,
    job,
    ours,
    said,
    using,
)
from scripted_http import Call, Reply, answer

from bulkrate.core.reconcile import BatchEnd
from bulkrate.errors import (
    AuthError,
    NotFoundError,
    OutcomeUnknown,
    QuotaError,
    RequestRefused,
    Unreachable,
)
from bulkrate.providers.bedrock.client import MANIFEST_TRIES, BedrockConnection
from bulkrate.providers.bedrock.jobs import stem_of
from bulkrate.providers.provider import BatchStatus, ResultFile, Search, Submission, Tag

# -- create ------------------------------------------------------------------------------------------------


def creating(
    reply: Reply, *, listed: bytes = NO_JOBS, calls: list[Call] | None = None, **env: str
) -> BatchStatus:
    def script(call: Call) -> Reply:
        return reply if call.method == "POST" else listed

    # The first use of a client takes its time, which is not to count against a short timeout.
    async def use(to: BedrockConnection) -> BatchStatus:
        assert to._aws.bedrock
        return await to.create(Submission(TAG, INPUT, 3, lambda: pytest.fail("the lines are in S3")))

    return using(script, use, calls=calls, **env)


def test_a_create_names_its_shard_and_is_made_once() -> None:
    calls: list[Call] = []
    status = creating(answer(200, {"jobArn": f"{ARN}000000000001"}), calls=calls)
    assert (status.id, status.tag, status.end) == (f"{ARN}000000000001", TAG, None)
    (sent,) = [call.json for call in calls if call.method == "POST"]
    assert sent["jobName"] == sent["clientRequestToken"] == stem_of(TAG) + "0"
    assert sent["inputDataConfig"]["s3InputDataConfig"]["s3Uri"] == INPUT
    assert sent["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"] == "s3://a-bucket/in/output/"
    assert (sent["modelId"], sent["modelInvocationType"]) == (NOVA, "InvokeModel")


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (said(500, "InternalServerException"), OutcomeUnknown),
        (said(503, "ServiceUnavailableException"), OutcomeUnknown),
        (said(400, "ConflictException", "name taken"), OutcomeUnknown),
        (answer(200, {}), OutcomeUnknown),
        (answer(200, {"jobArn": ""}), OutcomeUnknown),
        (answer(200, b"<html>a proxy's page</html>"), OutcomeUnknown),
        (b"HTTP/1.1 200 X\r\nContent-Length: 500\r\n\r\n{", OutcomeUnknown),
        (b"", OutcomeUnknown),
        (None, OutcomeUnknown),
        (said(429, "ThrottlingException"), QuotaError),
        (said(400, "ServiceQuotaExceededException"), QuotaError),
        (said(400, "ValidationException", "the role is wrong"), RequestRefused),
        (said(404, "ResourceNotFoundException", "no such model"), RequestRefused),
        (said(400, "ValidationException", "The S3 location does not exist"), NotFoundError),
        (said(403, "AccessDeniedException"), AuthError),
        (said(403, "ExpiredTokenException"), AuthError),
    ],
)
def test_what_a_failed_create_means(reply: Reply, error: type[Exception]) -> None:
    calls: list[Call] = []
    with pytest.raises(error) as caught:
        creating(reply, calls=calls, BULKRATE_LIMITS__CREATE_TIMEOUT_S="1" if reply is None else "30")
    assert type(caught.value) is error
    assert [call.method for call in calls].count("POST") == 1
    assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_a_wait_that_the_service_asks_for_is_kept() -> None:
    with pytest.raises(QuotaError) as caught:
        creating(said(429, "ThrottlingException", **{"retry-after": "7"}))
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("listed", [said(500, "InternalServerException"), answer(200, {"other": 1}), b""])
def test_a_listing_that_fails_before_the_create_leaves_no_doubt(listed: bytes) -> None:
    calls: list[Call] = []
    with pytest.raises(Unreachable) as caught:
        creating(None, listed=listed, calls=calls)
    assert not isinstance(caught.value, OutcomeUnknown)
    assert [call.method for call in calls] == ["GET"]


def test_a_server_that_is_not_there_leaves_no_doubt() -> None:
    with pytest.raises(Unreachable) as caught:
        using(lambda call: None, lambda to: to.find_run("0" * 10, NOW, frozenset()), AWS_ENDPOINT_URL=NOWHERE)
    assert not isinstance(caught.value, OutcomeUnknown)


NOW = datetime(2026, 11, 24, tzinfo=UTC)
NOWHERE = "http://127.0.0.1:9"  # the discard port: nobody listens


def test_a_job_that_failed_at_the_door_does_not_stand_in_the_way_of_the_next() -> None:
    """Its name is taken, and its token answers with it for ever."""
    calls: list[Call] = []
    jobs = [
        ours(2, "Failed", failed=1),
        ours(1, "Failed"),
        ours(3, "Failed", failed=2, successRecordCount=4),  # it ran, and was adopted in its time
        job(4, "Failed", "bulkrate-" + "z" * 41),
    ]
    creating(
        answer(200, {"jobArn": f"{ARN}000000000009"}),
        listed=answer(200, {"invocationJobSummaries": jobs}),
        calls=calls,
    )
    assert calls[-1].json["jobName"] == stem_of(TAG) + "2"


# -- find --------------------------------------------------------------------------------------------------


def finding(
    jobs: list[dict[str, Any]], *, size: int = 100, known: frozenset[str] = frozenset()
) -> BatchStatus | None:
    def script(call: Call) -> bytes:
        query = {name: values[0] for name, values in parse_qs(urlsplit(call.path).query).items()}
        first = int(query.get("nextToken", "0"))
        shown = [item for item in jobs if query["nameContains"] in item["jobName"]]
        more = {"nextToken": str(first + size)} if first + size < len(shown) else {}
        return answer(200, {"invocationJobSummaries": shown[first : first + size], **more})

    search = Search(TAG, INPUT, 3, NOW, known)
    return using(script, lambda to: to.find(search))


def test_a_job_is_found_by_its_name_on_any_page() -> None:
    others = [ours(number, "Failed", failed=number) for number in range(3)]
    found = finding([*others, ours(9)], size=1)
    assert found is not None
    assert found.id == f"{ARN}000000000009"
    assert found.tag == TAG


@pytest.mark.parametrize(
    "jobs",
    [
        [],
        [job(1, name="somebody-s")],
        [job(1, name=stem_of(Tag("0123456789", 7, "e" * 32)) + "0")],
        [job(1, name="x" + stem_of(TAG) + "0")],
        [ours(1, "Failed")],
    ],
)
def test_what_is_not_it(jobs: list[dict[str, Any]]) -> None:
    assert finding(jobs) is None


def test_what_the_ledger_knows_is_not_it() -> None:
    assert finding([ours(1)], known=frozenset({f"{ARN}000000000001"})) is None


def test_a_job_that_failed_on_the_way_is_it() -> None:
    found = finding([ours(1, "Failed", successRecordCount=4)])
    assert found is not None
    assert found.end is BatchEnd.FAILED


def test_a_run_s_jobs_are_those_since_then() -> None:
    """Older ones may have lost their results long ago."""
    old = ours(1, submitTime="2026-09-01T00:00:00Z")
    page = answer(200, {"invocationJobSummaries": [ours(2), old, job(3, name="bulkrate-0123456789x")]})
    found = using(lambda call: page, lambda to: to.find_run(TAG.run, NOW, frozenset()))
    assert [status.id for status in found] == [f"{ARN}000000000002"]


def test_a_listing_in_a_circle_proves_no_absence() -> None:
    page = answer(200, {"invocationJobSummaries": [], "nextToken": "again"})
    with pytest.raises(Unreachable, match="same page"):
        using(lambda call: page, lambda to: to.find(Search(TAG, INPUT, 3, NOW)))


# -- status and results ------------------------------------------------------------------------------------


def listing(*keys: str) -> bytes:
    items = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
    return answer(
        200, f"<ListBucketResult>{items}<IsTruncated>false</IsTruncated></ListBucketResult>".encode()
    )


def asking(
    told: dict[str, Any], *, files: list[bytes], manifest: bytes = b"{}", times: int = 1
) -> list[BatchStatus]:
    shown = iter([*files, *files[-1:] * times])

    def script(call: Call) -> bytes:
        if call.path.startswith(JOB):
            return answer(200, told)
        return next(shown) if "list-type=2" in call.path else answer(200, manifest)

    async def use(to: BedrockConnection) -> list[BatchStatus]:
        return [await to.status(told["jobArn"]) for _ in range(times)]

    return using(script, use)


@pytest.mark.parametrize(
    ("word", "end"),
    [
        ("Completed", BatchEnd.COMPLETED),
        ("PartiallyCompleted", BatchEnd.EXPIRED),
        ("Stopped", BatchEnd.CANCELLED),
        ("Failed", BatchEnd.FAILED),
    ],
)
def test_whatever_the_end_the_output_is_looked_for(word: str, end: BatchEnd) -> None:
    counts = {"inputTokenCount": 30, "outputTokenCount": 9, "successRecordCount": 3}
    told = job(1, word, successRecordCount=3)
    (status,) = asking(told, files=[listing(OUTPUT, MANIFEST)], manifest=json.dumps(counts).encode())
    assert status.end is end
    assert status.results == (ResultFile("output", f"s3://a-bucket/{OUTPUT}"),)
    assert status.usage is not None
    assert (status.usage.input_tokens, status.completed) == (30, 3)


def test_a_job_that_never_began_left_nothing() -> None:
    (status,) = asking(job(1, "Expired", processedRecordCount=0), files=[listing()])
    assert (status.end, status.results, status.usage) == (BatchEnd.EXPIRED, (), None)


def test_a_job_that_is_still_writing_has_not_ended_for_a_while() -> None:
    late = [listing(), listing(OUTPUT), listing(OUTPUT, MANIFEST)]
    first, second, third = asking(job(1, "Stopped"), files=late, times=3)
    assert (first.end, second.end) == (None, None)
    assert third.end is BatchEnd.CANCELLED
    assert third.results
    never = asking(job(1, "Stopped"), files=[listing(OUTPUT)], times=MANIFEST_TRIES)
    assert [status.end for status in never] == [None] * (MANIFEST_TRIES - 1) + [BatchEnd.CANCELLED]
    assert never[-1].results  # a manifest that never comes costs no answers


def test_a_completed_job_names_its_output_even_if_nobody_lists_it() -> None:
    status = asking(job(1, "Completed"), files=[listing(MANIFEST)])[0]
    assert status.results == (ResultFile("output", f"s3://a-bucket/{OUTPUT}"),)


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{", b'{"inputTokenCount": "many"}'])
def test_a_manifest_that_cannot_be_read_is_none(manifest: bytes) -> None:
    status = asking(job(1, "Completed"), files=[listing(OUTPUT, MANIFEST)], manifest=manifest)[0]
    assert (status.end, status.usage) == (BatchEnd.COMPLETED, None)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (said(404, "ResourceNotFoundException"), NotFoundError),
        (said(500, "InternalServerException"), Unreachable),
        (said(429, "ThrottlingException"), QuotaError),
        (b"", Unreachable),
        (answer(200, {}), Unreachable),
    ],
)
def test_a_job_that_cannot_be_asked_about(reply: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        using(lambda call: reply, lambda to: to.status(f"{ARN}000000000001"))
    assert type(caught.value) is error
