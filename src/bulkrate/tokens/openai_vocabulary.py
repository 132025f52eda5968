"""Exact counts for models that use one of OpenAI's public vocabularies."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from bulkrate.tokens.counter import Method
from bulkrate.tokens.repeats import RepeatedTexts

MESSAGE_TOKENS = 3
"""Tokens a chat message costs besides its role and its text.

OpenAI cookbook, "How to count tokens with tiktoken", ``tokens_per_message`` in its function for chats, stated
for gpt-3.5-turbo-0613 and gpt-4-0613; read in a copy, 2026-11-24. Newer models are taken to follow it, as
nothing newer is published. It gives the ``prompt_tokens`` billed in recorded gpt-3.5-turbo batches.
"""

REPLY_TOKENS = 3
"""Tokens that open the reply (``<|start|>assistant<|message|>``), once per chat. Same source."""


class OpenAIVocabularyCounter:
    """Counts with a public OpenAI encoding: ``o200k_base``, ``o200k_harmony`` or ``cl100k_base``.

    The text is counted exactly; what surrounds it in a chat follows the published rule. Control tokens in the
    text are counted as plain text, which is how the API reads them. Labels of a ``choice`` are not in the
    messages, so they add nothing here: what a response schema costs has no published rule.
    """

    def __init__(
        self, encoding: str, *, opening_tokens: int = 0, method: Method = "exact", remark: str = ""
    ) -> None:
        """``opening_tokens``: what the model's own template puts before the first message of a chat."""
        self.encoding = encoding
        self.opening_tokens = opening_tokens
        self._method: Method = method
        self._source = f"toktok {encoding}" + (f" ({remark})" if remark else "")
        self._texts = RepeatedTexts(self._encode)

    def __eq__(self, other: object) -> bool:
        """Whether it counts alike."""
        if not isinstance(other, OpenAIVocabularyCounter):
            return NotImplemented
        return (self.opening_tokens, self.source) == (other.opening_tokens, other.source)

    def __hash__(self) -> int:
        return hash((self.opening_tokens, self.source))

    @property
    def method(self) -> Method:
        """``estimate`` when it is not published that the model uses this encoding."""
        return self._method

    @property
    def source(self) -> str:
        """The encoding, and the doubt if there is one."""
        return self._source

    def count_texts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by itself."""
        return self._texts.count(texts)

    def count_chats(
        self, chats: Sequence[Sequence[tuple[str, str]]], choice: Sequence[str] = ()
    ) -> list[int]:
        """Prompt tokens of each chat: 3 a message, its role, its text, and 3 for the reply's opening."""
        parts = [part for chat in chats for message in chat for part in message]
        tokens = iter(self._texts.count(parts))
        around = self.opening_tokens + REPLY_TOKENS
        return [around + sum(MESSAGE_TOKENS + next(tokens) + next(tokens) for _ in chat) for chat in chats]

    def _encode(self, texts: list[str]) -> list[int]:
        # Lazy: the vocabularies are 8 MB of shared library, and half a second to unpack on first use.
        # By name, as the package ships no types.
        toktok = import_module("toktok")
        # One thread: a second one brought nothing (ADR 0007), and rows are worked on by processes.
        counts: list[int] = toktok.batch_count(texts, self.encoding, threads=1)
        return counts
