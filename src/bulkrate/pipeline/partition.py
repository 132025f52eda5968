"""One partition: its rows into a manifest and stored bodies. The work that is done on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import orjson

from bulkrate.core.problem import Problem
from bulkrate.datasets.content import key_of, row_hash
from bulkrate.datasets.source import BLOCK_ROWS, Block, Portion
from bulkrate.pipeline.digests import scattered
from bulkrate.pipeline.encode import Encoded, Encoder
from bulkrate.pipeline.run_folder import PARTITION_ROWS, RunFolder
from bulkrate.tokens.counter import TokenCounter

HELD_BYTES = 8_000_000
"""Bodies are written out when they are this large together: rows with files in them may be of any size."""


@dataclass(frozen=True, slots=True)
class Checks:
    """Bounds a row is held against. `None`: not known, not checked."""

    context_window: int | None
    output_tokens: int
    line_bytes: int


@dataclass(slots=True)
class AssembledPartition:
    """What is left to do with a partition once its files are written: hold its rows against all others.

    `rejected` holds indexes; `keys` and `fingerprints` the records of `digests.scattered`.
    """

    number: int
    rows: int
    rejected: list[int]
    keys: list[bytes]
    fingerprints: list[bytes]


class PartitionAssembler:
    """Writes partitions; a copy of it works in every worker process.

    `make_counter` makes the token counter where the work is done: a vocabulary cannot be handed over. What
    the counters of `also` say, those of other models, is written beside the manifest. `row_numbers` are the
    numbers of the rows in the whole source, if these are only some of it: they are the keys where no column
    is.
    """

    def __init__(
        self,
        *,
        key: Sequence[str] | None,
        encoder: Encoder,
        make_counter: Callable[[], TokenCounter],
        checks: Checks,
        folder: RunFolder,
        also: Sequence[Callable[[], TokenCounter]] = (),
        row_numbers: Sequence[int] | None = None,
    ) -> None:
        self._key = key
        self._encoder = encoder
        self._make_counter = make_counter
        self._checks = checks
        self._folder = folder
        self._also = also
        self._row_numbers = row_numbers

    def prepare(self) -> None:
        """Load the vocabularies."""
        for make_counter in (self._make_counter, *self._also):
            make_counter().count_texts(["the first count loads the vocabulary"])

    def __call__(self, portions: Iterable[Portion]) -> AssembledPartition:
        """Write the manifest and the bodies of the partition that these rows are."""
        columns = _Columns(also=[[] for _ in self._also])
        counter = self._make_counter()
        remaining = iter(portions)
        first = next(remaining)
        number = first.first // PARTITION_ROWS
        with self._folder.line_writer(number) as write_lines:
            for portion in chain([first], remaining):
                for block in portion.blocks(BLOCK_ROWS):
                    for bodies in self._encode(block, columns, counter):
                        write_lines(bodies)
        self._folder.write_manifest(number, columns.finished())
        if self._also:
            self._folder.write_counts(number, columns.also)
        return columns.result(number)

    def _encode(self, block: Block, columns: _Columns, counter: TokenCounter) -> Iterator[list[bytes]]:
        """The bodies of a block, in lists of not much more than `HELD_BYTES`."""
        rows = block.rows
        base = columns.begin(block.first, len(rows))
        most, encode = self._checks.line_bytes, self._encoder.encode
        hashes, prints, sizes = columns.row_hash, columns.fingerprint, columns.body_bytes
        held = _Held(0)
        for index, values in enumerate(rows):
            at = base + index
            found: Encoded | Problem
            if values is None:
                found = block.problems.get(index) or Problem("unreadable", "the row cannot be read")
            else:
                hashes[at] = row_hash(values)
                found = self._identify(values, at, columns) or encode(values)
            if isinstance(found, Encoded) and len(found.body) > most:
                found = Problem("too_large", f"the request is {len(found.body):,} bytes, over the limit")
            if isinstance(found, Problem):
                columns.reject(at, found, block.where[index])
                held.bodies.append(b"")
                continue
            held.add(index, found)
            prints[at] = found.fingerprint
            sizes[at] = len(found.body)
            if held.size_bytes >= HELD_BYTES:
                yield self._counted(held, block, base, columns, counter)
                held = _Held(index + 1)
        yield self._counted(held, block, base, columns, counter)

    def _counted(
        self, held: _Held, block: Block, base: int, columns: _Columns, counter: TokenCounter
    ) -> list[bytes]:
        """What is held, its prompts counted and those that are too long rejected."""
        for counted_by, make_counter in zip(columns.also, self._also, strict=True):
            for index, tokens in zip(held.sent, self._count(held.chats, make_counter()), strict=True):
                counted_by[base + index] = tokens
        for index, tokens in zip(held.sent, self._count(held.chats, counter), strict=True):
            columns.tokens[base + index] = tokens
            problem = self._too_long(tokens)
            if problem is not None:
                columns.reject(base + index, problem, block.where[index])
                held.bodies[index - held.first] = b""
        return held.bodies

    def _count(self, chats: list[list[tuple[str, str]]], counter: TokenCounter) -> list[int]:
        """Prompt tokens of each request; texts to embed are counted by themselves, without a chat around."""
        if not self._encoder.embeds:
            return counter.count_chats(chats, self._encoder.choice)
        tokens = iter(counter.count_texts([text for chat in chats for _, text in chat]))
        return [sum(next(tokens) for _ in chat) for chat in chats]

    def _identify(self, values: Mapping[str, Any], index: int, columns: _Columns) -> Problem | None:
        """Note the row's key."""
        if self._key is None:
            row = columns.row[index]
            if self._row_numbers is not None:
                row = self._row_numbers[row]
            columns.key[index] = f"[{row + 1}]"
            columns.key_digest[index] = row.to_bytes(16, "big")
            return None
        found = key_of(values, self._key)
        if isinstance(found, Problem):
            return found
        columns.key_digest[index] = found[1]
        columns.key[index] = orjson.dumps([values[name] for name in self._key], default=str).decode()
        return None

    def _too_long(self, tokens: int) -> Problem | None:
        window, output = self._checks.context_window, self._checks.output_tokens
        if window is None or tokens + output <= window:
            return None
        said = f"{tokens:,} {'' if self._encoder.embeds else 'prompt '}tokens"
        if output:
            said += f" and up to {output:,} of answer"
        return Problem("too_long", f"{said} are over the context window of {window:,}")


@dataclass(slots=True)
class _Held:
    """Bodies of a block's rows from index `first` on, and the indexes and texts of those that are sent."""

    first: int
    bodies: list[bytes] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)
    chats: list[list[tuple[str, str]]] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, index: int, encoded: Encoded) -> None:
        self.bodies.append(encoded.body)
        self.sent.append(index)
        self.chats.append(encoded.texts)
        self.size_bytes += len(encoded.body)


@dataclass(slots=True)
class _Columns:
    """The manifest under way, column by column: an object per row would cost as much as its hash."""

    row: list[int] = field(default_factory=list)
    key: list[str | None] = field(default_factory=list)
    key_digest: list[bytes | None] = field(default_factory=list)
    row_hash: list[bytes | None] = field(default_factory=list)
    fingerprint: list[bytes | None] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    body_bytes: list[int] = field(default_factory=list)
    rejected: dict[int, tuple[Problem, str]] = field(default_factory=dict)
    also: list[list[int]] = field(default_factory=list)

    def begin(self, first: int, count: int) -> int:
        """Make room for new rows, of which nothing is known yet; returns the index of the first."""
        base = len(self.row)
        unknown = [None] * count
        self.row.extend(range(first, first + count))
        self.key.extend(unknown)
        self.key_digest.extend(unknown)
        self.row_hash.extend(unknown)
        self.fingerprint.extend(unknown)
        self.tokens.extend([0] * count)
        self.body_bytes.extend([0] * count)
        for counts in self.also:
            counts.extend([0] * count)
        return base

    def reject(self, index: int, problem: Problem, where: str) -> None:
        """The row at `index` is not sent."""
        self.rejected[index] = problem, where
        self.fingerprint[index] = None
        self.body_bytes[index] = 0

    def finished(self) -> dict[str, list[Any]]:
        """The manifest's columns."""
        codes: list[str | None] = [None] * len(self.row)
        messages, places = codes.copy(), codes.copy()
        for index, (problem, where) in self.rejected.items():
            codes[index], messages[index], places[index] = problem.code, problem.message, where
        return {
            "row": self.row,
            "key": self.key,
            "key_digest": self.key_digest,
            "row_hash": self.row_hash,
            "fingerprint": self.fingerprint,
            "tokens": self.tokens,
            "body_bytes": self.body_bytes,
            "reject_code": codes,
            "reject_message": messages,
            "where": places,
        }

    def result(self, number: int) -> AssembledPartition:
        """What the rows are held against each other by: those that are sent."""
        return AssembledPartition(
            number=number,
            rows=len(self.row),
            rejected=sorted(self.rejected),
            keys=scattered(self._sent(self.key_digest)),
            fingerprints=scattered(self._sent(self.fingerprint)),
        )

    def _sent(self, digests: list[bytes | None]) -> Iterable[tuple[bytes, int]]:
        for digest, fingerprint, row in zip(digests, self.fingerprint, self.row, strict=True):
            if digest is not None and fingerprint is not None:
                yield digest, row
