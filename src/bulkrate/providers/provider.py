"""The seam between the pipeline and a vendor: facts, a pure wire, and a few effects.

A `Provider` is found by its name through the entry points of group `bulkrate.providers`, so a third party
ships one in its own package. Effects raise the errors of `bulkrate.errors`: `Unreachable` when the provider
could not be asked (the remote state is whatever it was), `OutcomeUnknown` when a create or upload may have
happened, anything else is a definite answer.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol, runtime_checkable

from bulkrate.core.identity import TAG_LENGTH
from bulkrate.core.lanes import Lane
from bulkrate.core.limits import Limits, Traits
from bulkrate.core.outcome import Outcome
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import Output, Request
from bulkrate.core.usage import Usage

_NUMBER = "(?:0|[1-9][0-9]{0,8})"
_SHARD_NUMBER = re.compile(_NUMBER)
_FILE_NAME = re.compile(r"([0-9a-z]{10})-([0-9]{5,9})-([0-9a-f]{32})(?:-([0-9.]+))?\.jsonl", re.ASCII)
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

    def file_name(self) -> str:
        """The tag as the name of the shard's input file, for providers that keep no metadata on a batch."""
        cut = "" if self.slice is None else f"-{self.slice.of}.{self.slice.first}.{self.slice.end}"
        return f"{self.run}-{self.shard:05d}-{self.digest}{cut}.jsonl"

    @classmethod
    def from_file_name(cls, name: object) -> Tag | None:
        """Read a tag back from a file's name; None for a file that is not ours."""
        found = _FILE_NAME.fullmatch(name) if isinstance(name, str) else None
        if found is None:
            return None
        run, shard, digest, cut = found.groups()
        part = None if cut is None else Slice.parse(cut.replace(".", ":"))
        return None if cut is not None and part is None else cls(run, int(shard), digest, part)

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


# No tag is wider: what packing reckons with for dialects that write the tag into every line.
WIDEST_TAG = Tag("z" * TAG_LENGTH, 0, "f" * 32, Slice(0, 0, 1))


@dataclass(frozen=True, slots=True)
class Submission:
    """A shard about to become a batch. `open` gives its lines once more, for a dialect that carries them in
    the create call itself; `file_id` is then None."""

    tag: Tag
    file_id: str | None
    requests: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Search:
    """What is known of a batch that may or may not have been created.

    `since` is the time of its create intent less the clocks' skew; `known` are the batches that the ledger
    knows already and that it therefore is not.
    """

    tag: Tag
    file_id: str | None
    requests: int
    since: datetime
    known: frozenset[str] = frozenset()


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
    """A provider's batch, in our words. `word` is the provider's own status, for people.

    `strange` marks a word that the dialect does not know: the batch is polled on, and its end forced when it
    is overdue. `tag` is None where the batch is not ours, or where nobody can tell yet.
    """

    id: str
    word: str
    end: BatchEnd | None = None
    strange: bool = False
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


class NeedsValues(Exception):
    """A body cannot be made with a hole in the place of a text that the dialect takes apart, such as a
    `data:` URL: it is made row by row."""


class Wire(Protocol):
    """The pure half of a dialect."""

    def body(self, request: Request) -> dict[str, object]:
        """The provider's JSON body of a request. Raises `JobError` naming a field it cannot carry, and
        `NeedsValues` where it must see a text that is a hole."""

    def envelope(self, tag: Tag) -> tuple[bytes, bytes, bytes]:
        """What stands before the custom_id, between it and the body, and after the body of a line.

        The sum of the lengths is the same for every tag.
        """

    def dropped(self, request: Request) -> tuple[str, ...]:
        """Fields of the request that the dialect leaves out, each with the reason: said before anything is
        spent."""

    def with_cap(self, body: bytes, max_output_tokens: int) -> bytes:
        """The same body with another output cap."""

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        """Read one result line; None when it has no readable custom_id. Never raises on bad input."""

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        """The cap for an output whose longest answer is known in tokens; None where a cap would do harm."""


@runtime_checkable
class Native(Protocol):
    """A `Wire` whose bodies a job may also write itself."""

    def native(self, raw: Mapping[str, object], model: str) -> dict[str, object]:
        """The body of a request that is in the provider's own words, all but the model."""


class Provider(Protocol):
    """A vendor's facts and wire; needs no key and no network."""

    name: str

    def wire(self, model: str, kind: str = "chat") -> Wire:
        """The dialect for requests of this kind (`chat` or `embed`)."""

    def limits(self, model: str, env: Mapping[str, str]) -> Limits:
        """Dated facts, with the user's overrides from the environment."""

    def traits(self, model: str) -> Traits:
        """Dated facts about what the batch lane does and does not do."""

    def notes(self, env: Mapping[str, str]) -> tuple[str, ...]:
        """What a reader of the quote should know of this environment."""

    def context_window(self, model: str) -> int | None:
        """Most tokens of prompt and answer together; None when not known."""

    async def connect(
        self, model: str, *, kind: str = "chat", env: Mapping[str, str], state_dir: Path
    ) -> Connection:
        """Open the way to the vendor. Raises `ConfigError` when a key or an extra is missing."""


@runtime_checkable
class Configurable(Protocol):
    """A `Provider` whose wire depends on the environment."""

    def configured(self, env: Mapping[str, str]) -> Provider:
        """The provider in this environment."""


class Connection(Protocol):
    """The effects. SDK retries are off for create: only the submit protocol may send it again."""

    async def answer(self, body: bytes, lane: Lane) -> Answer:
        """One synchronous request on the flex or live lane. A definite no to this request is an answer;
        `QuotaError` and `Unreachable` mean that it may be asked again, `OutcomeUnknown` that it may have
        been answered and billed."""

    async def upload(self, name: str, content: BinaryIO) -> str | None:
        """Send a shard's lines; returns the file id, None where the create call carries them. An upload whose
        answer is lost costs nothing."""

    async def create(self, submission: Submission) -> BatchStatus:
        """Begin the batch: the call that costs money. Never retried here."""

    async def find(self, search: Search) -> BatchStatus | None:
        """Look for the batch of a shard in doubt among those created since then.

        One that the token queue refused is never the answer: it did not run, and the same shard may have
        been sent again since. None means "not seen", and is returned only after a whole listing was read.
        Raises `Undecided` while a batch that may be it cannot be told from a stranger's.
        """

    async def find_run(self, run: str, since: datetime, known: frozenset[str]) -> list[BatchStatus]:
        """The run's batches among those created since then, without the `known` ones: the provider as a
        backup. Those without a tag may be the run's, and cannot be told yet."""

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
