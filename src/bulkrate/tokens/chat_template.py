"""How the local model's chat becomes one text. The counter and the engine render with the same functions, so
a count is of what is really sent.

Two renderings, because two questions are asked of the model:

*Text and JSON* use the template in the model's GGUF file (ChatML, key ``tokenizer.chat_template``), with the
generation prompt: a test renders both and compares.

*Choice* is a plain document that the model continues. The labels are scored as its next words, and a
135M-parameter model continues a pattern far better than it follows an instruction. Each user turn is
followed by its answer line, turns are separated by an empty line, and the last answer is left open:

    {system}

    {user}
    Label: {assistant}

    {user}
    Label:

A user turn that already ends in a colon brings its own cue (``Department:``), and no ``Label:`` is added. The
system message is optional and nothing is put in its place.
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


def render_chat(messages: Sequence[tuple[str, str]]) -> str:
    """The chat as ChatML, ending where the assistant's turn begins."""
    return "".join(turns(messages)) + REPLY_OPENING


CUE = "Label:"
"""Opens the answer in the choice rendering, unless the user's own turn ends in a colon."""


def render_choice(messages: Sequence[tuple[str, str]]) -> str:
    """The plain document that a label continues; it ends in the cue, without a space after it."""
    pieces: list[str] = []
    for role, text in messages:
        body = text.strip()
        if role == "system":
            pieces.append(f"{body}\n\n")
        elif role == "user":
            pieces.append(body if body.endswith(":") else f"{body}\n{CUE}")
        else:
            pieces.append(f" {body}\n\n")
    return "".join(pieces)


def render(messages: Sequence[tuple[str, str]], choice: Sequence[str] = ()) -> str:
    """The prompt for ``messages``, (role, text) pairs; ``choice`` are the labels the answer is limited to."""
    return render_choice(messages) if choice else render_chat(messages)
