"""Files in S3 and single answers, against a server that answers to the byte; and setting up."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from bedrock_calls import (
    LLAMA,
    MANIFEST,
    NOVA,
    OUTPUT,
    said,
    using,
)
from scripted_http import Call, Endless, Reply, answer

from bulkrate.core.lanes import Lane
from bulkrate.errors import (
    AuthError,
    ConfigError,
    NotFoundError,
    OutcomeUnknown,
    QuotaError,
    Unreachable,
)
from bulkrate.providers.bedrock.client import BedrockConnection
from bulkrate.providers.provider import ResultFile

# -- files -------------------------------------------------------------------------------------------------


def xml(status: int, code: str) -> bytes:
    return answer(status, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())


def downloading(reply: Reply) -> bytes:
    async def use(to: BedrockConnection) -> bytes:
        return b"".join([chunk async for chunk in to.download(ResultFile("output", "s3://a-bucket/in/x"))])

    return using(lambda call: reply, use)


def test_a_download_is_streamed() -> None:
    content = b"x" * 700_000
    assert downloading(answer(200, content)) == content


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (answer(200, b"half", length=900), Unreachable),
        (xml(404, "NoSuchKey"), NotFoundError),
        (xml(404, "NoSuchBucket"), ConfigError),
        (xml(503, "SlowDown"), QuotaError),
        (xml(500, "InternalError"), Unreachable),
        (xml(403, "AccessDenied"), AuthError),
    ],
)
def test_what_a_failed_download_means(reply: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        downloading(reply)


def test_deleting_twice_is_no_error_and_takes_the_manifest_along() -> None:
    calls: list[Call] = []
    uri = f"s3://a-bucket/{OUTPUT}"
    using(lambda call: answer(204, b""), lambda to: to.delete_file(uri), calls=calls)
    assert [call.path for call in calls] == [f"/v1/a-bucket/{OUTPUT}", f"/v1/a-bucket/{MANIFEST}"]


# -- single answers ----------------------------------------------------------------------------------------


def answering(
    reply: Reply, *, model: str = NOVA, lane: Lane = Lane.LIVE, body: Any = None, **env: str
) -> Any:
    calls: list[Call] = []
    given = json.dumps(body or {"messages": [{"role": "user", "content": [{"text": "hi"}]}]}).encode()
    found = using(lambda call: reply, lambda to: to.answer(given, lane), model=model, calls=calls, **env)
    assert len(calls) == 1
    return found, calls[0]


def test_a_single_answer_of_either_invocation() -> None:
    found, call = answering(answer(200, {"output": {"message": {"content": []}}}))
    assert (found.status_code, found.body) == (200, {"output": {"message": {"content": []}}})
    assert call.path.endswith("/invoke")
    converse = {
        "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3},
        "metrics": {"latencyMs": 1},
    }
    found, call = answering(answer(200, converse), model=LLAMA, lane=Lane.FLEX)
    assert found.body == converse
    assert call.path.endswith("/converse")
    assert call.json["serviceTier"] == {"type": "flex"}


def test_bytes_travel_as_they_are_in_a_line() -> None:
    image = {"image": {"format": "png", "source": {"bytes": "iVBORw=="}}}
    body = {"messages": [{"role": "user", "content": [image]}]}
    redacted = {"reasoningContent": {"redactedContent": "aGlkZGVu"}}
    told = {"output": {"message": {"role": "assistant", "content": [redacted]}}, "stopReason": "end_turn"}
    found, call = answering(answer(200, told), model=LLAMA, body=body)
    assert call.json["messages"][0]["content"] == [image]
    assert found.body["output"]["message"]["content"] == [redacted]


@pytest.mark.parametrize("model", [NOVA, LLAMA])
def test_what_a_failed_answer_means(model: str) -> None:
    found, _ = answering(said(400, "ValidationException", "too hot"), model=model)
    assert (found.status_code, found.body["code"]) == (400, "ValidationException")
    for reply, error in (
        (said(429, "ThrottlingException"), QuotaError),
        (said(424, "ModelErrorException"), Unreachable),
        (said(503, "ServiceUnavailableException"), Unreachable),
        (said(408, "ModelTimeoutException"), Unreachable),
        (b"", OutcomeUnknown),
    ):
        with pytest.raises(error) as caught:
            answering(reply, model=model)
        assert type(caught.value) is error


def test_a_body_that_the_sdk_will_not_take_is_the_row_s_fault() -> None:
    fields = {"messages": "hi"}
    found = using(lambda call: b"", lambda to: to.answer(json.dumps(fields).encode(), Lane.LIVE), model=LLAMA)
    assert (found.status_code, found.body["code"]) == (400, "invalid_parameter")


# -- setting up --------------------------------------------------------------------------------------------


def test_without_a_role_there_are_single_answers_and_no_batches() -> None:
    with pytest.raises(ConfigError, match="BULKRATE_BEDROCK_ROLE_ARN is not set"):
        using(lambda call: b"", lambda to: to.upload("x", io.BytesIO()), BULKRATE_BEDROCK_ROLE_ARN="")
    found, _ = answering(answer(200, {"content": []}), BULKRATE_BEDROCK_ROLE_ARN="", BULKRATE_BEDROCK_S3="")
    assert found.status_code == 200


def test_without_the_extra_the_hint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigError, match="boto3") as caught:
        using(lambda call: b"", lambda to: to.status("x"))
    assert (caught.value.code, caught.value.hint) == ("no_extra", "pip install 'bulkrate[bedrock]'")


def test_a_region_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="no AWS region"):
        using(lambda call: b"", lambda to: to.status("x"), AWS_REGION="")


def test_credentials_are_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    nobody = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    with pytest.raises(ConfigError, match="no credentials") as caught:
        using(lambda call: b"", lambda to: to.status("x"), **nobody)
    assert caught.value.code == "no_key"
    with pytest.raises(ConfigError, match="AWS cannot be set up"):
        using(lambda call: b"", lambda to: to.status("x"), AWS_PROFILE="nobody")


def test_the_whole_of_a_call_is_bounded() -> None:
    """By the limit, however slowly a body trickles; and nobody waits for the thread."""
    with pytest.raises(OutcomeUnknown):
        answering(Endless(answer(200, b"", length=10**9)), BULKRATE_LIMITS__ANSWER_TIMEOUT_S="0.3")
