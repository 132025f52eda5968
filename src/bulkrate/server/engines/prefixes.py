"""Which prompts to answer together, and which beginning of them to compute only once. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Together:
    """Positions of the prompts to answer in one batch, and how many tokens all of them begin with."""

    members: tuple[int, ...]
    prefix_tokens: int


def common_length(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    """How many tokens `a` and `b` begin with in common."""
    length = min(len(a), len(b))
    different = (a[:length] != b[:length]).nonzero()[0]
    return int(different[0]) if len(different) else length


def together(
    prompts: Sequence[NDArray[np.int64]], *, known_tokens: int, pass_tokens: int, each_tokens: int, most: int
) -> Together:
    """The batch that the first prompt leads.

    The shared beginning is the one that saves the most tokens over these prompts (length times prompts that
    have it), `known_tokens` of the first prompt being in the cache already. Prompts that lack it wait for a
    batch of their own. The batch ends at `most` prompts or `pass_tokens` tokens that are not
    shared, `each_tokens` of labels after every prompt among them.
    """
    head = prompts[0]
    # A prompt's last token is never shared: its logits are what the prompt is run for.
    lengths = [min(common_length(head, other), len(head) - 1, len(other) - 1) for other in prompts]
    best_tokens, best_saving = min(known_tokens, len(head) - 1), 0
    for rank, length in enumerate(sorted(lengths, reverse=True), start=1):
        saving = length * (rank - 1)  # one of them has to compute it
        if saving > best_saving:
            best_tokens, best_saving = length, saving
    members: list[int] = []
    total_tokens = 0
    for position, length in enumerate(lengths):
        if length < best_tokens:
            continue
        total_tokens += len(prompts[position]) - best_tokens + each_tokens
        if members and (len(members) == most or total_tokens > pass_tokens):
            break
        members.append(position)
    return Together(tuple(members), best_tokens)
