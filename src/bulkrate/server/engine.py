"""The seam between the batch server and whatever answers its requests.

An engine is driven by one thread: `submit` hands over work, `step` does one unit of it and returns what
finished. There is no callback and no thread of the engine's own, so the server decides when work happens.
This module is light: no numerics, no inference library.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One chat completion to be done, or texts to embed (`inputs`), already validated as OpenAI's wire shape.

    `choice` and `json_schema` exclude each other. With `choice` the answer is one of the labels, found by
    scoring every label, so `temperature`, `top_p`, `seed`, `stop` and `max_tokens` have no effect.
    """

    id: str
    messages: tuple[Mapping[str, Any], ...] = ()
    max_tokens: int | None = None  # None: the engine's default ceiling
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    choice: tuple[str, ...] = ()
    json_schema: Mapping[str, Any] | None = None
    priority: int = 0  # higher first: interactive over batch
    inputs: tuple[str, ...] = ()
    dimensions: int | None = None  # None: as many as the model has


@dataclass(frozen=True, slots=True)
class EngineAnswer:
    """What became of one request.

    `cached_tokens` counts the input tokens that were not recomputed; 0 where the engine cannot tell.
    `scores` (only with `choice`) is the log-probability of each label among the labels, uncalibrated.
    `embeddings` has 32-bit floats for each of the request's `inputs`, packed (`core.embedding`).
    When `error` is set the request was not answered and `text` is empty.
    """

    id: str
    text: str
    finish_reason: str  # "stop" | "length"
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    scores: Mapping[str, float] | None = None
    embeddings: tuple[bytes, ...] = ()
    error: str | None = None


class Engine(Protocol):
    """Answers requests, a unit of work at a time. Only `check` may be called from another thread."""

    @property
    def model(self) -> str:
        """The model's public name, such as `smollm2-135m-instruct`."""
        ...

    @property
    def kinds(self) -> frozenset[str]:
        """What it can do: `chat`, `embed`."""
        ...

    @property
    def context_window(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        ...

    @property
    def slots(self) -> int:
        """How many requests are worth having in flight; more may be submitted, and wait."""
        ...

    def check(self, request: EngineRequest) -> str | None:
        """Why this request can never be answered (too long, unsupported), or None. Cheap, thread-safe."""
        ...

    def submit(self, request: EngineRequest) -> None:
        """Take a request. Its answer comes from a later `step`, unless it is cancelled first."""
        ...

    def cancel(self, request_id: str) -> None:
        """Forget a request: no answer will come for it. Unknown or finished ids are ignored."""
        ...

    def step(self) -> list[EngineAnswer]:
        """Do one unit of work (well under a second or two) and return what finished; [] when idle."""
        ...

    def close(self) -> None:
        """Release the model. What is still pending is forgotten."""
        ...
