"""What a provider keeps and tells: files, batches, rows, refusals; and the seam to a wire dialect."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Final, Protocol

import orjson

from bulkrate.testing import answers
from bulkrate.testing.answers import Answer, TokenCounter
from bulkrate.testing.blob import Blob
from bulkrate.testing.faults import Fate


class Phase(StrEnum):
    """Where a batch is. A dialect translates these into its own words."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({Phase.COMPLETED, Phase.FAILED, Phase.EXPIRED, Phase.CANCELLED})


class Reason(StrEnum):
    """Why a call was turned away; a dialect maps it to a status and an error body."""

    NOT_FOUND = "not_found"
    INVALID = "invalid"
    CONFLICT = "conflict"
    UNAVAILABLE = "unavailable"
    RATE_LIMITED = "rate_limited"
    TOLD = "told"  # a fault names the status


class Refused(Exception):
    """A call the provider turned away, with the provider's own message, parameter and code.

    ``status`` is set where a fault names it (``Reason.TOLD``); ``retry_after_s`` goes into the header.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.reason, self.message, self.param, self.code = reason, message, param, code
        self.status, self.retry_after_s = status, retry_after_s


@dataclass(frozen=True, slots=True)
class Limits:
    """What one batch may hold, and what it leaves behind.

    ``min_requests``: fewer make a batch fail. ``one_file``: answers and errors come in one result file.
    ``lost_at``: ends after which there is none. ``empty_files``: a file without lines is there all the same.
    ``expires``: whether the window closes. ``queue_message``: what is said where the token queue is full.
    """

    max_requests: int
    max_file_bytes: int
    max_embedding_inputs: int | None = None
    min_requests: int = 1
    one_file: bool = False
    lost_at: frozenset[Phase] = frozenset()
    empty_files: bool = False
    expires: bool = True
    queue_message: str = (
        "Enqueued token limit reached for {model} in organization org-misbehaving. Limit: {limit:,} enqueued "
        "tokens. Please try again once some in_progress batches have been completed."
    )


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a whole batch failed; ``line`` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(slots=True)
class Scan:
    """What a single pass over an input file found: compact columns, not parsed requests."""

    model: str = ""
    rows: int = 0
    prompt_tokens: int = 0
    custom_ids: list[str] = field(default_factory=list)
    contents: array[int] = field(default_factory=lambda: array("Q"))
    caps: array[int] = field(default_factory=lambda: array("q"))  # -1: no cap
    structured: bytearray = field(default_factory=bytearray)
    refused: set[int] = field(default_factory=set)  # rows that would be answered 4xx whatever happens
    errors: list[JobError] = field(default_factory=list)

    def add(
        self, custom_id: str, asked: Mapping[str, Any], count_tokens: TokenCounter, *, refused: bool
    ) -> None:
        """Take in a row, its request in neutral words."""
        self.prompt_tokens += count_tokens(asked)
        self.custom_ids.append(custom_id)
        self.contents.append(answers.content_key(asked))
        cap = answers.output_cap(asked)
        self.caps.append(-1 if cap is None else cap)
        self.structured.append(answers.is_structured(asked))
        if refused:
            self.refused.add(self.rows)
        self.rows += 1

    def forget_rows(self) -> None:
        """Drop the columns of a batch that has ended; the totals stay."""
        self.custom_ids, self.contents, self.caps = [], array("Q"), array("q")
        self.structured, self.refused = bytearray(), set()


@dataclass(slots=True)
class Usage:
    """Tokens of one row or of a batch; cached tokens are part of the input tokens."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def add(self, other: Usage) -> None:
        """Add another count to this one."""
        self.input_tokens += other.input_tokens
        self.cached_tokens += other.cached_tokens
        self.output_tokens += other.output_tokens


@dataclass(frozen=True, slots=True)
class RowContext:
    """What a result line needs beside the request: identifiers, the time, and how to answer and count."""

    result_id: str
    request_id: str
    at: int
    refusal_status: int
    answer: Callable[[Mapping[str, Any]], Answer]
    count_tokens: TokenCounter
    show_usage: bool = True


class Codec(Protocol):
    """The pure part of a wire dialect."""

    def scan(
        self,
        lines: Iterable[bytes],
        *,
        endpoint: str,
        limits: Limits,
        models: Sequence[str] | None,
        count_tokens: TokenCounter,
    ) -> Scan:
        """Validate an input file as the provider does, in one pass."""

    def result(self, line: bytes, fate: Fate, context: RowContext) -> tuple[bytes, Usage | None]:
        """The result line of a row that ended as ``fate``, with its usage if it was run."""

    def custom_id(self, line: bytes) -> str:
        """The id of a request line."""

    def renamed(self, line: bytes, custom_id: str) -> bytes:
        """The request line with another id."""


class JsonLines:
    """The part of a ``Codec`` that is the same wherever a line is a JSON object with its id in one field."""

    id_field: ClassVar[str] = "custom_id"

    def custom_id(self, line: bytes) -> str:
        """The id of a request line."""
        return str(orjson.loads(line)[self.id_field])

    def renamed(self, line: bytes, custom_id: str) -> bytes:
        """The request line with another id."""
        return orjson.dumps(orjson.loads(line) | {self.id_field: custom_id})


@dataclass(slots=True)
class StoredFile:
    """A file the provider holds."""

    id: str
    name: str
    purpose: str
    created_at: int
    expires_at: int | None
    blob: Blob


@dataclass(slots=True)
class Batch:
    """A batch; times are unix seconds, counts are rows."""

    id: str
    ordinal: int
    """Which of the batches that could run this is, from 0; -1 for one that can only fail."""
    endpoint: str
    window: str
    metadata: dict[str, str] | None
    input_file_id: str
    created_at: int
    expires_at: int
    blob: Blob
    scan: Scan
    phase: Phase = Phase.VALIDATING
    at: dict[Phase, int] = field(default_factory=dict)
    rows: int = 0
    done: int = 0
    failed: int = 0
    polls: int = 0
    """Steps taken: status polls that were answered and not held back by a fault."""
    asked: int = 0
    """Status calls, answered or not."""
    held_polls: int = 0
    cancelling_polls: int = 0
    released: bool = False
    output_file_id: str | None = None
    error_file_id: str | None = None
    usage: Usage | None = None
    word: str | None = None
    """What the last status call says in place of the phase."""
    output_expires_s: int | None = None
    """When its result files expire, counted from their creation."""
    empty_ids: bool = False
    """Whether a file that is not there has the id ``""``."""
    hidden_lists: int = 0
    """How many more list calls leave it out."""
    foreign: bool = False
    """Whether it is somebody else's: not counted, and never misbehaving."""

    @property
    def ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.phase in ENDED


def no_batch(batch_id: str) -> Refused:
    """What is said of a batch that is not known."""
    return Refused(Reason.NOT_FOUND, f"No batch found with id '{batch_id}'.")


def nearly(metadata: Mapping[str, str] | None, *, first: bool) -> dict[str, str] | None:
    """The metadata of somebody else's batch: the first value, or the last, differs in one character."""
    if not metadata:
        return None
    key = list(metadata)[0 if first else -1]
    return {**metadata, key: another(metadata[key])}


def another(text: str) -> str:
    """A text that differs in its first character."""
    return ("y" if text[:1] == "z" else "z") + text[1:]


def strangers(codec: Codec, lines: Iterable[bytes]) -> Iterable[bytes]:
    """The same requests under ids that are nearly the same."""
    return (codec.renamed(line, another(codec.custom_id(line))) for line in lines)
