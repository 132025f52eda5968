"""A stated estimate, for models whose vocabulary is not public or not at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bulkrate.tokens.counter import Method


class BytesEstimate:
    """Tokens as UTF-8 bytes over a fixed number of bytes a token, rounded up.

    Bytes, not characters: a byte-level vocabulary spends about one token on a three-byte Chinese character
    and one on four bytes of English, so a count of bytes is wrong by less.
    """

    method: Method = "estimate"

    def __init__(
        self, bytes_per_token: float, *, message_tokens: int = 4, reply_tokens: int = 3, remark: str = ""
    ) -> None:
        if bytes_per_token <= 0:
            raise ValueError(f"bytes_per_token must be above 0, not {bytes_per_token}")
        self.bytes_per_token = bytes_per_token
        self.message_tokens = message_tokens
        self.reply_tokens = reply_tokens
        self.source = f"estimate: {bytes_per_token:g} bytes a token" + (f" ({remark})" if remark else "")

    def __eq__(self, other: object) -> bool:
        """Whether it counts alike."""
        return isinstance(other, BytesEstimate) and self._rule() == other._rule()

    def __hash__(self) -> int:
        return hash(self._rule())

    def _rule(self) -> tuple[str, int, int]:
        return self.source, self.message_tokens, self.reply_tokens

    def count_texts(self, texts: Sequence[str]) -> list[int]:
        """Estimated tokens of each text by itself; 0 for an empty one."""
        return [self._tokens(text) for text in texts]

    def count_chats(
        self, chats: Sequence[Sequence[tuple[str, str]]], choice: Sequence[str] = ()
    ) -> list[int]:
        """Estimated prompt tokens of each chat, with a fixed overhead per message and per chat."""
        return [
            self.reply_tokens + sum(self.message_tokens + self._tokens(text) for _, text in chat)
            for chat in chats
        ]

    def _tokens(self, text: str) -> int:
        size_bytes = len(text) if text.isascii() else len(text.encode())
        return math.ceil(size_bytes / self.bytes_per_token)
