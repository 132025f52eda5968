from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bulkrate.tokens.repeats import RepeatedTexts


class Lengths:
    """Counts characters, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> list[int]:
        self.asked += texts
        return [len(text) for text in texts]


def test_a_text_repeated_in_a_batch_is_counted_once_and_remembered() -> None:
    lengths = Lengths()
    texts = RepeatedTexts(lengths)
    assert texts.count(["prompt", "a", "prompt", "bb"]) == [6, 1, 6, 2]
    assert texts.count(["prompt", "ccc"]) == [6, 3]
    assert lengths.asked == ["prompt", "a", "bb", "ccc"]


def test_a_text_seen_once_is_not_kept() -> None:
    lengths = Lengths()
    texts = RepeatedTexts(lengths)
    texts.count(["row"])
    texts.count(["row"])
    assert lengths.asked == ["row", "row"]


def test_the_least_recently_used_is_forgotten_first() -> None:
    lengths = Lengths()
    texts = RepeatedTexts(lengths, remember=2)
    texts.count(["a", "a", "b", "b"])
    texts.count(["a"])
    texts.count(["c", "c"])
    lengths.asked.clear()
    texts.count(["a", "b", "c"])
    assert lengths.asked == ["b"]


@given(batches=st.lists(st.lists(st.text("ab", max_size=3))), remember=st.integers(0, 4))
def test_remembering_never_changes_a_count(batches: list[list[str]], remember: int) -> None:
    texts = RepeatedTexts(Lengths(), remember=remember)
    for batch in batches:
        assert texts.count(batch) == [len(text) for text in batch]
