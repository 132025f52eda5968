"""Whose messages are believed; OpenAI's own SDK is the second opinion."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

import openai
import pytest

from bulkrate.errors import ConfigError
from bulkrate.providers.openai.webhook import batch_of
from bulkrate.providers.webhook import TOLERANCE_S, NotGenuine, Signature
from bulkrate.webhooks.receivers import receivers_of

NOW = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
KEY, OLD_KEY = b"0123456789abcdef01234567", b"another key, of last year"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BODY = '{"id":"evt_1","object":"event","type":"batch.completed","data":{"id":"batch_é"}}'.encode()


def sign(key: bytes, body: bytes = BODY, *, message: str = "wh_1", at: datetime = NOW) -> str:
    """By the letter of Standard Webhooks 1.0.0, without any library."""
    signed = f"{message}.{int(at.timestamp())}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


def headers(signature: str, *, at: datetime = NOW, **others: str) -> dict[str, str]:
    given = {"webhook-id": "wh_1", "webhook-timestamp": str(int(at.timestamp()))}
    return {**given, "webhook-signature": signature, **others}


def sdk_accepts(given: dict[str, str], body: bytes, secret: str) -> bool:
    client = openai.OpenAI(api_key="none", webhook_secret=secret)
    with client, patch("time.time", return_value=NOW.timestamp()):
        try:
            client.webhooks.verify_signature(body, given)
        except (openai.InvalidWebhookSignatureError, ValueError):
            return False
        return True


GENUINE = {
    "one signature": headers(sign(KEY)),
    "the new one after the old": headers(f"{sign(OLD_KEY)} {sign(KEY)}"),
    "the new one before the old": headers(f"{sign(KEY)} {sign(OLD_KEY)}"),
    "beside one of a version to come": headers(f"v2,abc {sign(KEY)}"),
    "beside a broken one": headers(f"v1,=% v1 , {sign(KEY)}"),
    "as late as may be": headers(
        sign(KEY, at=NOW - timedelta(seconds=TOLERANCE_S)), at=NOW - timedelta(seconds=TOLERANCE_S)
    ),
    "as early as may be": headers(
        sign(KEY, at=NOW + timedelta(seconds=TOLERANCE_S)), at=NOW + timedelta(seconds=TOLERANCE_S)
    ),
}
LATE, EARLY = NOW - timedelta(seconds=TOLERANCE_S + 1), NOW + timedelta(seconds=TOLERANCE_S + 1)
OTHERS = {
    "another key": headers(sign(OLD_KEY)),
    "another body": headers(sign(KEY, BODY + b" ")),
    "another id": headers(sign(KEY, message="wh_2")),
    "a signature of another time": headers(sign(KEY, at=NOW - timedelta(seconds=1))),
    "too old": headers(sign(KEY, at=LATE), at=LATE),
    "too new": headers(sign(KEY, at=EARLY), at=EARLY),
    "no signature": headers(""),
    "no id": headers(sign(KEY, message=""), **{"webhook-id": ""}),
    "no time": headers(sign(KEY), **{"webhook-timestamp": "soon"}),
    "a time out of this world": headers(sign(KEY), **{"webhook-timestamp": "9" * 40}),
    "letters of another alphabet": headers("v1,é"),
}


@pytest.mark.parametrize("case", GENUINE)
def test_a_genuine_message_is_believed(case: str) -> None:
    assert Signature(SECRET).check(GENUINE[case], BODY, NOW) == "wh_1"
    assert sdk_accepts(GENUINE[case], BODY, SECRET)


@pytest.mark.parametrize("case", OTHERS)
def test_any_other_is_not(case: str) -> None:
    with pytest.raises(NotGenuine) as caught:
        Signature(SECRET).check(OTHERS[case], BODY, NOW)
    assert SECRET not in str(caught.value)
    # Here the SDK is less strict, and raises a TypeError.
    if case not in ("no id", "letters of another alphabet"):
        assert not sdk_accepts(OTHERS[case], BODY, SECRET)


def test_bytes_that_are_no_text_are_not_believed() -> None:
    with pytest.raises(NotGenuine):
        Signature(SECRET).check(headers(sign(KEY, b"\xff")), b"\xff", NOW)


def test_a_secret_without_the_prefix_is_taken_as_it_is() -> None:
    given = headers(sign(b"plain secret"))
    assert Signature("plain secret").check(given, BODY, NOW) == "wh_1"
    assert sdk_accepts(given, BODY, "plain secret")


@pytest.mark.parametrize(
    ("body", "batch"),
    [
        (BODY, "batch_é"),
        (b'{"type":"batch.expired","data":{"id":"b"},"more":1}', "b"),
        (b'{"type":"response.completed","data":{"id":"resp_1"}}', None),
    ],
)
def test_which_batch_an_event_of_openai_is_about(body: bytes, batch: str | None) -> None:
    assert batch_of(body) == batch


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"type":1}', b'{"type":"batch.failed"}', b'{"type":"batch.x","data":{"id":7}}'],
)
def test_what_is_no_event(body: bytes) -> None:
    with pytest.raises(ValueError):
        batch_of(body)


def test_receivers_are_the_providers_whose_secret_is_set() -> None:
    assert set(receivers_of({"OPENAI_WEBHOOK_SECRET": f" {SECRET}\n"})) == {"openai"}
    with pytest.raises(ConfigError, match="OPENAI_WEBHOOK_SECRET is not set"):
        receivers_of({"OPENAI_WEBHOOK_SECRET": " "})


@pytest.mark.parametrize("secret", ["whsec_", "whsec_é", "whsec_a"])
def test_a_secret_that_is_none_is_named_and_not_shown(secret: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_WEBHOOK_SECRET does not hold") as caught:
        receivers_of({"OPENAI_WEBHOOK_SECRET": secret})
    assert secret not in str(caught.value)
