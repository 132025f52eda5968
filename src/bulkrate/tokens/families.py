"""Which counter a model gets: the dated table ``encodings.toml``, and how a name is matched against it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from bulkrate.tokens.bytes_estimate import BytesEstimate
from bulkrate.tokens.counter import TokenCounter
from bulkrate.tokens.openai_vocabulary import OpenAIVocabularyCounter

# What hosts put before or around an OpenAI name: `openai/gpt-oss-20b`, `openai.gpt-oss-120b-1:0` (Bedrock),
# `ft:gpt-4o-mini-2024-07-18:acme::abc123` (a fine-tuned model counts as its base).
_OWNER = re.compile(r"^(?:.*/)?(?:ft:)?(?:[a-z]{2,6}\.)?(?:openai[./-])?")


@lru_cache(maxsize=128)
def counter_for(provider: str, model: str) -> TokenCounter:
    """The counter for ``model`` at ``provider``. An unknown model gets a stated estimate; this never raises.

    One counter per (provider, model) and process, so that texts repeated between batches are counted once.
    Loading a vocabulary (0.2 to 0.6 s) waits for the first count, except for a local model, whose file is
    looked up here.
    """
    table = _table()
    provider, model = provider.strip().lower(), model.strip().lower()
    if local := _local_counter(table["local"], provider, model):
        return local
    name = _OWNER.sub("", model)
    if entry := _longest_match(table["vocabulary"], name):
        remark = entry.get("remark", "")
        return OpenAIVocabularyCounter(
            entry["encoding"],
            opening_tokens=entry.get("opening_tokens", 0),
            method="estimate" if remark else "exact",
            remark=remark,
        )
    unknown = table["unknown_openai"]
    if provider in unknown["providers"] or name.startswith(tuple(unknown["prefixes"])):
        return OpenAIVocabularyCounter(unknown["encoding"], method="estimate", remark=unknown["remark"])
    return _estimate(table, provider, model)


@cache
def _table() -> Mapping[str, Any]:
    return tomllib.loads(files("bulkrate.tokens").joinpath("encodings.toml").read_text(encoding="utf-8"))


def _longest_match(entries: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any] | None:
    """The entry that names the model, else the one with the longest prefix of its name."""
    best: tuple[int, Mapping[str, Any]] | None = None
    for entry in entries:
        if name in entry.get("names", ()):
            return entry
        for prefix in entry.get("prefixes", ()):
            if name.startswith(prefix) and (best is None or len(prefix) > best[0]):
                best = (len(prefix), entry)
    return best[1] if best else None


def _estimate(table: Mapping[str, Any], provider: str, model: str, remark: str = "") -> BytesEstimate:
    chosen = table["default"]
    for entry in table["estimate"]:
        if any(part in model for part in entry["contains"]) or provider in entry.get("providers", ()):
            chosen = entry
            break
    return BytesEstimate(
        chosen["bytes_per_token"],
        message_tokens=chosen["message_tokens"],
        reply_tokens=chosen["reply_tokens"],
        remark=remark,
    )


def _local_counter(entries: Sequence[Mapping[str, Any]], provider: str, model: str) -> TokenCounter | None:
    from bulkrate.tokens.local_model import LocalModelCounter, LocalModelUnavailableError

    for entry in entries:
        if provider == entry["provider"] and model in entry["names"]:
            try:
                return LocalModelCounter.from_distribution(
                    entry["distribution"], entry["file"], label=entry["label"]
                )
            except LocalModelUnavailableError as error:
                return _estimate(_table(), provider, model, remark=str(error))
    return None
