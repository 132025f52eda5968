"""Doing something at a moment of the pipeline that only lasts for an instant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bulkrate import signals


@contextmanager
def at(moment: str, act: Callable[[], object]) -> Iterator[None]:
    """Let somebody act at this moment, the first time it comes."""
    left = [act]

    def listener(name: str) -> None:
        if name == moment and left:
            left.pop()()

    signals.listen(listener)
    try:
        yield
    finally:
        signals.listen(None)
    assert not left, f"{moment} never came"
