"""A result line is OpenAI's; what a filter says is Azure's. Never raises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from bulkrate.core.outcome import ErrorClass
from bulkrate.providers.openai.results import decode_line as decode_openai_line
from bulkrate.providers.provider import Decoded
from bulkrate.providers.result_json import read

_FOUND_IN = ("content_filter_results", "content_filter_result", "prompt_filter_results")
_DEPTH = 8


def decode_line(line: bytes, *, label: str | None) -> Decoded | None:
    """Read one line; a refusal names the categories that the filter found."""
    decoded = decode_openai_line(line, label=label)
    if decoded is None or decoded.outcome.error is not ErrorClass.REFUSED:
        return decoded
    found = sorted(set(_categories(read(line), _DEPTH, within=False)))
    if not found:
        return decoded
    outcome = decoded.outcome
    return Decoded(
        decoded.custom_id,
        msgspec.structs.replace(outcome, message=f"{outcome.message} ({', '.join(found)})"),
    )


def _categories(value: Any, depth: int, *, within: bool) -> Iterator[str]:
    """Names of the categories that are marked as filtered, wherever a filter's results stand."""
    if depth == 0:
        return
    if isinstance(value, list):
        for item in value:
            yield from _categories(item, depth - 1, within=within)
    if not isinstance(value, dict):
        return
    for name, item in value.items():
        if within and isinstance(item, dict) and item.get("filtered") is True:
            severity = item.get("severity")
            yield f"{name}: {severity}" if isinstance(severity, str) else name
        yield from _categories(item, depth - 1, within=within or name in _FOUND_IN)
