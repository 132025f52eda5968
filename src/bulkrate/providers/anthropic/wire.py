"""Anthropic's JSON, both ways. Pure: no I/O, no SDK.

Shapes: anthropic SDK 2.12.0 and the guides at platform.claude.com (copies of 2026-08).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from bulkrate.core.identity import CUSTOM_ID_LENGTH, base36
from bulkrate.core.json_value import plain
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import (
    Choice,
    DocumentPart,
    FreeText,
    ImagePart,
    JsonSchema,
    Message,
    OpaquePart,
    Output,
    Part,
    Request,
    TextPart,
    Tool,
)
from bulkrate.errors import JobError
from bulkrate.providers.anthropic.results import decode_line
from bulkrate.providers.provider import BatchStatus, Decoded, ResultFile, Slice, Tag

# The property that carries a label: there is no choice but by schema.
LABEL = "label"
EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})

# Behind the 20 characters of a custom_id: the shard's digest, and for a slice its shard and first request.
# 62 characters in all, of the 64 that are allowed; `_` stands for what is not there.
_WHOLE = "_" * 8
_SUFFIX = re.compile(r"-([0-9a-f]{32})-(?:_{8}|([0-9a-z]{4})([0-9a-z]{4}))")


@dataclass(frozen=True, slots=True)
class AnthropicWire:
    """Implements `bulkrate.providers.provider.Wire`."""

    def body(self, request: Request) -> dict[str, object]:
        if request.kind != "chat":
            raise JobError("Anthropic has no embeddings", hint="choose another provider for this job")
        if request.max_output_tokens is None:
            raise JobError(
                "Anthropic wants a cap on every answer",
                hint="set request.max_output_tokens, 1024 for instance",
            )
        system = [block for m in request.messages if m.role == "system" for block in _blocks(m)]
        body = plain(
            {
                "model": request.model,
                "max_tokens": request.max_output_tokens,
                "system": _one_text(system) or None,
                "messages": [_message(m) for m in request.messages if m.role != "system"],
                "tools": [_tool(tool) for tool in request.tools] or None,
                "temperature": request.temperature,
                "top_p": request.top_p,
                "stop_sequences": list(request.stop) or None,
                "output_config": plain(
                    {"effort": _effort(request.reasoning), "format": _format(request.output)}
                )
                or None,
            }
        )
        body.update(request.extra)
        return body

    def dropped(self, request: Request) -> tuple[str, ...]:
        return () if request.seed is None else ("seed: Anthropic has none",)

    def envelope(self, tag: Tag) -> tuple[bytes, bytes, bytes]:
        cut = _WHOLE if tag.slice is None else base36(tag.slice.of, 4) + base36(tag.slice.first, 4)
        return b'{"custom_id":"', f'-{tag.digest}-{cut}","params":'.encode(), b"}\n"

    def with_cap(self, body: bytes, max_output_tokens: int) -> bytes:
        return orjson.dumps({**orjson.loads(body), "max_tokens": max_output_tokens})

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        return decode_line(line, label=LABEL if isinstance(output, Choice) else None)

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        if answer_tokens is None:
            return None
        # Room for the wrapper around a label, doubled: a truncated answer costs a whole resend.
        return 2 * answer_tokens + (16 if isinstance(output, Choice) else 4)


def _effort(reasoning: str | None) -> str | None:
    if reasoning is not None and reasoning not in EFFORTS:
        known = ", ".join(sorted(EFFORTS))
        raise JobError(f"Anthropic has no reasoning effort {reasoning!r}", hint=f"it has {known}")
    return reasoning


def _format(output: Output) -> dict[str, object] | None:
    match output:
        case Choice(labels=labels):
            schema: Mapping[str, Any] = {
                "type": "object",
                "properties": {LABEL: {"type": "string", "enum": list(labels)}},
                "required": [LABEL],
                "additionalProperties": False,
            }
        case JsonSchema(schema=given):
            schema = given
        case FreeText():
            return None
    return {"type": "json_schema", "schema": dict(schema)}


def _tool(tool: Tool) -> dict[str, object]:
    return plain(
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": {"type": "object", **tool.parameters},
            "strict": tool.strict,
        }
    )


def _message(message: Message) -> dict[str, object]:
    if message.role not in ("user", "assistant"):
        raise JobError(f"Anthropic has no role {message.role!r}", hint="user, assistant or system")
    return {"role": message.role, "content": _one_text(_blocks(message)), **message.extra}


def _blocks(message: Message) -> list[dict[str, object]]:
    if isinstance(message.content, str):
        return [{"type": "text", "text": message.content}]
    return [_part(part) for part in message.content or ()]


def _one_text(blocks: list[dict[str, object]]) -> object:
    """One text as a string, which is what it most often is; else the blocks."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return blocks[0]["text"]
    return blocks


def _part(part: Part) -> dict[str, object]:
    match part:
        case TextPart(text=text):
            return {"type": "text", "text": text}
        case ImagePart(url=url):
            return {"type": "image", "source": _source(url)}
        case DocumentPart(url=url, name=name):
            return plain({"type": "document", "source": _source(url), "title": name})
        case OpaquePart(value=value):
            return dict(value)


def _source(url: str) -> dict[str, object]:
    """An address is fetched by the service; a `data:` URL is taken apart (if it is the same for all rows)."""
    head, comma, data = url.partition(",")
    if url.startswith("data:") and comma and head.endswith(";base64"):
        media_type = head.removeprefix("data:").removesuffix(";base64")
        return {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "url", "url": url}


ENDED = "ended"
RUNNING = frozenset({"in_progress", "canceling"})


def parse_batch(fields: Mapping[str, Any]) -> BatchStatus:
    """A batch object; never raises. It has no tag: whose it is, only its results tell.

    The one end is `ended`; a batch that was cancelled or has expired says so row by row. Counts other than
    `processing` are 0 until then, and their sum is always the number of requests.
    """
    word = str(fields.get("processing_status") or "unknown")
    counts = fields.get("request_counts")
    numbers = {
        name: count
        for name, count in (counts if isinstance(counts, Mapping) else {}).items()
        if isinstance(count, int) and not isinstance(count, bool)
    }
    batch_id = fields.get("id")
    batch_id = batch_id if isinstance(batch_id, str) else ""
    ended = word == ENDED
    return BatchStatus(
        id=batch_id,
        word=word,
        end=BatchEnd.COMPLETED if ended else None,
        strange=not ended and word not in RUNNING,
        # The results' address is made from the id: one that an answer names might lead anywhere.
        results=(ResultFile("output", batch_id),) if ended and not fields.get("archived_at") else (),
        total=sum(numbers.values()) if numbers else None,
        completed=numbers.get("succeeded"),
        failed=sum(numbers.get(name, 0) for name in ("errored", "canceled", "expired")),
        created_at=_time(fields.get("created_at")),
        expires_at=_time(fields.get("expires_at")),
    )


def tag_in(custom_id: str, requests: int) -> Tag | None:
    """The tag that `envelope` wrote into the custom_id of a batch of so many requests; None if it did not."""
    found = _SUFFIX.fullmatch(custom_id, CUSTOM_ID_LENGTH)
    if found is None:
        return None
    digest, of, first = found.groups()
    cut = None if of is None else Slice(int(of, 36), int(first, 36), int(first, 36) + requests)
    return Tag(custom_id[:10], int(custom_id[10:15], 36), digest, cut)


def _time(text: Any) -> datetime | None:
    try:
        stamp = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return stamp if stamp.tzinfo is not None else None
