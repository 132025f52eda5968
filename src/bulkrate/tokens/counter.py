"""What a token counter is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

Method = Literal["exact", "estimate"]


class TokenCounter(Protocol):
    """Counts the prompt tokens of texts and of whole chats for one model.

    Texts are valid Unicode: a row that does not decode is rejected before it is counted, and a lone surrogate
    raises ``UnicodeEncodeError``. Text that looks like a control token (``<|endoftext|>``) is counted as the
    provider would count it.
    """

    @property
    def method(self) -> Method:
        """``exact``: the model's own vocabulary. ``estimate``: a figure that ``source`` states."""

    @property
    def source(self) -> str:
        """What counts, in words for the quote: ``toktok o200k_base``, ``estimate: 3 bytes a token``."""

    def count_texts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by itself, in order; what an embeddings endpoint bills."""

    def count_chats(
        self, chats: Sequence[Sequence[tuple[str, str]]], choice: Sequence[str] = ()
    ) -> list[int]:
        """Prompt tokens of whole chats, (role, text) pairs in order, the overhead of messages included.

        ``choice`` holds the labels the answer is limited to. It changes the count only where the labels are
        written into the prompt.
        """
