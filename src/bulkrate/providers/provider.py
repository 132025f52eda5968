"""The seam between the pipeline and a vendor: facts, a pure wire, and a few effects.

A `Provider` is found by its name through the entry points of group `bulkrate.providers`, so a third party
ships one in its own package. Effects raise the errors of `bulkrate.errors`: `Unreachable` when the provider
could not be asked (the remote state is whatever it was), `OutcomeUnknown` when a create or upload may have
happened, anything else is a definite answer.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol

from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits
from bulkrate.core.outcome import Outcome
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import Output, Request
from bulkrate.core.usage import Usage

_NUMBER = "(?:0|[1-9][0-9]{0,8})"
_SHARD_NUMBER = re.compile(_NUMBER)
_SLICE = re.compile(f"({_NUMBER}):({_NUMBER}):({_NUMBER})")


@dataclass(frozen=True, slots=True)
class Slice:
    """Requests `first` up to `end` of shard `of`: what a shard is that a queue limit cut out of a larger one.

    Where a limit cut depends on what a lost ledger had learned, so the batch says it.
    """

    of: int
    first: int
    end: int

    def __str__(self) -> str:
        return f"{self.of}:{self.first}:{self.end}"

    @classmethod
    def parse(cls, text: object) -> Slice | None:
        """Read it back; None for what is none of ours."""
        found = _SLICE.fullmatch(text) if isinstance(text, str) else None
        return None if found is None else cls(*map(int, found.groups()))


@dataclass(frozen=True, slots=True)
class Tag:
    """What marks a batch as ours in the provider's own records."""

    run: str
    shard: int
    digest: str
    slice: Slice | None = None

    def metadata(self) -> dict[str, str]:
        """The tag as string pairs, for providers that keep metadata on a batch."""
        pairs = {"bulkrate_run": self.run, "bulkrate_shard": str(self.shard), "bulkrate_digest": self.digest}
        return pairs if self.slice is None else {**pairs, "bulkrate_slice": str(self.slice)}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, object] | None) -> Tag | None:
        """Read a tag back; None when the batch is not ours, whatever others keep under our names."""
        fields = metadata or {}
        run, shard, digest = (fields.get(f"bulkrate_{name}") for name in ("run", "shard", "digest"))
        if not (isinstance(run, str) and isinstance(shard, str) and isinstance(digest, str)):
            return None
        if not run or not _SHARD_NUMBER.fullmatch(shard):
            return None
        return cls(run, int(shard), digest, Slice.parse(fields.get("bulkrate_slice")))


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """A batch-level error: the provider's code and message, and the input line (from 1) if it names one."""

    code: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class QueueRefusal:
    """The batch failed before any row ran because the token queue is full; `limit_tokens` if it said so."""

    message: str
    limit_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of results to download: `kind` is `output` or `error`."""

    kind: str
    id: str


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """A provider's batch, in our words. `word` is the provider's own status, for people."""

    id: str
    word: str
    end: BatchEnd | None = None
    tag: Tag | None = None
    queue_refusal: QueueRefusal | None = None
    input_file_id: str | None = None
    results: tuple[ResultFile, ...] = ()
    total: int | None = None
    completed: int | None = None
    failed: int | None = None
    usage: Usage | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    problems: tuple[BatchProblem, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Decoded:
    """One result line: whose it is and how it ended."""

    custom_id: str
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """What a single request got: the status, and the body as a JSON value."""

    status_code: int
    body: object


class Wire(Protocol):
    """The pure half of a dialect."""

    def body(self, request: Request) -> dict[str, object]:
        """The provider's JSON body of a request. Raises `JobError` naming a field it cannot carry."""

    def envelope(self) -> tuple[bytes, bytes, bytes]:
        """What stands before the custom_id, between it and the body, and after the body of a line."""

    def with_cap(self, body: bytes, max_output_tokens: int) -> bytes:
        """The same body with another output cap."""

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        """Read one result line; None when it has no readable custom_id. Never raises on bad input."""

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        """The cap for an output whose longest answer is known in tokens; None where a cap would do harm."""


class Provider(Protocol):
    """A vendor's facts and wire; needs no key and no network."""

    name: str

    def wire(self, model: str, kind: str = "chat") -> Wire:
        """The dialect for requests of this kind (`chat` or `embed`)."""

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        """Dated facts, with the user's overrides from the environment."""

    def context_window(self, model: str) -> int | None:
        """Most tokens of prompt and answer together; None when not known."""

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> Connection:
        """Open the way to the vendor. Raises `ConfigError` when a key or an extra is missing."""


class Connection(Protocol):
    """The effects. SDK retries are off for create: only the submit protocol may send it again."""

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        """One synchronous request on the flex or live lane. A definite no to this request is an answer;
        `QuotaError` and `Unreachable` mean that it may be asked again, `OutcomeUnknown` that it may have
        been answered and billed."""

    async def upload(self, name: str, content: BinaryIO) -> str:
        """Send a shard's lines; returns the file id. An upload whose answer is lost costs nothing."""

    async def create(self, file_id: str, tag: Tag) -> BatchStatus:
        """Begin the batch: the call that costs money. Never retried here."""

    async def find(self, tag: Tag, file_id: str | None, since: datetime) -> BatchStatus | None:
        """Look for a batch with this tag or input file among those created since then.

        One that the token queue refused is never the answer: it did not run, and the same shard may have
        been sent again since. None means "not seen", and is returned only after a whole listing was read.
        """

    async def find_run(self, run: str, since: datetime) -> list[BatchStatus]:
        """All batches with the run's tag among those created since then: the provider as a backup."""

    async def status(self, batch_id: str) -> BatchStatus:
        """Ask how a batch does."""

    def download(self, file: ResultFile) -> AsyncIterator[bytes]:
        """Stream a result file's bytes."""

    async def cancel(self, batch_id: str) -> BatchStatus:
        """Ask to stop a batch; finished rows remain readable."""

    async def delete_file(self, file_id: str) -> None:
        """Delete a file; one that is gone already is no error."""

    async def aclose(self) -> None:
        """Let go of connections."""
