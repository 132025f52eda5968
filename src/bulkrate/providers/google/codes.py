"""Google's error codes: canonical names, whether they come as name, as gRPC number or as HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# google.rpc.Code.
_NUMBERS = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    6: "ALREADY_EXISTS",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    15: "DATA_LOSS",
    16: "UNAUTHENTICATED",
}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def code_name(error: Mapping[str, Any]) -> str:
    """The name of a `google.rpc.Status`; "" where it has neither code nor status."""
    status, code = error.get("status"), error.get("code")
    if isinstance(status, str) and status:
        return status
    if isinstance(code, str) and not code.isdecimal():
        return code
    try:
        number = int(code or 0)
    except (TypeError, ValueError):
        number = 0
    return _NUMBERS.get(number) or _STATUSES.get(number) or (str(number) if number else "")


def whole(value: Any) -> Any:
    """A number as a number, though it be written as text, which is how Google writes those of 64 bits."""
    digits = isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit()
    return int(value) if digits else value
