"""Turns and their parts in Gemini's words: `systemInstruction` beside `contents`, `user` and `model`."""

from __future__ import annotations

import base64
import mimetypes
from collections.abc import Sequence
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

from bulkrate.core.json_value import plain
from bulkrate.core.request import DocumentPart, ImagePart, Message, OpaquePart, Part, TextPart, has_hole
from bulkrate.errors import JobError
from bulkrate.providers.provider import NeedsValues

_ROLES = {"user": "user", "assistant": "model", "model": "model"}
_SYSTEM = frozenset({"system", "developer"})


def turns(messages: Sequence[Message]) -> dict[str, object]:
    """`contents`, and `systemInstruction` where there is a system prompt.

    Raises `JobError` for a turn that Gemini has no place for.
    """
    system: list[dict[str, Any]] = []
    contents: list[dict[str, Any]] = []
    for number, message in enumerate(messages):
        where = f"messages[{number}]"
        if message.extra:
            raise _no_place(
                f"{where}.{next(iter(message.extra))}", "turns of text, images and documents only"
            )
        if message.role in _SYSTEM:
            if contents:
                raise _no_place(where, "the system prompt stands before the chat")
            system += _parts(message, where)
        elif message.role in _ROLES:
            contents.append({"role": _ROLES[message.role], "parts": _parts(message, where)})
        else:
            raise _no_place(f"{where}.role {message.role}", "roles are system, user and assistant")
    return plain({"systemInstruction": {"parts": system} if system else None, "contents": contents})


def _parts(message: Message, where: str) -> list[dict[str, Any]]:
    if message.content is None:
        raise _no_place(f"{where}.content null", "every turn says something")
    if isinstance(message.content, str):
        return [{"text": message.content}]
    return [_part(part, f"{where}.content[{number}]") for number, part in enumerate(message.content)]


def _part(part: Part, where: str) -> dict[str, Any]:
    match part:
        case TextPart(text=text):
            return {"text": text}
        case ImagePart(url=url) | DocumentPart(url=url):
            return _media(url, where)
        case OpaquePart(value=value):
            if "type" in value:  # OpenAI's way of saying what a part is, and nobody's field here
                raise _no_place(f"{where}, a part of type {value['type']}", "text, images and documents")
            return dict(value)


def _media(url: str, where: str) -> dict[str, Any]:
    """A file by URL (fetched by Google, docs of 2026-01), or its bytes from a `data:` URL."""
    if has_hole(url):
        raise NeedsValues
    if not url.startswith("data:"):
        kind, _ = mimetypes.guess_type(urlsplit(url).path)
        return {"fileData": plain({"mimeType": kind, "fileUri": url})}
    head, comma, data = url.removeprefix("data:").partition(",")
    if not comma:
        raise JobError(f"{where} is a data: URL without data", code="bad_url")
    kind, *options = head.split(";")
    if "base64" not in options:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return {"inlineData": {"mimeType": kind or "text/plain", "data": data}}


def _no_place(what: str, instead: str) -> JobError:
    return JobError(f"Gemini has no place for {what}", code="not_carried", hint=instead)
