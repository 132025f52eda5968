"""Reading result lines of any dialect: values of whatever type, as what they should be. Never raises.

A line was paid for. What the fast decoders will not take (a number too large, damaged UTF-8, NaN, half of a
surrogate pair) goes through `read`, which keeps everything that can be kept.
"""

from __future__ import annotations

from typing import Any

from bulkrate.core.json_value import count, json_of, parsed
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.usage import MOST_TOKENS

_BOM = b"\xef\xbb\xbf"


def read(line: bytes) -> Any:
    """The JSON value of a line by Python's own reader, mended; None for what is no JSON. Bytes that are no
    UTF-8 become U+FFFD."""
    try:
        return parsed(line.removeprefix(_BOM).decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def trusted(outcome: Outcome, line: bytes) -> Outcome:
    """The outcome of a line; an answer whose bytes the way has damaged is none, and its cost is kept."""
    if not outcome.succeeded or _is_utf8(line):
        return outcome
    return Outcome(
        ErrorClass.TRANSIENT,
        "the result line is not valid UTF-8",
        outcome.text,
        outcome.finish_reason,
        outcome.model,
        outcome.usage,
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def tokens(value: Any) -> int:
    """The value if it is a number of tokens that can be, else 0."""
    # Five times a row: what it nearly always is comes first.
    if value is None:
        return 0
    if type(value) is int:
        return value if 0 <= value <= MOST_TOKENS else 0
    return count(value, MOST_TOKENS) or 0


def function_call(call_id: Any, name: Any, arguments: Any) -> dict[str, Any]:
    """A call of a function in the shape that answers with calls have in every dialect."""
    function = {"name": name, "arguments": json_of(arguments or {})}
    named = {"id": call_id} if call_id else {}
    return {**named, "type": "function", "function": function}
