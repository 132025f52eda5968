"""Google's error answers in our words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bulkrate.core.json_value import mapping
from bulkrate.errors import AuthError, NotFoundError, ProviderError, RequestRefused
from bulkrate.providers.failures import Said
from bulkrate.providers.google.codes import code_name

_DELAY = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)s")
# The quota of the free tier, which has no batches: waiting does not help.
_NO_QUOTA = re.compile(r"\blimit: 0(?![.\d])")
# A file that is not there is "forbidden": nobody is to learn which files exist.
_NO_FILE = re.compile("may not exist|permission to access the file", re.IGNORECASE)


def read_error(status: int, body: Any) -> Said:
    """A `google.rpc.Status` with its details.

    A 429 on create is the same general sentence whichever quota it is, and comes below the published ones too
    (python-genai issue 1901, js-genai 1264): it is waited for, and no shard is cut on the strength of it.
    """
    error = mapping(mapping(body[0] if isinstance(body, list) and body else body).get("error"))
    message = str(error.get("message") or (body if isinstance(body, str) else "") or "no reason given")
    given = error.get("details")
    details = [item for item in (given if isinstance(given, list) else []) if isinstance(item, Mapping)]
    return Said(
        code_name(error) or str(status),
        message,
        no_money=status == 429 and _NO_QUOTA.search(message) is not None,
        bad_key=any(str(detail.get("reason")).startswith("API_KEY_") for detail in details),
        retry_after_s=next(filter(None, (_delay(detail.get("retryDelay")) for detail in details)), None),
    )


def _delay(text: Any) -> float | None:
    found = _DELAY.fullmatch(text) if isinstance(text, str) else None
    return float(found[1]) if found else None


def about_a_file(error: ProviderError) -> ProviderError:
    """What a refusal means where a file was named: one that is gone is "forbidden" here."""
    if isinstance(error, AuthError) and _NO_FILE.search(error.message):
        return NotFoundError(error.message, code=error.code)
    return error


def about_a_model(error: ProviderError) -> ProviderError:
    """A model that is not there is a definite no, and not a file that a listing has yet to show."""
    if isinstance(error, NotFoundError) and "models/" in error.message:
        return RequestRefused(error.message, code="no_model", hint="check the model's name")
    return error
