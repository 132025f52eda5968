"""Batches that have ended and whose results are not there yet, or never will be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import openai
import orjson
import pytest
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from table_desk import ROWS, Desk

from bulkrate.core.run_states import RunState
from bulkrate.pipeline.context import MOST_ABSENCES
from bulkrate.testing import MisbehavingProvider


class LateNames(BaseHTTPMiddleware):
    """A replica that knows of a batch's end, and for some status calls not of its files."""

    def __init__(self, app: Any, times: int) -> None:
        super().__init__(app)
        self._left = times

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        if request.method != "GET" or "/batches/" not in request.url.path or not self._left:
            return response
        batch = orjson.loads(b"".join([chunk async for chunk in response.body_iterator]))
        if batch["status"] == "completed":
            self._left -= 1
            batch["output_file_id"] = batch["error_file_id"] = None
        return Response(orjson.dumps(batch), media_type="application/json")


@pytest.mark.parametrize(("times", "accepted"), [(MOST_ABSENCES - 1, 30), (MOST_ABSENCES, 60)])
def test_files_that_are_named_late_are_waited_for_a_while(
    tmp_path: Path, fake_clock: Any, times: int, accepted: int
) -> None:
    provider = MisbehavingProvider(now=fake_clock.now)
    provider.app.add_middleware(LateNames, times=times)
    with provider:
        desk = Desk(tmp_path, provider, fake_clock)
        desk.write(ROWS)
        assert desk.run()["rows"]["succeeded"] == 30
        assert desk.accepted() == accepted


def test_results_that_are_gone_come_to_an_end_by_ticks_alone(
    tmp_path: Path, misbehaving_provider: Any, fake_clock: Any
) -> None:
    provider = misbehaving_provider(now=fake_clock.now)
    desk = Desk(tmp_path, provider, fake_clock)
    desk.write(ROWS)
    run = desk.workspace.approve(desk.workspace.prepare(desk.job()), decide=lambda quote: True)
    anyio.run(lambda: desk.workspace.advance(run.id, until_submitted=True))
    provider.advance(steps=10)
    client = openai.OpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0)
    client.files.delete(client.batches.list().data[0].output_file_id or "")
    ticks = 0
    while desk.workspace.run(run.id).state is not RunState.FINISHED:
        anyio.run(desk.workspace.tick)
        fake_clock.advance(600)
        ticks += 1
        assert ticks < 20
    assert desk.workspace.ledger.balance(run.id).succeeded == 30
    assert desk.accepted() == 60
