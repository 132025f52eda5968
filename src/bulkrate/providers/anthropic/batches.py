"""Batch objects, and how one of ours is told: by the ids in its results.

A batch has no name and no metadata (SDK 2.12.0), so the tag travels in every custom_id, of which 64
characters are allowed. Behind the 20 that the pipeline gives stand `-`, the shard's digest, and for a piece
of a shard the shard it was cut from and its first request, five base-36 digits each: 63 for every tag.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from bulkrate.core.identity import CUSTOM_ID_LENGTH, NUMBER_LENGTH, base36, parse_custom_id
from bulkrate.core.json_value import count, mapping, moment, words
from bulkrate.core.reconcile import BatchEnd
from bulkrate.providers.provider import BatchStatus, ResultFile, Slice, Tag

ENDED = "ended"
RUNNING = frozenset({"in_progress", "canceling"})

_WHOLE = "_" * (2 * NUMBER_LENGTH)
_SUFFIX = re.compile(r"-([0-9a-f]{32})(?:_{10}|([0-9a-z]{5})([0-9a-z]{5}))")
# Ids in the bytes of result lines, whole or damaged; in a text the quotes would be escaped. The second: ours.
_ID = re.compile(rb'"custom_id"\s*:\s*"')
_OURS = re.compile(rb'"custom_id"\s*:\s*"([0-9a-z]{20}-[0-9a-f]{32}[0-9a-z_]{10})"')


def suffix_of(tag: Tag) -> bytes:
    """What stands behind the 20 characters of a custom_id; of the same length for every tag."""
    cut = tag.slice
    piece = _WHOLE if cut is None else base36(cut.of, NUMBER_LENGTH) + base36(cut.first, NUMBER_LENGTH)
    return f"-{tag.digest}{piece}".encode()


def plain_id(custom_id: str) -> str:
    """The custom_id that the pipeline gave; a stranger's as it is."""
    return custom_id[:CUSTOM_ID_LENGTH] if _SUFFIX.fullmatch(custom_id, CUSTOM_ID_LENGTH) else custom_id


def are_results(results: bytes) -> bool:
    """Whether these are result lines at all: a proxy's page with status 200 is not, and tells nothing."""
    return _ID.search(results) is not None


def tags_in(results: bytes, requests: int) -> list[Tag]:
    """The tags in result lines of a batch of so many requests, most often exactly one."""
    found = (_tag(custom_id.decode(), requests) for custom_id in _OURS.findall(results))
    return list(dict.fromkeys(tag for tag in found if tag is not None))


def _tag(custom_id: str, requests: int) -> Tag | None:
    request = parse_custom_id(custom_id[:CUSTOM_ID_LENGTH])
    suffix = _SUFFIX.fullmatch(custom_id, CUSTOM_ID_LENGTH)
    if request is None or suffix is None:
        return None
    digest, of, first = suffix.groups()
    cut = None if of is None else Slice(int(of, 36), int(first, 36), int(first, 36) + requests)
    return Tag(request.tag, request.shard, digest, cut)


def parse_batch(fields: Mapping[str, Any]) -> BatchStatus:
    """A batch object; never raises, and an object without an id has the id "".

    Its one end is `ended`; how it came to that is in the counts. Those are 0 but for `processing` until then,
    so they are no progress; their sum is the number of requests. An archived batch has lost its results.
    """
    word = words(fields.get("processing_status")) or "unknown"
    counts = {name: count(value) or 0 for name, value in mapping(fields.get("request_counts")).items()}
    total = sum(counts.values())
    batch_id = words(fields.get("id")) or ""
    ended = word == ENDED
    lost = words(fields.get("archived_at")) is not None
    return BatchStatus(
        id=batch_id,
        word=word,
        end=_end(counts) if ended else None,
        strange=not ended and word not in RUNNING,
        # Their documented address follows from the id; `results_url` could lead the key anywhere.
        results=(ResultFile("output", batch_id),) if ended and not lost else (),
        total=count(total) or None,
        completed=counts.get("succeeded", 0) if ended else None,
        failed=_sum(counts, ("errored", "canceled", "expired")) if ended else None,
        created_at=moment(fields.get("created_at")),
        expires_at=moment(fields.get("expires_at")),
    )


def _end(counts: Mapping[str, int]) -> BatchEnd:
    if counts.get("canceled"):
        return BatchEnd.CANCELLED
    return BatchEnd.EXPIRED if counts.get("expired") else BatchEnd.COMPLETED


def _sum(counts: Mapping[str, int], names: Iterable[str]) -> int:
    return sum(counts.get(name, 0) for name in names)
