"""Batches as Google tells of them: long-running operations, and the tag in their display names. Pure.

Facts: google-genai 3.4.0 (its own mapping leaves out `error` and `batchStats`), the batch-api page (copy of
2026), and operations quoted in public issues, where counts are texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bulkrate.core.identity import TAG_LENGTH
from bulkrate.core.json_value import count, mapping, moment, words
from bulkrate.core.reconcile import BatchEnd
from bulkrate.providers.google.codes import code_name, whole
from bulkrate.providers.provider import BatchProblem, BatchStatus, QueueRefusal, ResultFile, Tag

# States come as BATCH_STATE_… and as JOB_STATE_….
_PREFIX = re.compile("^(?:BATCH|JOB)_STATE_")
ENDS = {
    "SUCCEEDED": BatchEnd.COMPLETED,
    "PARTIALLY_SUCCEEDED": BatchEnd.COMPLETED,  # which the SDK's own `done` does not take for an end
    "FAILED": BatchEnd.FAILED,
    "CANCELLED": BatchEnd.CANCELLED,
    "EXPIRED": BatchEnd.EXPIRED,
}
RUNNING = frozenset({"PENDING", "QUEUED", "RUNNING", "UPDATING", "CANCELLING"})
# Failures of the service: they say nothing against the requests.
_SERVICE = frozenset({"INTERNAL", "UNAVAILABLE", "UNKNOWN", "ABORTED", "DEADLINE_EXCEEDED", "DATA_LOSS"})

# No length is published for display names (Vertex: 128 characters): ours has 93 at most.
_NAME = re.compile(f"bulkrate-([0-9a-z]{{{TAG_LENGTH}}})-([0-9]+)-([0-9a-f]+)(?:-([0-9:]+))?")


def display_name(tag: Tag) -> str:
    """The tag as a display name: the only mark that a batch can bear."""
    cut = "" if tag.slice is None else f"-{tag.slice}"
    return f"bulkrate-{tag.run}-{tag.shard}-{tag.digest}{cut}"


def tag_of(name: object) -> Tag | None:
    """Read it back; None for what is none of ours."""
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        return None
    run, shard, digest, cut = found.groups()
    tag = Tag.from_metadata(
        {"bulkrate_run": run, "bulkrate_shard": shard, "bulkrate_digest": digest, "bulkrate_slice": cut}
    )
    return None if tag is None or (cut is not None and tag.slice is None) else tag


def parse_batch(operation: Mapping[str, Any]) -> BatchStatus:
    """An operation; never raises. What has another type than it should have is read as absent.

    An unknown state means "not ended", unless the operation is `done`. One that has succeeded and is neither
    `done` nor has any results is not quite there yet: its rows would be taken for missing and paid again.
    """
    metadata, response = mapping(operation.get("metadata")), mapping(operation.get("response"))
    batch_id = words(operation.get("name")) or words(metadata.get("name")) or ""
    done, error = operation.get("done") is True, mapping(operation.get("error"))
    word = words(metadata.get("state")) or "unknown"
    state = _PREFIX.sub("", word)
    results = _results(batch_id, mapping(metadata.get("output")), response)
    end = ENDS.get(state)
    stats = mapping(metadata.get("batchStats"))
    total, completed, failed = (
        _count(stats.get(f"{name}equestCount", 0)) if stats else None  # zeros are left out
        for name in ("r", "successfulR", "failedR")
    )
    if end is BatchEnd.COMPLETED and not done and not results and completed != 0:
        end = None
    elif end is None and done:
        end = BatchEnd.FAILED if error else BatchEnd.COMPLETED
    problem = _problem(error) if error else None
    return BatchStatus(
        id=batch_id,
        word=word,
        end=end,
        strange=end is None and state not in RUNNING | set(ENDS),
        tag=tag_of(metadata.get("displayName")),
        queue_refusal=_queue_refusal(end, error, nothing_ran=not completed and not results),
        input_file_id=words(mapping(metadata.get("inputConfig")).get("fileName")),
        results=results,
        total=total,
        completed=completed,
        failed=failed,
        created_at=moment(metadata.get("createTime")),
        problems=() if problem is None else (problem,),
    )


def inlined(operation: Mapping[str, Any]) -> list[Any]:
    """The results of a batch that carries them in its own record."""
    for holder in (operation.get("response"), mapping(operation.get("metadata")).get("output")):
        for name in ("inlinedResponses", "inlinedEmbedContentResponses"):
            found = mapping(mapping(holder).get(name)).get("inlinedResponses")
            if isinstance(found, list) and found:
                return found
    return []


def _results(batch_id: str, *holders: Mapping[str, Any]) -> tuple[ResultFile, ...]:
    for holder in holders:
        if name := words(holder.get("responsesFile")):
            return (ResultFile("output", name),)
    for holder in holders:
        if "inlinedResponses" in holder or "inlinedEmbedContentResponses" in holder:
            return (ResultFile("output", batch_id),)
    return ()


def _problem(error: Mapping[str, Any]) -> BatchProblem:
    code = code_name(error)
    return BatchProblem(
        "internal_error" if code in _SERVICE else code or "unknown", words(error.get("message")) or ""
    )


def _queue_refusal(
    end: BatchEnd | None, error: Mapping[str, Any], *, nothing_ran: bool
) -> QueueRefusal | None:
    """A batch that failed for want of quota before any row ran goes again when there is room."""
    if end is not BatchEnd.FAILED or code_name(error) != "RESOURCE_EXHAUSTED" or not nothing_ran:
        return None
    return QueueRefusal(words(error.get("message")) or "RESOURCE_EXHAUSTED")


def _count(value: Any) -> int | None:
    return count(whole(value))
