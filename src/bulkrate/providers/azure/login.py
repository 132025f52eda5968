"""What opens the way: a key, a token, or Entra's login, in the order of the SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from anyio import to_thread

from bulkrate.errors import AuthError, BulkrateError, ConfigError, Unreachable
from bulkrate.providers.http import checked_key

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

AD_TOKEN, API_KEY = "AZURE_OPENAI_AD_TOKEN", "AZURE_OPENAI_API_KEY"
# Another one in sovereign clouds.
SCOPE, DEFAULT_SCOPE = "BULKRATE_AZURE_SCOPE", "https://cognitiveservices.azure.com/.default"

# Gives a token that is good for some minutes; may block on the network.
TokenProvider = Callable[[], str]


class Bearer:
    """The header with a token, made anew for every call: a token lasts an hour, a run lasts days.

    That no token can be had says for certain that the call was not made.
    """

    def __init__(self, tokens: TokenProvider) -> None:
        self._tokens = tokens
        self.last = ""

    async def __call__(self) -> Mapping[str, str]:
        try:
            self.last = await to_thread.run_sync(self._tokens)
        except BulkrateError:
            raise
        except Exception as error:
            raise Unreachable(f"login: {type(error).__name__}: no token could be had") from error
        return {"Authorization": f"Bearer {self.last}"}


def static_token(env: Mapping[str, str]) -> str | None:
    """The token that the environment holds, which counts before a key."""
    given = env.get(AD_TOKEN)
    return checked_key(given, AD_TOKEN) if given else None


def api_key(env: Mapping[str, str]) -> str | None:
    """The key that the environment holds."""
    given = env.get(API_KEY)
    return checked_key(given, API_KEY) if given else None


def entra_tokens(env: Mapping[str, str]) -> TokenProvider:
    """Tokens of whatever login is there: environment, managed identity, `az login`, ….

    Raises `ConfigError` when the extra is not installed.
    """
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError:
        raise ConfigError(
            f"neither {AD_TOKEN} nor {API_KEY} is set",
            code="no_key",
            hint=f"export {API_KEY}=…, or `pip install 'bulkrate[azure]'` for Entra's login",
        ) from None
    return tokens_of(DefaultAzureCredential(), env.get(SCOPE, "").strip() or DEFAULT_SCOPE)


def tokens_of(credential: TokenCredential, scope: str) -> TokenProvider:
    """Tokens of a credential, kept until shortly before they end. Raises `AuthError` where it has none."""
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import get_bearer_token_provider

    tokens = get_bearer_token_provider(credential, scope)

    def token() -> str:
        try:
            return tokens()
        except ClientAuthenticationError as error:
            reason = " ".join(str(error.message).split("\n", 1)[0].split())
            raise AuthError(f"Entra's login: {reason}", hint=f"`az login`, or export {API_KEY}=…") from error

    return token
