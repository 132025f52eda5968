"""Whose webhooks can be received here: the providers whose secret is in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bulkrate.errors import ConfigError
from bulkrate.providers.registry import get_provider, provider_names
from bulkrate.providers.webhook import SendsWebhooks, Signature, WebhookFormat


@dataclass(frozen=True, slots=True)
class Receiver:
    """One provider's format, and the signature its messages must have."""

    format: WebhookFormat
    signature: Signature


def receivers_of(env: Mapping[str, str]) -> dict[str, Receiver]:
    """By provider. Raises ConfigError when no secret is set, or one is none."""
    providers = {name: get_provider(name) for name in provider_names()}
    formats = {name: item.webhooks for name, item in providers.items() if isinstance(item, SendsWebhooks)}
    found = {}
    for name, form in formats.items():
        secret = env.get(form.variable, "").strip()
        if secret:
            try:
                found[name] = Receiver(form, Signature(secret))
            except ValueError:
                raise ConfigError(
                    f"{form.variable} does not hold a webhook secret",
                    code="webhook_secret",
                    hint="set it to the whole secret that the provider showed once, whsec_…",
                ) from None
    if not found:
        variables = ", ".join(form.variable for form in formats.values())
        raise ConfigError(
            f"webhooks cannot be told from forgeries without a secret: {variables} is not set",
            code="no_webhook_secret",
            hint="make a webhook endpoint at the provider and export the secret it shows: whsec_…",
        )
    return found
