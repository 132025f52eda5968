"""What a failed call means: the SDK's exceptions in our words.

The question behind every branch: may the call have had its effect? Only where it certainly has not is the
answer anything but `OutcomeUnknown` for a create or an upload.
"""

from __future__ import annotations

import json
import math
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import anyio

from bulkrate.errors import (
    AuthError,
    BulkrateError,
    NotFoundError,
    OutcomeUnknown,
    ProviderError,
    QuotaError,
    RequestRefused,
    Unreachable,
)
from bulkrate.providers.openai.wire import QUEUE_CODE, queue_refusal

WITH_EFFECT = frozenset({"create", "upload"})
# A single request that is cut off may have been answered and billed; one that gets a 5xx was not.
ANSWER = "answer"
# "Too many requests" that no waiting cures: the account's money is at its end.
NO_MONEY = frozenset({"insufficient_quota", "billing_not_active", "billing_hard_limit_reached"})
LONGEST_RETRY_AFTER_S = 86_400.0
LONGEST_MESSAGE = 500


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object of a 2xx answer. Raises `OutcomeUnknown` for anything else."""
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        # A proxy's error page with status 200: the call may well have had its effect.
        raise OutcomeUnknown("the provider's answer is not JSON")
    return fields


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
        raise _unreachable(error.__cause__ or error, call) from error
    except (httpx2.HTTPError, ssl.SSLError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise _unreachable(error, call) from error  # while a body is streamed the SDK does not wrap
    except openai.APIError as error:
        raise OutcomeUnknown(f"{call}: {type(error).__name__}") from error
    except Exception as error:
        if call == "create":  # whatever it is, it does not prove that nothing was created
            raise OutcomeUnknown(f"{call}: {type(error).__name__}") from error
        raise


def _unreachable(cause: BaseException, call: str) -> ProviderError:
    import httpx2

    reason = f"{call}: {type(cause).__name__}"
    hint = "check the network, the proxy and OPENAI_BASE_URL"
    # A connection that was never made carried nothing: no doubt. (Unless it was to follow a "see other",
    # which is a GET, and which a server sends when the work is done.)
    never_made = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol)
    if never_made and not (call in WITH_EFFECT and _method(cause) == "GET"):
        return Unreachable(f"{reason}: could not connect", hint=hint)
    if call in WITH_EFFECT or call == ANSWER:
        return OutcomeUnknown(reason, hint=hint)
    return Unreachable(reason, hint=hint)


def _method(error: Any) -> str | None:
    try:
        return str(error.request.method)
    except (AttributeError, RuntimeError):  # raised by httpx2 where no request is known
        return None


def _refusal(error: Any, call: str) -> ProviderError:
    status: int = error.status_code
    body: Mapping[str, Any] = error.body if isinstance(error.body, Mapping) else {}
    code = str(body.get("code") or body.get("type") or status)
    message = body.get("message") or (error.body if isinstance(error.body, str) else "") or error.message
    said = _public(f"{call}: the provider answered {status}: {message}", error)
    retry_after_s = _retry_after_s(error.response.headers)
    if status in (401, 403):
        return AuthError(said, code=code, hint="check the API key and what its project may do")
    if status == 402 or code in NO_MONEY:
        return AuthError(said, code=code, hint="the account has no plan or credit for batches")
    if status == 404:
        return NotFoundError(said, code=code)
    full = status in (400, 429) and QUEUE_CODE in f"{code} {said}"
    if status == 429 or full:
        limit = queue_refusal(said).limit_tokens
        hint = f"queue limit {limit} tokens" if limit else None
        return QuotaError(
            said, code=code, hint=hint, retry_after_s=retry_after_s, queue_full=full, limit_tokens=limit
        )
    if status >= 500 or status in (408, 409):
        kind = OutcomeUnknown if call in WITH_EFFECT else Unreachable
        return kind(said, code=code, retry_after_s=retry_after_s)
    return RequestRefused(said, code=code)


def _public(text: str, error: Any) -> str:
    """`text` on one line, of bearable length, and without the key, should the server echo it."""
    secret = error.request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    if secret:
        text = text.replace(secret, "…")
    text = " ".join(text.split())
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    try:
        seconds = float(headers.get("retry-after") or "nan")
    except ValueError:
        return None  # an HTTP date: our own back-off is good enough
    return min(seconds, LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) and seconds >= 0 else None
