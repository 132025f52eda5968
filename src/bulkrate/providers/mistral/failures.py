"""What Mistral says when it says no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulkrate.providers.failures import Said


def read_error(status: int, body: Any) -> Said:
    """Read an error answer."""
    code, message = code_and_message(body)
    return Said(code or str(status), message or "no reason given")


def code_and_message(body: Any, depth: int = 4) -> tuple[str, str]:
    """The code and the message of an error, in whichever of its shapes it comes; "" where there is none.

    `{"object": "error", "message": …, "type": …, "code": …}` from the API itself, `{"detail": …}` from the
    check of fields (a text, or a list of what is wrong where), and the latter as the former's `message`.
    What is nested deeper than `depth` is not read.
    """
    if isinstance(body, str):
        return "", body
    if isinstance(body, list):
        return "", "; ".join(filter(None, map(_complaint, body)))
    if not isinstance(body, Mapping) or not depth:
        return "", ""
    if "error" in body:
        return code_and_message(body["error"], depth - 1)
    code = next((str(value) for name in ("type", "code") if (value := body.get(name))), "")
    _, message = code_and_message(body.get("message") or body.get("detail") or body.get("msg"), depth - 1)
    return code, message


def _complaint(item: Any) -> str:
    if not isinstance(item, Mapping):
        return item if isinstance(item, str) else ""
    place = item.get("loc")
    where = ".".join(map(str, place)) if isinstance(place, list) else ""
    return ": ".join(part for part in (where, str(item.get("msg") or "")) if part)
