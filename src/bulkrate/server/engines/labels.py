"""Scores labels after many prompts in one pass: each prompt carries the tree of its labels' tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bulkrate.server.engines.paged import PASS_TOKENS, CachedSequence, OutOfBlocks, PagedModel, TokenTree
from bulkrate.server.engines.prefixes import Together, common_length, together
from bulkrate.server.engines.scoring import LabelTree

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROMPTS_PER_BATCH = 32
REMEMBERED_PREFIXES = 8
WORTH_TOKENS = 16  # a prefix is stored when it is this much longer than what is known of it


@dataclass(slots=True, eq=False)
class StoredPrefix:
    """Tokens whose keys and values are kept for prompts to come."""

    tokens: NDArray[np.int64]
    sequence: CachedSequence


@dataclass(frozen=True, slots=True)
class Scored:
    """One prompt's scores, in the order of the labels, and how many of its tokens came from the cache."""

    scores: NDArray[np.float64]
    cached_tokens: int


class LabelScorer:
    """Scores prompts in batches and remembers the last few shared prefixes. One thread only."""

    def __init__(self, model: PagedModel) -> None:
        """Score with `model`, whose cache this object has to itself."""
        self._model = model
        self._prefixes: list[StoredPrefix] = []  # most recently used last
        self._ahead: tuple[NDArray[np.int64], int] | None = None  # a prompt, its tokens read by `read_ahead`

    def plan(self, prompts: Sequence[NDArray[np.int64]], tree: LabelTree) -> Together:
        """Which of these prompts to give to `score` next, the first being one of them."""
        return together(
            prompts,
            known_tokens=self._known(prompts[0])[1],
            pass_tokens=PASS_TOKENS,
            each_tokens=len(tree.nodes),
            most=PROMPTS_PER_BATCH,
        )

    def read_ahead(self, prompt: NDArray[np.int64]) -> bool:
        """Read one pass of a prompt that is too long for one unit of work; False when the rest is short."""
        known_tokens = self._known(prompt)[1]
        if len(prompt) - known_tokens <= PASS_TOKENS:
            return False
        before = self._ahead[1] if self._ahead and self._ahead[0] is prompt else 0
        while True:
            try:
                read_tokens = self._remember(prompt, known_tokens + PASS_TOKENS)
                break
            except OutOfBlocks:
                if not self._prefixes:
                    raise
                self._forget()
                known_tokens = self._known(prompt)[1]
        self._ahead = (prompt, before + read_tokens)
        return True

    def score(
        self, prompts: Sequence[NDArray[np.int64]], tree: LabelTree, prefix_tokens: int
    ) -> list[Scored]:
        """Every label's score after each prompt; the prompts begin with the same `prefix_tokens` tokens.

        Raises:
            OutOfBlocks: a prompt is longer than the whole cache.
        """
        while True:
            try:
                return self._score(prompts, tree, prefix_tokens)
            except OutOfBlocks:
                if self._prefixes:
                    self._forget()
                elif len(prompts) > 1:
                    half = len(prompts) // 2
                    parts = (prompts[:half], prompts[half:])
                    return [scored for part in parts for scored in self.score(part, tree, prefix_tokens)]
                else:
                    raise

    def _score(
        self, prompts: Sequence[NDArray[np.int64]], tree: LabelTree, prefix_tokens: int
    ) -> list[Scored]:
        import numpy as np

        if not tree.forks:  # a single label leaves the model nothing to say
            return [Scored(np.zeros(len(tree.routes)), 0) for _ in prompts]
        made_tokens = self._remember(prompts[0], prefix_tokens) if len(prompts) > 1 else 0
        rows: list[CachedSequence] = []
        try:
            cached, rest = [], []
            for prompt in prompts:
                stored, known_tokens = self._known(prompt)
                sequence = self._model.fork(stored.sequence, known_tokens) if stored else CachedSequence()
                rows.append(sequence)
                tail = max(0, (len(prompt) - known_tokens - 1) // PASS_TOKENS) * PASS_TOKENS
                self._model.extend(sequence, prompt[known_tokens : known_tokens + tail])
                rest.append(prompt[known_tokens + tail :])
                cached.append(known_tokens)
            cached[0] -= made_tokens  # the first row pays for the prefix made for all
            if self._ahead and self._ahead[0] is prompts[0]:
                cached[0], self._ahead = max(0, cached[0] - self._ahead[1]), None
            below = TokenTree.of(tree.nodes)
            hidden = self._model.forward(
                rows,
                [np.concatenate([piece, below.tokens]) for piece in rest],
                [[len(piece) + node for node in tree.node_of] for piece in rest],
                [below] * len(rows),
            ).reshape(len(rows), len(tree.forks), -1)
        except OutOfBlocks:
            self._release(rows)
            raise
        scores = tree.scores(
            [hidden[:, fork] @ self._model.vocabulary(tokens).T for fork, tokens in enumerate(tree.tokens)]
        )
        if len(prompts) == 1 and cached[0] + 2 * WORTH_TOKENS < len(prompts[0]):
            self._store(prompts[0], rows.pop())  # a lone prompt may have successors that begin like it
        self._release(rows)
        return [Scored(row, tokens) for row, tokens in zip(scores, cached, strict=True)]

    def _known(self, prompt: NDArray[np.int64]) -> tuple[StoredPrefix | None, int]:
        """The stored prefix that covers most of `prompt`, and how much of it."""
        best, best_tokens = None, 0
        for stored in self._prefixes:
            tokens = min(common_length(stored.tokens, prompt), len(prompt) - 1)  # its last must be run
            if tokens > best_tokens:
                best, best_tokens = stored, tokens
        return best, best_tokens

    def _remember(self, prompt: NDArray[np.int64], prefix_tokens: int) -> int:
        """Store the first `prefix_tokens` of `prompt` unless most are known; returns the tokens computed."""
        stored, known_tokens = self._known(prompt)
        if prefix_tokens - known_tokens < WORTH_TOKENS:
            if stored:
                self._prefixes.remove(stored)
                self._prefixes.append(stored)
            return 0
        own = prompt[known_tokens:prefix_tokens]
        if stored and known_tokens == len(stored.tokens) == stored.sequence.length_tokens:
            self._model.extend(stored.sequence, own)  # the shorter prefix is still its beginning
            stored.tokens = prompt[:prefix_tokens]
            return len(own)
        sequence = self._model.fork(stored.sequence, known_tokens) if stored else CachedSequence()
        try:
            self._model.extend(sequence, own)
        except OutOfBlocks:
            self._model.release(sequence)
            raise
        self._store(prompt[:prefix_tokens], sequence)
        return len(own)

    def _store(self, tokens: NDArray[np.int64], sequence: CachedSequence) -> None:
        self._prefixes.append(StoredPrefix(tokens, sequence))
        if len(self._prefixes) > REMEMBERED_PREFIXES:
            self._forget()

    def _forget(self) -> None:
        self._model.release(self._prefixes.pop(0).sequence)

    def _release(self, sequences: Sequence[CachedSequence]) -> None:
        for sequence in sequences:
            self._model.release(sequence)
