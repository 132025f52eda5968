"""What a failed call means, whoever was called: HTTP's words in ours.

The question behind every branch: may the call have had its effect? Only where it certainly has not is the
answer anything but `OutcomeUnknown` for a create or an upload.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bulkrate.core.json_value import parsed, words
from bulkrate.errors import (
    AuthError,
    NotFoundError,
    OutcomeUnknown,
    ProviderError,
    QuotaError,
    RequestRefused,
    Unreachable,
)
from bulkrate.providers.provider import QueueRefusal

WITH_EFFECT = frozenset({"create", "upload"})
# A single request that is cut off may have been answered and billed; one that gets a 5xx was not.
ANSWER = "answer"
# A definite no to one single request: its own fault, not the way's.
ROW_FAULTS = frozenset({400, 413, 415, 422})
LONGEST_RETRY_AFTER_S = 86_400.0
LONGEST_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Said:
    """What an error answer says: the provider's code and message, and what only its dialect can tell.

    `no_money` marks a refusal that no waiting cures, `bad_key` a key that is refused, whatever the status;
    `queue` a token queue that is full, `busy` any other "not now"; `retry_after_s` the wait that the body
    asks for, before the header's.
    """

    code: str
    message: str
    no_money: bool = False
    queue: QueueRefusal | None = None
    bad_key: bool = False
    retry_after_s: float | None = None
    busy: bool = False


def json_object(content: bytes) -> dict[str, Any]:
    """The JSON object of a 2xx answer, mended. Raises `OutcomeUnknown` for anything else."""
    try:
        fields = parsed(content.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        # A proxy's error page with status 200: the call may well have had its effect.
        raise OutcomeUnknown("the provider's answer is not JSON")
    return fields


def refusal(
    call: str, status: int, said: Said, headers: Mapping[str, str], secret: str = ""
) -> ProviderError:
    """The error for an answer of status 4xx or 5xx to `call`; `secret` is kept out of its message."""
    code, text = (
        words(said.code) or "",
        _public(f"{call}: the provider answered {status}: {said.message}", secret),
    )
    retry_after_s = retry_after(headers) if said.retry_after_s is None else said.retry_after_s
    if status == 402 or said.no_money:
        return AuthError(text, code=code, hint="the account has no plan or credit for batches")
    if status in (401, 403) or said.bad_key:
        return AuthError(text, code=code, hint="check the API key and what its project may do")
    if status == 404:
        return NotFoundError(text, code=code)
    if status == 429 or said.busy or said.queue is not None:
        limit = said.queue.limit_tokens if said.queue is not None else None
        return QuotaError(
            text,
            code=code,
            hint=f"queue limit {limit} tokens" if limit else None,
            retry_after_s=retry_after_s,
            queue_full=said.queue is not None,
            limit_tokens=limit,
        )
    if status >= 500 or status in (408, 409):
        kind = OutcomeUnknown if call in WITH_EFFECT else Unreachable
        return kind(text, code=code, retry_after_s=retry_after_s)
    return RequestRefused(text, code=code)


def unreachable(cause: BaseException, call: str, *, check: str) -> ProviderError:
    """The error for a call that got no answer; `check` names the variable that holds the address."""
    import httpx2

    reason = f"{call}: {type(cause).__name__}"
    hint = f"check the network, the proxy and {check}"
    # A connection that was never made carried nothing: no doubt. (Unless it was to follow a "see other",
    # which is a GET, and which a server sends when the work is done.)
    never_made = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.UnsupportedProtocol)
    if never_made and not (call in WITH_EFFECT and _method(cause) == "GET"):
        return Unreachable(f"{reason}: could not connect", hint=hint)
    if call in WITH_EFFECT or call == ANSWER:
        return OutcomeUnknown(reason, hint=hint)
    return Unreachable(reason, hint=hint)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The wait a server asks for, in seconds; None where it names none, or a date."""
    try:
        seconds = float(headers.get("retry-after") or "nan")
    except ValueError:
        return None  # an HTTP date: our own back-off is good enough
    return min(seconds, LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) and seconds >= 0 else None


def tells_its_end(http_version: str, headers: Mapping[str, str]) -> bool:
    """Whether the protocol itself tells a whole body from one that was cut."""
    return (
        not http_version.startswith("HTTP/1") or "content-length" in headers or "transfer-encoding" in headers
    )


def _method(error: Any) -> str | None:
    try:
        return str(error.request.method)
    except (AttributeError, RuntimeError):  # raised by httpx2 where no request is known
        return None


def _public(text: str, secret: str) -> str:
    """`text` on one line, of bearable length, printable, and without the key, should the server echo it."""
    if secret:
        text = text.replace(secret, "…")
    text = " ".join((words(text) or "").split())
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"
