"""The provider-neutral request, and its fingerprint.

A request says what is asked, in words no provider owns; each dialect turns it into its own JSON. The
fingerprint is a versioned hash of everything that can change the answer, and of nothing else: a larger
output cap on a resend, a lane, a provider's id keep it.

Rows of one job differ in a few strings only. `split` turns any JSON document made from a request that
holds *holes* in the place of those strings into literal pieces, so that a row costs a join and a hash
instead of building and encoding the whole document again. The same trick serves the fingerprint and every
dialect, which is why a dialect only ever writes one function: request in, body out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

import orjson

from bulkrate.core.json_value import plain

FINGERPRINT_VERSION = 1
FINGERPRINT_BYTES = 16

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text."""

    text: str

    def canonical(self) -> dict[str, Any]:
        return {"text": self.text}


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image, by URL (`https:` or `data:`). `detail` is the provider-neutral effort hint."""

    url: str
    detail: str | None = None

    def canonical(self) -> dict[str, Any]:
        return plain({"image": self.url, "detail": self.detail})


@dataclass(frozen=True, slots=True)
class DocumentPart:
    """A document (PDF, text), by URL (`https:` or `data:`) with an optional file name."""

    url: str
    name: str | None = None

    def canonical(self) -> dict[str, Any]:
        return plain({"document": self.url, "name": self.name})


@dataclass(frozen=True, slots=True)
class OpaquePart:
    """A content part in a provider's own shape, passed through as it came."""

    value: Mapping[str, Any]

    def canonical(self) -> dict[str, Any]:
        return {"opaque": dict(self.value)}


Part = TextPart | ImagePart | DocumentPart | OpaquePart


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `extra` holds what only some providers know (tool calls, names), passed through."""

    role: str
    content: str | tuple[Part, ...] | None
    extra: Mapping[str, Any] = field(default_factory=dict)

    def canonical(self) -> dict[str, Any]:
        content: Any = self.content
        if isinstance(content, tuple):
            content = [part.canonical() for part in content]
        return plain({"role": self.role, "content": content, "extra": dict(self.extra) or None})

    def texts(self) -> list[str]:
        """The texts of this turn, for counting."""
        if isinstance(self.content, str):
            return [self.content]
        return [part.text for part in self.content or () if isinstance(part, TextPart)]


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may call: name, description and a JSON Schema of its parameters."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool | None = None

    def canonical(self) -> dict[str, Any]:
        return plain(
            {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.parameters),
                "strict": self.strict,
            }
        )


@dataclass(frozen=True, slots=True)
class FreeText:
    """The answer is whatever the model says."""

    kind: Literal["text"] = "text"

    def canonical(self) -> Any:
        return None


@dataclass(frozen=True, slots=True)
class Choice:
    """The answer is exactly one of the labels."""

    labels: tuple[str, ...]
    kind: Literal["choice"] = "choice"

    def canonical(self) -> Any:
        return {"choice": list(self.labels)}


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """The answer is a JSON value that satisfies the schema."""

    schema: Mapping[str, Any]
    name: str = "answer"
    kind: Literal["json_schema"] = "json_schema"

    def canonical(self) -> Any:
        return {"json_schema": dict(self.schema), "name": self.name}


@dataclass(frozen=True, slots=True)
class Embedding:
    """The answer is the text's vector, of `dimensions` numbers if that many are asked for."""

    dimensions: int | None = None
    kind: Literal["embedding"] = "embedding"

    def canonical(self) -> Any:
        return None  # the request's own `kind` and `dimensions` say it


Output = FreeText | Choice | JsonSchema | Embedding


@dataclass(frozen=True, slots=True)
class Request:
    """One call, in nobody's dialect.

    `kind` is `chat` or `embed` (then `inputs` holds the texts). `extra` is passed through to the provider
    untouched and is part of the fingerprint. `max_output_tokens` is not: it cannot change a finished
    answer, only cut it. `raw` is a whole body in the provider's own words, in the place of all but
    model, output and cap.
    """

    model: str
    messages: tuple[Message, ...] = ()
    kind: Literal["chat", "embed"] = "chat"
    inputs: tuple[str, ...] = ()
    dimensions: int | None = None
    tools: tuple[Tool, ...] = ()
    output: Output = field(default_factory=FreeText)
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    reasoning: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] | None = None

    def canonical(self) -> dict[str, Any]:
        """The answer-relevant content as plain JSON; absent and default fields are left out."""
        return plain(
            {
                "model": self.model,
                "kind": self.kind if self.kind != "chat" else None,
                "messages": [message.canonical() for message in self.messages] or None,
                "inputs": list(self.inputs) or None,
                "dimensions": self.dimensions,
                "tools": [tool.canonical() for tool in self.tools] or None,
                "output": self.output.canonical(),
                "temperature": None if self.temperature is None else float(self.temperature),
                "top_p": None if self.top_p is None else float(self.top_p),
                "seed": self.seed,
                "stop": list(self.stop) or None,
                "reasoning": self.reasoning,
                "extra": dict(self.extra) or None,
                "raw": None if self.raw is None else dict(self.raw),
            }
        )


def canonical_bytes(request: Request) -> bytes:
    """Canonical JSON of `request`: keys sorted, no white space, UTF-8."""
    return orjson.dumps(request.canonical(), option=orjson.OPT_SORT_KEYS)


def fingerprint(request: Request) -> bytes:
    """16-byte fingerprint, version 1: blake2b over the canonical JSON, personalised with the version."""
    return digest_of([canonical_bytes(request)])


def digest_of(pieces: Sequence[bytes]) -> bytes:
    """Fingerprint of a canonical document given in pieces (what `Pieces.parts` yields)."""
    digest = _new_digest()
    for piece in pieces:
        digest.update(piece)
    return digest.digest()


def _new_digest() -> blake2b:
    return blake2b(digest_size=FINGERPRINT_BYTES, person=b"bulkrate.fp.1")


# A hole is a string no user writes: private-use characters around a number. It survives JSON encoding
# unescaped, so the encoded document can be cut at it, quotes included.
_HOLE_OPEN, _HOLE_CLOSE = "\uf8ff\ue0b0", "\ue0b1\uf8ff"
_HOLE = re.compile(b'"' + _HOLE_OPEN.encode() + rb"(\d+)" + _HOLE_CLOSE.encode() + b'"')


def hole(number: int) -> str:
    """The stand-in for the `number`-th string that differs from row to row."""
    return f"{_HOLE_OPEN}{number}{_HOLE_CLOSE}"


def has_hole(text: str) -> bool:
    """Whether `text` contains a hole's mark (user content that does must not be split)."""
    return _HOLE_OPEN in text


@dataclass(frozen=True, slots=True)
class Pieces:
    """A JSON document cut at its holes: `literals[0] hole[holes[0]] literals[1] … literals[-1]`."""

    literals: tuple[bytes, ...]
    holes: tuple[int, ...]
    _pairs: tuple[tuple[bytes, int], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        pairs = tuple(zip(self.literals[1:], self.holes, strict=True))
        object.__setattr__(self, "_pairs", pairs)

    def parts(self, values: Sequence[bytes]) -> list[bytes]:
        """The document's pieces with `values[n]` (an encoded JSON string) in the place of hole n."""
        parts = [self.literals[0]]
        for literal, number in self._pairs:
            parts += (values[number], literal)
        return parts

    def fill(self, values: Sequence[bytes]) -> bytes:
        """The whole document as one line of JSON."""
        return b"".join(self.parts(values))


class Fingerprints:
    """Fingerprints of documents that differ in their holes: what stands before the first is hashed once."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self._begun = _new_digest()
        self._begun.update(pieces.literals[0])

    def __reduce__(self) -> tuple[type[Fingerprints], tuple[Pieces]]:
        return Fingerprints, (self._pieces,)

    def of(self, values: Sequence[bytes]) -> bytes:
        """The fingerprint of the document with `values` in its holes."""
        digest = self._begun.copy()
        digest.update(b"".join(self._pieces.parts(values)[1:]))
        return digest.digest()


def split(document: bytes) -> Pieces:
    """Cut an encoded JSON document at its holes."""
    fields = _HOLE.split(document)
    return Pieces(literals=tuple(fields[0::2]), holes=tuple(int(number) for number in fields[1::2]))
