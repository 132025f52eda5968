"""Chat messages for SmolLM2: which ones it reads, and the prompt they become.

The two renderings are `bulkrate.tokens.chat_template`'s, which the token counter uses as well. A label is
scored as one space, the label, a line end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bulkrate.tokens import chat_template

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
    """The prompt for these messages, special tokens as text; `choice` are the labels to score.

    Raises:
        UnsupportedMessages: the messages cannot be rendered.
    """
    turns = [(role_of(message), text_of(message)) for message in messages]
    if not turns or turns[-1][0] != "user":
        raise UnsupportedMessages("the last message must be the user's")
    if choice:
        roles = [role for role, _ in turns if role != "system"]
        if any(now == "assistant" and before != "user" for before, now in pairwise(["", *roles])):
            raise UnsupportedMessages("with labels, an assistant message must follow a user message")
    return chat_template.render(turns, choice)


def completion(label: str) -> str:
    """What the model must continue the choice prompt with for this label."""
    return f" {label}{TURN_END}"
