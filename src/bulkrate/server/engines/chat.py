"""How chat messages become the prompt that SmolLM2 reads. Pure: token counts depend on it elsewhere.

Two renderings, because two questions are asked of the model:

*Text and JSON* use the chat template inside the model file (ChatML). `render` equals that template, byte for
byte (checked against the file's Jinja source by a test).

*Choice* is a plain document that the model continues. The labels are scored as its next words, and a
135M-parameter model continues a pattern far better than it follows an instruction. Each user turn is
followed by its answer line, turns are separated by an empty line, and the last answer is left open:

    {system}

    {user}
    Label: {assistant}

    {user}
    Label:

A user turn that already ends in a colon brings its own cue (`Department:`), and no `Label:` is added. The
system message is optional and nothing is put in its place. A label is scored as one space, the label, a
line end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
CUE = "Label:"
TURN_END = "\n"  # what follows a label in the choice rendering


class UnsupportedMessages(ValueError):
    """These messages cannot be rendered: a role, a part or an order this engine does not know."""


def text_of(message: Mapping[str, Any]) -> str:
    """The text of one message; content parts of type `text` are joined.

    Raises:
        UnsupportedMessages: the content is not text (images, audio, tool calls).
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        parts = []
        for part in content:
            if (
                not isinstance(part, Mapping)
                or part.get("type") != "text"
                or not isinstance(part.get("text"), str)
            ):
                raise UnsupportedMessages("this model reads text only")
            parts.append(part["text"])
        return "".join(parts)
    raise UnsupportedMessages("a message has no text content")


def role_of(message: Mapping[str, Any]) -> str:
    """`system`, `user` or `assistant`; `developer` is read as `system`."""
    role = message.get("role")
    if role == "developer":
        return "system"
    if role not in ("system", "user", "assistant"):
        raise UnsupportedMessages("roles are system, user and assistant")
    return str(role)


def render(messages: Sequence[Mapping[str, Any]], choice: Sequence[str] = ()) -> str:
    """The prompt for these messages, special tokens as text; with `choice`, the plain document above.

    Raises:
        UnsupportedMessages: the messages cannot be rendered.
    """
    turns = [(role_of(message), text_of(message)) for message in messages]
    if not turns or turns[-1][0] != "user":
        raise UnsupportedMessages("the last message must be the user's")
    return render_choice(turns) if choice else render_chat(turns)


def render_chat(turns: Sequence[tuple[str, str]]) -> str:
    """ChatML as in SmolLM2's `tokenizer.chat_template`, ending where the assistant's turn begins."""
    if turns[0][0] != "system":
        turns = [("system", DEFAULT_SYSTEM), *turns]
    body = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    return body + "<|im_start|>assistant\n"


def render_choice(turns: Sequence[tuple[str, str]]) -> str:
    """The plain document that a label continues; it ends in the cue, without a space after it."""
    out: list[str] = []
    open_answer = False
    for role, text in turns:
        if role == "system":
            out.append(f"{text.strip()}\n\n")
        elif role == "user":
            body = text.strip()
            out.append(body if body.endswith(":") else f"{body}\n{CUE}")
            open_answer = True
        elif not open_answer:
            raise UnsupportedMessages("with labels, an assistant message must follow a user message")
        else:
            out.append(f" {text.strip()}\n\n")
            open_answer = False
    return "".join(out)


def completion(label: str) -> str:
    """What the model must continue the choice prompt with for this label."""
    return f" {label}{TURN_END}"
