"""An engine without a model: answers follow from a hash of the request. For tests and for trying things out.

A token is a word. It obeys `choice`, `max_tokens` and the shape of a JSON schema, and counts how often each
request was handed to it, so that a test can prove that no answer was computed twice.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from bulkrate.core.embedding import pack
from bulkrate.server.engine import EngineAnswer, EngineRequest

MODEL = "echo"
_WORDS = ("bulk", "rate", "mail", "sack", "route", "stamp", "depot", "parcel")
_ANSWER_WORDS = 8
_DIMENSIONS = 16


class EchoEngine:
    """Answers everything that is pending, up to its slots, in each step.

    `before_step` is called with the number of answers given so far, in the engine's thread: it may block,
    raise, or end the process. With `submissions` the id of each request is appended to that file as it is
    submitted, a line each, so that the count outlives the process.
    """

    def __init__(
        self,
        *,
        model: str = MODEL,
        slots: int = 16,
        context_window: int = 8192,
        before_step: Callable[[int], None] | None = None,
        submissions: Path | None = None,
    ) -> None:
        self._model, self._slots, self._context_window = model, slots, context_window
        self._before_step = before_step
        self._submissions = submissions.open("ab", buffering=0) if submissions is not None else None
        self._pending: dict[str, EngineRequest] = {}
        self.submitted: Counter[str] = Counter()
        self.order: list[str] = []
        self.answered = 0

    @property
    def model(self) -> str:
        return self._model

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset({"chat", "embed"})

    @property
    def context_window(self) -> int:
        return self._context_window

    @property
    def slots(self) -> int:
        return self._slots

    @property
    def pending(self) -> tuple[str, ...]:
        """The ids that wait for a step."""
        return tuple(self._pending)

    def check(self, request: EngineRequest) -> str | None:
        """Refuses prompts over the context window."""
        words = _input_tokens(request)
        if words >= self._context_window:
            return f"the prompt has {words} tokens, the context window holds {self._context_window}"
        return None

    def submit(self, request: EngineRequest) -> None:
        """Take a request."""
        self.submitted[request.id] += 1
        self.order.append(request.id)
        if self._submissions is not None:
            self._submissions.write(request.id.encode() + b"\n")
        self._pending[request.id] = request

    def cancel(self, request_id: str) -> None:
        """Forget a request."""
        self._pending.pop(request_id, None)

    def step(self) -> list[EngineAnswer]:
        """Answer up to `slots` requests, the highest priority first."""
        if self._before_step is not None:
            self._before_step(self.answered)
        ready = sorted(self._pending.values(), key=lambda request: -request.priority)[: self._slots]
        for request in ready:
            del self._pending[request.id]
        self.answered += len(ready)
        return [_answer(request) for request in ready]

    def close(self) -> None:
        """Forget what is pending."""
        self._pending.clear()
        if self._submissions is not None:
            self._submissions.close()


def _answer(request: EngineRequest) -> EngineAnswer:
    if request.inputs:
        return _embedded(request)
    digest = blake2b(orjson.dumps([dict(message) for message in request.messages])).digest()
    scores: dict[str, float] | None = None
    finish_reason, text = "stop", ""
    if request.choice:
        scores = _scores(request.choice, digest)
        text = max(scores, key=scores.__getitem__)
    elif request.json_schema is not None:
        text = orjson.dumps(minimal(request.json_schema)).decode()
    else:
        words = [_WORDS[byte % len(_WORDS)] for byte in digest[:_ANSWER_WORDS]]
        if request.max_tokens is not None and request.max_tokens < len(words):
            words, finish_reason = words[: request.max_tokens], "length"
        text = " ".join(words)
    tokens = _input_tokens(request)
    return EngineAnswer(
        id=request.id,
        text=text,
        finish_reason=finish_reason,
        input_tokens=tokens,
        cached_tokens=tokens // 2,
        output_tokens=len(text.split()),
        scores=scores,
    )


def _embedded(request: EngineRequest) -> EngineAnswer:
    size = request.dimensions or _DIMENSIONS
    vectors = []
    for text in request.inputs:
        digests = [blake2b(text.encode(), salt=place.to_bytes(8)).digest() for place in range(-(-size // 64))]
        vectors.append(pack([byte / 128 - 1 for byte in b"".join(digests)[:size]]))
    return EngineAnswer(
        id=request.id,
        text="",
        finish_reason="stop",
        input_tokens=_input_tokens(request),
        cached_tokens=0,
        output_tokens=0,
        embeddings=tuple(vectors),
    )


def _scores(labels: tuple[str, ...], digest: bytes) -> dict[str, float]:
    raw = [blake2b(label.encode(), key=digest, digest_size=1).digest()[0] / 32 for label in labels]
    total = math.log(sum(math.exp(value) for value in raw))
    return {label: value - total for label, value in zip(labels, raw, strict=True)}


def minimal(schema: Mapping[str, Any]) -> Any:
    """The smallest value that has the shape of a schema (types, required properties, enums and constants)."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    for union in ("anyOf", "oneOf"):
        if schema.get(union):
            return minimal(schema[union][0])
    kind = schema.get("type", "object" if "properties" in schema else "null")
    if isinstance(kind, list):
        kind = kind[0]
    if kind == "object":
        properties = schema.get("properties", {})
        return {name: minimal(properties.get(name, {})) for name in schema.get("required", [])}
    if kind == "array":
        return [minimal(schema.get("items", {})) for _ in range(schema.get("minItems", 0))]
    if kind == "string":
        return "x" * int(schema.get("minLength", 0))
    if kind in {"integer", "number"}:
        return schema.get("minimum", 0)
    return False if kind == "boolean" else None


def _input_tokens(request: EngineRequest) -> int:
    texts = [*request.inputs, *(str(message.get("content", "")) for message in request.messages)]
    return sum(len(text.split()) for text in texts)
