"""Azure's logins and single answers against answers to the byte."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from scripted_http import Call, Reply, answer, scripted

from bulkrate.core.lanes import Lane
from bulkrate.errors import (
    AuthError,
    ConfigError,
    NotFoundError,
    OutcomeUnknown,
    QuotaError,
    RequestRefused,
    Unreachable,
)
from bulkrate.providers.azure.client import AzureConnection
from bulkrate.providers.azure.login import entra_tokens, tokens_of
from bulkrate.providers.azure.provider import open_http, provider
from bulkrate.providers.azure.surface import surface
from bulkrate.providers.provider import Answer, Submission, Tag

KEY = "azure-test-0123456789"
TAG = Tag("0123456789", 7, "d" * 32)
BATCH = {"id": "batch_1", "status": "validating"}
CLASSIC = {"OPENAI_API_VERSION": "2025-03-01-preview"}
SUBMISSION = Submission(TAG, "file-in", 3, lambda: io.BytesIO(b""))


class Seen(NamedTuple):
    result: Any
    calls: list[Call]


def ask(
    script: Callable[[Call], Reply],
    what: Callable[[AzureConnection], Coroutine[Any, Any, Any]],
    env: dict[str, str] | None = None,
    *,
    tokens: Callable[[], str] | None = None,
) -> Seen:
    async def main() -> Seen:
        async with scripted(script) as server:
            resource = server.base_url.removesuffix("/v1")
            key = {} if tokens else {"AZURE_OPENAI_API_KEY": KEY}
            whole = {"AZURE_OPENAI_ENDPOINT": resource, **key, **(env or {})}
            if tokens is None:
                to = await provider.connect("mine", env=whole, state_dir=Path())
            else:
                http, limits = open_http(whole, tokens), provider.limits("mine", whole)
                to = AzureConnection(http, surface=surface(whole), kind="chat", live="mine", limits=limits)
            try:
                return Seen(await what(to), server.calls)
            finally:
                await to.aclose()

    return asyncio.run(main())


def header(call: Call, name: str) -> str | None:
    return call.headers.get(name)


# -- where and as whom ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "path", "endpoint"),
    [
        (CLASSIC, "/openai/batches?api-version=2025-03-01-preview", "/chat/completions"),
        ({}, "/openai/v1/batches", "/v1/chat/completions"),
        ({"BULKRATE_AZURE_BATCH_ENDPOINT": "/chat/completions"}, "/openai/v1/batches", "/chat/completions"),
    ],
)
def test_create(env: dict[str, str], path: str, endpoint: str) -> None:
    seen = ask(lambda call: answer(200, BATCH), lambda to: to.create(SUBMISSION), env)
    (call,) = seen.calls
    assert call.path == path
    assert (call.json["endpoint"], call.json["metadata"]) == (endpoint, TAG.metadata())
    assert (header(call, "api-key"), header(call, "authorization")) == (KEY, None)


def test_a_token_counts_before_a_key() -> None:
    env = {"AZURE_OPENAI_AD_TOKEN": "eyJ0"}
    (call,) = ask(lambda call: answer(200, BATCH), lambda to: to.status("batch_1"), env).calls
    assert (header(call, "api-key"), header(call, "authorization")) == (None, "Bearer eyJ0")


def test_every_call_has_a_token_of_its_time() -> None:
    made = iter(["first", "second"])

    async def twice(to: AzureConnection) -> None:
        await to.status("batch_1")
        await to.status("batch_1")

    seen = ask(lambda call: answer(200, BATCH), twice, tokens=lambda: next(made))
    assert [header(call, "authorization") for call in seen.calls] == ["Bearer first", "Bearer second"]


class Credential:
    """Stands in for a login of azure-identity."""

    def __init__(self, *given: AccessToken | Exception) -> None:
        self.given, self.scopes = list(given), list[str]()

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        self.scopes += scopes
        found = self.given.pop(0)
        if isinstance(found, Exception):
            raise found
        return found


def test_tokens_are_kept_while_they_are_good() -> None:
    credential = Credential(AccessToken("a", 2**40))
    tokens = tokens_of(credential, "https://scope/.default")
    assert [tokens(), tokens()] == ["a", "a"]
    assert credential.scopes == ["https://scope/.default"]


def test_no_login_is_the_users_to_mend_and_nothing_was_created() -> None:
    refused = ClientAuthenticationError("no credential here\nlong story")
    with pytest.raises(AuthError, match="no credential here") as caught:
        ask(
            lambda call: answer(200, BATCH),
            lambda to: to.create(SUBMISSION),
            tokens=tokens_of(Credential(refused), "s/.default"),
        )
    assert "az login" in (caught.value.hint or "")


def test_a_login_that_cannot_be_reached_leaves_no_doubt_about_the_call() -> None:
    """Not in doubt: without a token the create call was never made."""
    down = ServiceRequestError("login.microsoftonline.com is not to be found")
    tokens = tokens_of(Credential(down, down, down, down, down, down), "s/.default")
    with pytest.raises(Unreachable) as caught:
        ask(lambda call: answer(200, BATCH), lambda to: to.create(SUBMISSION), tokens=tokens)
    assert type(caught.value) is Unreachable


def test_a_token_goes_nowhere_else_and_is_in_no_message() -> None:
    said = {"error": {"code": "401", "message": "your token eyJ0 is no good"}}
    with pytest.raises(AuthError) as caught:
        ask(lambda call: answer(401, said), lambda to: to.status("b"), tokens=lambda: "eyJ0")
    assert "eyJ0" not in str(caught.value)

    async def main() -> list[Call]:
        async with scripted(lambda call: answer(200, BATCH)) as other:
            elsewhere = other.base_url.replace("127.0.0.1", "localhost") + "/x"
            away = answer(302, b"", headers={"Location": elsewhere})
            async with scripted(lambda call: away) as server:
                env = {"AZURE_OPENAI_ENDPOINT": server.base_url.removesuffix("/v1")}
                http = open_http(env, lambda: "eyJ0")
                await http.call("retrieve", "GET", "batches/b")
                await http.aclose()
            return other.calls

    (call,) = asyncio.run(main())
    assert header(call, "authorization") is None


def test_neither_key_nor_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(ConfigError, match="AZURE_OPENAI_API_KEY") as caught:
        entra_tokens({})
    assert (caught.value.code, "bulkrate[azure]" in (caught.value.hint or "")) == ("no_key", True)


def test_the_login_of_azure_identity_is_made_without_a_call() -> None:
    assert callable(entra_tokens({"BULKRATE_AZURE_SCOPE": "https://cognitiveservices.azure.us/.default"}))


@pytest.mark.parametrize("name", ["AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN"])
def test_keys_that_cannot_be(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        ask(lambda call: answer(200, BATCH), lambda to: to.status("b"), {name: "a b"})


# -- refusals and single answers -----------------------------------------------------------------------------


def refused(status: int, code: str, message: str = "no") -> bytes:
    return answer(status, {"error": {"code": code, "message": message}})


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (refused(401, "401", "invalid subscription key"), AuthError),
        (refused(404, "404", "Resource not found"), NotFoundError),
        (refused(429, "429"), QuotaError),
        (
            refused(400, "token_limit_exceeded", "enqueued tokens has surpassed the limit of 5K for"),
            QuotaError,
        ),
        (refused(400, "invalidPayload"), RequestRefused),
        (refused(500, "InternalServerError"), OutcomeUnknown),
        (answer(200, {}), OutcomeUnknown),
    ],
)
def test_refusals_of_create(reply: bytes, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        ask(lambda call: reply, lambda to: to.create(SUBMISSION), CLASSIC)
    assert type(caught.value) is error
    assert KEY not in str(caught.value)


def test_a_full_queue_says_how_much_it_holds() -> None:
    message = (
        "The number of enqueued tokens has surpassed the configured limit of 30K for the deployment 'x'."
    )
    with pytest.raises(QuotaError) as caught:
        ask(
            lambda call: refused(400, "token_limit_exceeded", message),
            lambda to: to.create(SUBMISSION),
            CLASSIC,
        )
    assert (caught.value.queue_full, caught.value.limit_tokens) == (True, 30_000)


@pytest.mark.parametrize(
    ("env", "path", "deployment"),
    [
        (CLASSIC, "/openai/deployments/mine/chat/completions?api-version=2025-03-01-preview", "mine"),
        ({}, "/openai/v1/chat/completions", "mine"),
        ({"BULKRATE_AZURE_LIVE_DEPLOYMENT": "quick"}, "/openai/v1/chat/completions", "quick"),
    ],
)
def test_single_answers(env: dict[str, str], path: str, deployment: str) -> None:
    body = b'{"model":"mine","messages":[]}'
    seen = ask(lambda call: answer(200, {"choices": []}), lambda to: to.answer(body, Lane.LIVE), env)
    assert seen.result == Answer(200, {"choices": []})
    assert (seen.calls[0].path, seen.calls[0].json["model"]) == (path, deployment)


def test_a_deployment_for_batches_is_no_fault_of_the_row() -> None:
    """As an answer, it would fail every row of a rescue for good."""
    reply = refused(400, "OperationNotSupported", "The chatCompletion operation does not work")
    with pytest.raises(RequestRefused, match="no single requests") as caught:
        ask(lambda call: reply, lambda to: to.answer(b"{}", Lane.LIVE))
    assert "BULKRATE_AZURE_LIVE_DEPLOYMENT" in (caught.value.hint or "")
    filtered = refused(400, "content_filter", "filtered")
    assert ask(lambda call: filtered, lambda to: to.answer(b"{}", Lane.LIVE)).result.status_code == 400
