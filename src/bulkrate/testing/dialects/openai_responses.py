"""A response of OpenAI's Responses API, as the body of a result line (SDK 3.54, `types/responses`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulkrate.testing.faults import Fate
from bulkrate.testing.records import RowContext, Usage
from bulkrate.testing.replies import reply_to

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def in_neutral_words(body: Mapping[str, Any]) -> dict[str, Any]:
    """The request with its turns as ``messages``, which whoever counts or answers reads in any dialect."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    said = [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
    turns = [
        # Calls and their results have no role.
        {"role": item.get("role", "tool"), "content": item.get("content", item.get("output", ""))}
        for item in said
    ]
    if isinstance(body.get("instructions"), str):
        turns.insert(0, {"role": "system", "content": body["instructions"]})
    return {**{name: value for name, value in body.items() if name != "input"}, "messages": turns}


def response_to(body: Mapping[str, Any], fate: Fate, context: RowContext) -> tuple[dict[str, Any], Usage]:
    """The response to a request, and what it used; thoughts, of which nothing can be read, come first."""
    reply = reply_to(in_neutral_words(body), fate, context)
    reason = _INCOMPLETE.get(reply.finish)
    name = context.request_id[4:]
    status = "completed" if reason is None else "incomplete"
    said = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
    message = {
        "id": f"msg_{name}",
        "type": "message",
        "role": "assistant",
        "status": status,
        "content": [said],
    }
    usage = reply.usage
    return {
        "id": f"resp_{name}",
        "object": "response",
        "created_at": context.at,
        "status": status,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "model": body["model"],
        "output": [{"id": f"rs_{name}", "type": "reasoning", "summary": []}, message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools", []),
        "store": body.get("store", True),
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }, usage
