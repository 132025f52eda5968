"""Webhooks of providers: how they are signed (Standard Webhooks 1.0.0), and what each tells of its own.

A provider that sends them has an attribute `webhooks`; the others need nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, runtime_checkable

from bulkrate.errors import ConfigError

# How far the sender's time may be off ours; a message that is older may be one that somebody replays.
TOLERANCE_S = 300
PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class WebhookFormat:
    """One provider's webhooks: the environment variable of the secret, and the batch a message is about.

    `batch_of` gives None for a message about anything else; ValueError for what is no message.
    """

    variable: str
    batch_of: Callable[[bytes], str | None]


@runtime_checkable
class SendsWebhooks(Protocol):
    """A `Provider` that tells when a batch has ended."""

    webhooks: WebhookFormat


class NotGenuine(Exception):
    """Not signed with our secret, or not now."""


class Signature:
    """Tells genuine messages from others."""

    def __init__(self, secret: str) -> None:
        """Raises ValueError for what is no secret, ConfigError when the package for it is missing."""
        try:
            from standardwebhooks import Webhook
        except ImportError:
            raise ConfigError(
                "the standardwebhooks package is not installed", hint="pip install 'bulkrate[webhooks]'"
            ) from None
        if secret in ("", PREFIX):
            raise ValueError("an empty secret")
        # Without the prefix a secret is taken as it is, as OpenAI's own SDK does (openai 3.54.0).
        self._webhook = Webhook(secret if secret.startswith(PREFIX) else secret.encode())

    def check(self, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
        """The message's id if any of its signatures is ours; raises NotGenuine.

        A message carries several while a secret is replaced by another one.
        """
        message_id, timestamp, given = (
            headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")
        )
        if not (message_id and timestamp and given):
            raise NotGenuine("a header is missing: webhook-id, webhook-timestamp or webhook-signature")
        if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 11):
            raise NotGenuine("webhook-timestamp is not a time")
        sent_at = datetime.fromtimestamp(int(timestamp), UTC)
        if abs((now - sent_at).total_seconds()) > TOLERANCE_S:
            raise NotGenuine(f"webhook-timestamp is more than {TOLERANCE_S} s off this clock")
        try:
            ours = self._webhook.sign(message_id, sent_at, body.decode())
        except UnicodeError:
            raise NotGenuine("the body is not UTF-8") from None
        # All of them are compared, and bytes: text that is not ASCII cannot be.
        matches = [hmac.compare_digest(ours.encode(), theirs.encode()) for theirs in given.split(" ")]
        if not any(matches):
            raise NotGenuine("no signature matches")
        return message_id
