"""A connection to Anthropic's shape of server that answers by a script, and the batches it tells of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from scripted_http import Call, Scripted, scripted

from bulkrate.core.limits import Limits
from bulkrate.providers.anthropic.client import AnthropicConnection, open_http
from bulkrate.providers.provider import Tag

KEY = "sk-ant-0123456789abcdef"
TAG = Tag("0123456789", 7, "d" * 32)
NOW = datetime(2026, 11, 24, tzinfo=UTC)
BATCHES = "/v1/messages/batches"


def batch(number: int, word: str = "in_progress", *, rows: int = 3, age_s: float = 0.0, **more: Any) -> Any:
    counts = {"processing": 0, "succeeded": rows} if word == "ended" else {"processing": rows, "succeeded": 0}
    return {
        "id": f"msgbatch_{number}",
        "processing_status": word,
        "request_counts": counts,
        "created_at": (NOW - timedelta(seconds=age_s)).isoformat(),
        "archived_at": None,
        **more,
    }


def run(script: Callable[[Call], Any], work: Callable[[AnthropicConnection], Awaitable[Any]]) -> Scripted:
    """Do `work` against a server that answers by `script`; its calls."""

    async def main() -> Scripted:
        async with scripted(script) as server:
            env = {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": server.base_url.removesuffix("/v1")}
            connection = AnthropicConnection(open_http(env), limits=Limits(create_timeout_s=5))
            try:
                await work(connection)
            finally:
                await connection.aclose()
            return server

    return asyncio.run(main())
