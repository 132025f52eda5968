"""Counting a repeated text once: a job sends the same system prompt and few-shot turns with every row."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from threading import Lock

REMEMBERED_TEXTS = 512
"""How many repeated texts are kept between batches. A job has a handful; the bound is for memory."""

CountTexts = Callable[[list[str]], list[int]]


class RepeatedTexts:
    """Counts texts with ``count``, each distinct text of a batch once.

    A text seen twice in one batch is constant or nearly so, and is remembered for the next batches (least
    recently used out first). Texts seen once, the rows themselves, are not kept. Threads may
    share it.
    """

    def __init__(self, count: CountTexts, *, remember: int = REMEMBERED_TEXTS) -> None:
        self._count = count
        self._remember = remember
        self._known: OrderedDict[str, int] = OrderedDict()
        self._lock = Lock()

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, in order."""
        times = Counter(texts)
        with self._lock:
            counts = {text: self._known[text] for text in self._known.keys() & times.keys()}
            for text in counts:
                self._known.move_to_end(text)
        fresh = [text for text in times if text not in counts]
        counts.update(zip(fresh, self._count(fresh) if fresh else [], strict=True))
        if len(times) < len(texts):
            with self._lock:
                self._known.update((text, counts[text]) for text in fresh if times[text] > 1)
                while len(self._known) > self._remember:
                    self._known.popitem(last=False)
        return [counts[text] for text in texts]
