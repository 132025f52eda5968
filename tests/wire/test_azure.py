"""Azure's differences from OpenAI's wire: endpoints, caps, filters, quotas, and batches that tell little."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import Choice, FreeText, Message, Request
from bulkrate.errors import ConfigError
from bulkrate.providers.azure.client import read_error
from bulkrate.providers.azure.provider import provider
from bulkrate.providers.azure.surface import address, surface
from bulkrate.providers.openai.wire import parse_batch, queue_refusal
from bulkrate.providers.provider import WIDEST_TAG, Configurable

CLASSIC = {"OPENAI_API_VERSION": "2025-03-01-preview"}
RESOURCE = "https://mine.openai.azure.com"
QUOTA = (
    "The number of enqueued tokens has surpassed the configured limit of {} for the deployment 'mine-batch'. "
    "Please either increase the limit or try again once the current jobs have finished."
)


# -- the two APIs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "classic", "params", "url"),
    [
        ("2024-10-21", True, {"api-version": "2024-10-21"}, "/chat/completions"),
        ("2025-03-01-preview", True, {"api-version": "2025-03-01-preview"}, "/chat/completions"),
        ("", False, {}, "/v1/chat/completions"),
        ("preview", False, {"api-version": "preview"}, "/v1/chat/completions"),
    ],
)
def test_the_version_tells_which_api_is_spoken(
    version: str, classic: bool, params: dict[str, str], url: str
) -> None:
    env = {"OPENAI_API_VERSION": version, "AZURE_OPENAI_ENDPOINT": RESOURCE}
    found = surface(env)
    assert (found.classic, found.params, found.endpoints["chat"]) == (classic, params, url)
    assert address(env) == RESOURCE + ("/openai" if classic else "/openai/v1")
    wire = provider.configured(env).wire("gpt-4o-batch")
    line = orjson.loads(
        b"".join((*wire.envelope(WIDEST_TAG)[:1], b"id", wire.envelope(WIDEST_TAG)[1], b"{}}"))
    )
    assert line == {"custom_id": "id", "method": "POST", "url": url, "body": {}}


@pytest.mark.parametrize("tail", ["", "/", "/openai", "/openai/", "/openai/v1", "/openai/v1/"])
def test_the_address_as_the_portal_has_it(tail: str) -> None:
    assert address({"AZURE_OPENAI_ENDPOINT": RESOURCE + tail}) == f"{RESOURCE}/openai/v1"
    assert address({"AZURE_OPENAI_ENDPOINT": RESOURCE + tail, **CLASSIC}) == f"{RESOURCE}/openai"


def test_no_resource() -> None:
    with pytest.raises(ConfigError, match="AZURE_OPENAI_ENDPOINT"):
        address({})


def test_the_endpoint_is_a_setting() -> None:
    """Which one the v1 API wants is not known."""
    env = {"BULKRATE_AZURE_BATCH_ENDPOINT": "/chat/completions"}
    assert isinstance(provider, Configurable)
    assert provider.configured(env).wire("gpt-4o").endpoint == "/chat/completions"
    assert provider.configured(env).wire("text-embedding-3-small", "embed").endpoint == "/v1/embeddings"


def test_where_single_answers_are() -> None:
    assert surface(CLASSIC).answers_at("mine", "chat") == "deployments/mine/chat/completions"
    assert surface({}).answers_at("mine", "embed") == "embeddings"


# -- requests ------------------------------------------------------------------------------------------------


def test_the_model_is_the_deployment() -> None:
    wire = provider.wire("my-deployment")
    body = wire.body(Request("my-deployment", (Message("user", "x"),), max_output_tokens=5))
    assert body["model"] == "my-deployment"
    assert body["max_completion_tokens"] == 5


@pytest.mark.parametrize(
    ("deployment", "cap"),
    [("gpt-4o-mini-batch", 18), ("gpt-5-batch", None), ("o3-batch", None), ("our-classifier", None)],
)
def test_no_cap_is_derived_for_a_model_that_is_not_known(deployment: str, cap: int | None) -> None:
    """Behind any other name may be one that reasons: a cap would cut its answers, all paid twice then."""
    assert provider.wire(deployment).derived_cap(deployment, Choice(("a", "b")), 3) == cap


# -- results -------------------------------------------------------------------------------------------------

SAFE = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}
HIT = {
    **SAFE,
    "violence": {"filtered": True, "severity": "high"},
    "jailbreak": {"filtered": True, "detected": True},
}


def outcome(response: Any, label: bool = False) -> Outcome:
    line = {"id": "b", "custom_id": "k", "response": response, "error": None}
    decoded = provider.wire("gpt-4o").decode(orjson.dumps(line), Choice(("a",)) if label else FreeText())
    assert decoded is not None
    return decoded.outcome


def answered(content: str, finish: str, found: dict[str, Any]) -> dict[str, Any]:
    choice = {
        "index": 0,
        "message": {"content": content},
        "finish_reason": finish,
        "content_filter_results": found,
    }
    prompt = [{"prompt_index": 0, "content_filter_results": SAFE}]
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    return {
        "status_code": 200,
        "body": {"choices": [choice], "prompt_filter_results": prompt, "usage": usage},
    }


def test_what_the_filter_passed_is_an_answer() -> None:
    assert outcome(answered("yes", "stop", SAFE)).text == "yes"
    assert outcome(answered('{"label":"a"}', "stop", SAFE), label=True).text == "a"
    assert outcome(answered("yes", "stop", HIT)).succeeded, "annotated, and let through"


def test_what_the_filter_stopped_says_why() -> None:
    found = outcome(answered("so far", "content_filter", HIT))
    assert (found.error, found.text, found.usage.output_tokens) == (ErrorClass.REFUSED, "so far", 2)
    assert found.message == "a content filter stopped the answer (jailbreak, violence: high)"


def test_a_prompt_that_was_filtered() -> None:
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": HIT}
    error = {"message": "The response was filtered.", "code": "content_filter", "innererror": inner}
    found = outcome({"status_code": 400, "body": {"error": error}})
    assert found.error is ErrorClass.REFUSED
    assert found.message == "400 content_filter: The response was filtered. (jailbreak, violence: high)"


@pytest.mark.parametrize("results", [None, [], {}, 7, {"violence": True}, {"violence": {"filtered": "yes"}}])
def test_filters_that_say_nothing(results: Any) -> None:
    found = outcome(answered("x", "content_filter", results))
    assert (found.error, found.message) == (ErrorClass.REFUSED, "a content filter stopped the answer")


# -- batches and errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "limit"),
    [("30K", 30_000), ("50,000", 50_000), ("5B", 5 * 10**9), ("200M", 200 * 10**6), ("many", None)],
)
def test_the_quota_is_read(said: str, limit: int | None) -> None:
    message = QUOTA.format(said)
    assert queue_refusal(message).limit_tokens == limit
    at_once = read_error(400, {"error": {"code": "token_limit_exceeded", "message": message}})
    assert at_once.queue is not None
    assert at_once.queue.limit_tokens == limit
    errors = {"data": [{"code": "token_limit_exceeded", "message": message, "line": None}]}
    late = parse_batch({"id": "b", "status": "failed", "errors": errors})
    assert late.queue_refusal is not None
    assert late.queue_refusal.limit_tokens == limit


def test_a_batch_that_tells_little() -> None:
    fields = {"id": "b", "status": "validating", "endpoint": None, "request_counts": None}
    status = parse_batch({**fields, "output_file_id": "", "error_file_id": "", "expires_at": None})
    assert (status.end, status.strange, status.results, status.total) == (None, False, (), None)


def test_failed_with_files_is_failed_with_what_they_hold() -> None:
    fields = {"id": "b", "status": "failed", "completed_at": 1, "output_file_id": "o", "error_file_id": "e"}
    status = parse_batch(fields)
    assert status.end is BatchEnd.FAILED
    assert [file.id for file in status.results] == ["o", "e"]


def test_a_token_is_in_no_message() -> None:
    said = read_error(
        401, {"error": {"code": "401", "message": "bad token eyJ0.secret here"}}, token="eyJ0.secret"
    )
    assert said.message == "bad token … here"
