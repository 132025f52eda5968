"""How the local model's chat becomes one text: ChatML, as SmolLM2's own template writes it.

The counter and the engine that answers render a chat with the same function, so a count is of what is really
sent. The rule is the template in the model's GGUF file (key ``tokenizer.chat_template``), with the generation
prompt: a test renders both and compares.
"""

from __future__ import annotations

from collections.abc import Sequence

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""What the template puts first when a chat does not begin with a system message."""

REPLY_OPENING = "<|im_start|>assistant\n"
"""Ends every prompt: the model writes on from here."""


def turns(messages: Sequence[tuple[str, str]]) -> list[str]:
    """The chat's rendered turns in order, the default system turn included, without the reply's opening.

    Every turn begins and ends with a control token but for one line feed, so the tokens of a chat are the sum
    of the tokens of its turns.
    """
    rendered = [f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in messages]
    if messages and messages[0][0] != "system":
        rendered.insert(0, f"<|im_start|>system\n{DEFAULT_SYSTEM}<|im_end|>\n")
    return rendered


def render(messages: Sequence[tuple[str, str]], choice: Sequence[str] = ()) -> str:
    """The prompt for ``messages``, (role, text) pairs.

    ``choice``, the labels the answer is limited to, leaves the prompt as it is: the engine enforces it while
    decoding, and the user's own prompt names the labels.
    """
    return "".join(turns(messages)) + REPLY_OPENING
