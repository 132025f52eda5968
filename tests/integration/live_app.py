"""A synchronous chat endpoint that can be told to misbehave, for the flex and live lanes."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route


@dataclass
class LiveProvider:
    """Answers each prompt in capitals; counts answers by prompt."""

    refuse_first: int = 0  # calls answered 429
    retry_after_s: int = 0
    hang_first: int = 0  # calls that take effect and are never answered
    odd: str = ""  # what stands, as JSON text, for the content of the answer to "ticket 3"
    bad: str = "never"  # prompts with this in them get a 400
    model: str | None = None  # what answers say has answered, if not what was asked
    batch: Any = None  # an ASGI application for every other path
    more_usage: dict[str, Any] = field(default_factory=dict)  # what the usage of each answer says besides
    base_url: str = ""
    answered: Counter[str] = field(default_factory=Counter)
    tiers: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    at_once: int = 0
    most_at_once: int = 0

    async def chat(self, request: Request) -> Any:
        body = await request.json()
        prompt = body["messages"][-1]["content"]
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.refuse_first > 0:
                self.refuse_first -= 1
                self.refused += 1
                error = {"message": "slow down", "type": "requests", "code": "rate_limit_exceeded"}
                return JSONResponse({"error": error}, 429, {"retry-after": str(self.retry_after_s)})
            if self.bad in prompt:
                return JSONResponse({"error": {"message": "no such thing", "code": "invalid_value"}}, 400)
            self.answered[prompt] += 1
            self.tiers[body.get("service_tier", "default")] += 1
            if self.hang_first > 0:
                self.hang_first -= 1
                await anyio.sleep_forever()
            await anyio.lowlevel.checkpoint()
            found = answer(prompt, self.model or body["model"])
            found["usage"] |= self.more_usage
            text = json.dumps(found)
            if self.odd:
                text = text.replace('"TICKET 3"', self.odd)
            return Response(text, media_type="application/json")
        finally:
            self.at_once -= 1


def answer(prompt: str, model: str) -> dict[str, Any]:
    """The synchronous answer's body."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": prompt.upper()},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


@contextmanager
def serving(provider: LiveProvider) -> Iterator[LiveProvider]:
    """Serve it on loopback."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    routes: list[Any] = [Route("/v1/chat/completions", provider.chat, methods=["POST"])]
    if provider.batch is not None:
        routes.append(Mount("/", app=provider.batch))
    app = Starlette(routes=routes)
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    provider.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        yield provider
    finally:
        server.should_exit = True
        thread.join()
