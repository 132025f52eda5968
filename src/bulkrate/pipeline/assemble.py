"""Assemble: the rows of the source into requests, partition by partition.

Each partition leaves two files: its manifest and its encoded bodies. What concerns single rows is decided
here (unreadable, no key, undefined column, empty prompt, too long); what concerns rows against each other
is decided by `check`, from digests that are set aside in bucket files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from bulkrate.core.problem import Problem
from bulkrate.core.request import Request, canonical_bytes, digest_of, fingerprint, split
from bulkrate.core.vector import Vector
from bulkrate.datasets.content import key_of, row_hash
from bulkrate.datasets.source import Block, Source
from bulkrate.pipeline.digests import DigestBuckets
from bulkrate.pipeline.run_folder import ManifestRow, RunFolder
from bulkrate.providers.provider import Wire
from bulkrate.tokens.counter import TokenCounter

PARTITION_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class Encoded:
    """A row's request, ready to send: body, fingerprint, and its texts for counting."""

    body: bytes
    fingerprint: bytes
    texts: list[tuple[str, str]]


class Encoder(Protocol):
    """Turns a source row into an encoded request."""

    choice: Sequence[str]

    def encode(self, row: Mapping[str, Any]) -> Encoded | Problem:
        """The row's request, or why it has none."""


class TemplateEncoder:
    """Rows through a job's template: a join and a hash each, thanks to the holes."""

    def __init__(self, template: Any, wire: Wire, choice: Sequence[str]) -> None:
        self.choice = choice
        self._template = template
        self._body = split(orjson.dumps(wire.body(template.request)))
        self._canonical = split(canonical_bytes(template.request))

    def encode(self, row: Mapping[str, Any]) -> Encoded | Problem:
        values = self._template.render(row)
        if isinstance(values, Problem):
            return values
        strings = [orjson.dumps(value) for value in values]
        return Encoded(
            body=self._body.fill(strings),
            fingerprint=digest_of(self._canonical.parts(strings)),
            texts=self._template.texts(values),
        )


class LineEncoder:
    """Rows that are requests already: a ready-made OpenAI batch file."""

    choice: Sequence[str] = ()

    def __init__(self, template: Any, wire: Wire) -> None:
        self._template = template
        self._wire = wire

    def encode(self, row: Mapping[str, Any]) -> Encoded | Problem:
        request = self._template.request_for_row(row)
        if isinstance(request, Problem):
            return request
        return Encoded(
            body=orjson.dumps(self._wire.body(request)),
            fingerprint=fingerprint(request),
            texts=_texts(request),
        )


def _texts(request: Request) -> list[tuple[str, str]]:
    if request.kind == "embed":
        return [("user", text) for text in request.inputs]
    return [(message.role, text) for message in request.messages for text in message.texts()]


@dataclass(frozen=True, slots=True)
class Checks:
    """Bounds a row is held against. `None`: not known, not checked."""

    context_window: int | None
    output_tokens: int
    line_bytes: int


@dataclass(slots=True)
class Assembled:
    """What assembly leaves: counts, and the partitions' vectors before rows are held against each other."""

    rows: int
    vectors: list[Vector]


def assemble(
    source: Source,
    *,
    key: Sequence[str] | None,
    encoder: Encoder,
    counter: TokenCounter,
    checks: Checks,
    folder: RunFolder,
    keys: DigestBuckets,
    fingerprints: DigestBuckets,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Assembled:
    """Write the manifest and bodies of every partition; bounded memory, deterministic."""
    vectors: list[Vector] = []
    total = 0
    for partition, block in enumerate(source.blocks(PARTITION_ROWS)):
        rows, bodies = _partition(block, key, encoder, counter, checks)
        vector = Vector(len(rows))
        for index, row in enumerate(rows):
            if row.fingerprint is None:
                vector.reject(index)
                continue
            assert row.key_digest is not None
            keys.add(row.key_digest, row.row)
            fingerprints.add(row.fingerprint, row.row)
        folder.write_manifest(partition, rows)
        folder.write_lines(partition, bodies)
        vectors.append(vector)
        total += len(rows)
        on_progress(total)
    return Assembled(total, vectors)


def _partition(
    block: Block, key: Sequence[str] | None, encoder: Encoder, counter: TokenCounter, checks: Checks
) -> tuple[list[ManifestRow], list[bytes]]:
    rows: list[ManifestRow] = []
    bodies: list[bytes] = []
    texts: list[list[tuple[str, str]]] = []
    counted: list[int] = []
    for index, values in enumerate(block.rows):
        row = ManifestRow(block.first + index)
        rows.append(row)
        bodies.append(b"")
        encoded = _encode(row, values, block.problems.get(index), key, encoder)
        if isinstance(encoded, Problem):
            _reject(row, encoded, block.where[index])
        elif len(encoded.body) > checks.line_bytes:
            problem = Problem("too_large", f"the request is {len(encoded.body):,} bytes, over the limit")
            _reject(row, problem, block.where[index])
        else:
            row.fingerprint = encoded.fingerprint
            row.body_bytes = len(encoded.body)
            bodies[-1] = encoded.body
            texts.append(encoded.texts)
            counted.append(index)
    for index, tokens in zip(counted, counter.count_chats(texts, encoder.choice), strict=True):
        row = rows[index]
        row.tokens = tokens
        window = checks.context_window
        if window is not None and tokens + checks.output_tokens > window:
            said = f"{tokens:,} prompt tokens"
            if checks.output_tokens:
                said += f" and up to {checks.output_tokens:,} of answer"
            problem = Problem("too_long", f"{said} are over the context window of {window:,}")
            _reject(row, problem, block.where[index])
            row.fingerprint = None
            row.body_bytes = 0
            bodies[index] = b""
    return rows, bodies


def _encode(
    row: ManifestRow,
    values: Mapping[str, Any] | None,
    problem: Problem | None,
    key: Sequence[str] | None,
    encoder: Encoder,
) -> Encoded | Problem:
    if values is None:
        return problem or Problem("unreadable", "the row cannot be read")
    row.row_hash = row_hash(values)
    if key is None:
        row.key = str([row.row + 1])
        row.key_digest = row.row.to_bytes(16, "big")
    else:
        found = key_of(values, key)
        if isinstance(found, Problem):
            return found
        row.key_digest = found[1]
        row.key = orjson.dumps([values[name] for name in key], default=str).decode()
    return encoder.encode(values)


def _reject(row: ManifestRow, problem: Problem, where: str) -> None:
    row.reject_code, row.reject_message, row.where = problem.code, problem.message, where
