"""What a row is answered with, before a dialect gives it its shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bulkrate.testing import answers
from bulkrate.testing.faults import Fate
from bulkrate.testing.records import RowContext, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """A text, how it ended in OpenAI's words, whether the cap cut it, and what it used."""

    text: str
    finish: str
    cut: bool
    usage: Usage


def reply_to(asked: Mapping[str, Any], fate: Fate, context: RowContext) -> Reply:
    """The reply to a request in neutral words, as ``fate`` has it."""
    answer, cap = context.answer(asked), answers.output_cap(asked)
    text = answers.broken(answer.text) if fate is Fate.BAD_JSON else answer.text
    output = answers.text_tokens(text) if answer.output_tokens is None else answer.output_tokens
    prompt = context.count_tokens(asked)
    cached = answers.cached_tokens(prompt) if answer.cached_tokens is None else answer.cached_tokens
    if fate is Fate.TRUNCATED and cap is not None:
        return Reply(text[: max(1, len(text) // 2)], "length", True, Usage(prompt, cached, cap))
    output = output if cap is None else min(output, cap)
    return Reply(text, answer.finish_reason, False, Usage(prompt, cached, output))
