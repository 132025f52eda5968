"""The OpenAI SDK's exceptions in our words."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio

from bulkrate.errors import BulkrateError, OutcomeUnknown, ProviderError
from bulkrate.providers.failures import Said, refusal, unreachable
from bulkrate.providers.openai.wire import QUEUE_CODE, queue_refusal

# "Too many requests" that no waiting cures: the account's money is at its end.
NO_MONEY = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})
ADDRESS = "OPENAI_BASE_URL"


@contextmanager
def translated(call: str) -> Iterator[None]:
    """Turn the SDK's exceptions into ours; `create` and `upload` keep their doubt."""
    import httpx2
    import openai

    try:
        yield
    except BulkrateError:
        raise
    except openai.APIStatusError as error:
        # The SDK's exception holds the answer's body, which may quote the request or the key.
        raise _refusal(error, call) from None
    except openai.APIConnectionError as error:
        raise unreachable(error.__cause__ or error, call, check=ADDRESS) from error
    except (httpx2.HTTPError, ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        # While a body is streamed the SDK does not wrap.
        raise unreachable(error, call, check=ADDRESS) from error
    except openai.APIError as error:
        raise OutcomeUnknown(f"{call}: {type(error).__name__}") from error
    except Exception as error:
        if call == "create":  # whatever it is, it does not prove that nothing was created
            raise OutcomeUnknown(f"{call}: {type(error).__name__}") from error
        raise


def _refusal(error: Any, call: str) -> ProviderError:
    body: Mapping[str, Any] = error.body if isinstance(error.body, Mapping) else {}
    code = str(body.get("code") or body.get("type") or error.status_code)
    message = body.get("message") or (error.body if isinstance(error.body, str) else "") or error.message
    full = error.status_code in (400, 429) and QUEUE_CODE in f"{code} {message}"
    said = Said(code, str(message), code in NO_MONEY, queue_refusal(str(message)) if full else None)
    secret = error.request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    return refusal(call, error.status_code, said, error.response.headers, secret)
