"""The control API under ``/_control``: how a test in another process watches and steers the provider.

No key is asked for: it serves loopback only, and tests only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from bulkrate.testing.faults import FaultError, FaultPlan
from bulkrate.testing.records import Batch, Refused

if TYPE_CHECKING:
    from bulkrate.testing.gates import Gates
    from bulkrate.testing.provider_state import ProviderState

MAX_STEPS: Final = 1_000
"""How many steps ``advance`` takes at most to bring a batch to its end."""


class Control:
    """What can be asked and done; used by the HTTP routes and, in the same process, directly."""

    def __init__(self, state: ProviderState, gates: Gates) -> None:
        self._state, self._gates = state, gates

    def meter(self, *, ids: bool = False) -> dict[str, Any]:
        """The meter's counts, with ``ids`` also per custom id."""
        return self._state.meter.as_dict(ids=ids)

    def snapshot(self) -> dict[str, Any]:
        """Faults, events, held calls, batches and files, without their contents."""
        state = self._state
        return {
            "faults": [str(fault) for fault in state.faults.plan.faults],
            "seed": state.faults.plan.seed,
            "events": dict(self._gates.events),
            "held": self._gates.held,
            "batches": [_describe(batch) for batch in state.batches.values()],
            "files": [
                {
                    "id": item.id,
                    "name": item.name,
                    "purpose": item.purpose,
                    "size_bytes": item.blob.size_bytes,
                }
                for item in state.files.values()
            ],
        }

    def set_faults(self, faults: str | Sequence[str], seed: int | None = None) -> dict[str, Any]:
        """Replace all faults, for calls and batches to come; batches in flight behave from here on."""
        plan = FaultPlan.parse(faults, seed=self._state.faults.plan.seed if seed is None else seed)
        self._state.set_plan(plan)
        return {"faults": [str(fault) for fault in plan.faults], "seed": plan.seed}

    def advance(self, batch_id: str | None = None, steps: int | None = None) -> dict[str, Any]:
        """Move a batch (or every one) by ``steps``, or to its end; a stuck batch is set free first."""
        state = self._state
        batches = [state.batch(batch_id)] if batch_id is not None else list(state.batches.values())
        for batch in batches:
            state.release(batch)
            for _ in range(MAX_STEPS if steps is None else steps):
                if batch.ended:
                    break
                state.step(batch)
        return {"batches": [_describe(batch) for batch in batches]}

    def release(self, operation: str | None = None) -> dict[str, Any]:
        """Let held calls go on."""
        return {"released": self._gates.release(operation)}

    async def wait(self, event: str, count: int = 1, timeout_s: float | None = None) -> int:
        """Return once ``event`` happened ``count`` times; ``TimeoutError`` after ``timeout_s``."""
        async with asyncio.timeout(timeout_s):
            return await self._gates.wait(event, count)

    def routes(self) -> Sequence[BaseRoute]:
        """The HTTP face."""
        return [
            Route("/_control/meter", self._get_meter),
            Route("/_control/state", self._get_state),
            Route("/_control/wait", self._get_wait),
            Route("/_control/faults", self._post_faults, methods=["POST"]),
            Route("/_control/advance", self._post_advance, methods=["POST"]),
            Route("/_control/release", self._post_release, methods=["POST"]),
        ]

    async def _get_meter(self, request: Request) -> Response:
        return _json(self.meter(ids=request.query_params.get("ids") == "1"))

    async def _get_state(self, _request: Request) -> Response:
        return _json(self.snapshot())

    async def _get_wait(self, request: Request) -> Response:
        query = request.query_params
        try:
            limit_s = float(query["timeout_s"]) if "timeout_s" in query else None
            happened = await self.wait(query["event"], int(query.get("count", "1")), limit_s)
        except (KeyError, ValueError) as error:
            return _json({"error": f"wait wants event, count, timeout_s: {error}"}, 400)
        except TimeoutError:
            return _json(
                {"error": f"{query['event']} did not happen", "events": dict(self._gates.events)}, 408
            )
        return _json({"event": query["event"], "count": happened})

    async def _post_faults(self, request: Request) -> Response:
        body = await _body(request)
        try:
            return _json(self.set_faults(body.get("faults", []), body.get("seed")))
        except FaultError as error:
            return _json({"error": str(error)}, 400)

    async def _post_advance(self, request: Request) -> Response:
        body = await _body(request)
        try:
            return _json(self.advance(body.get("batch"), body.get("steps")))
        except Refused as error:
            return _json({"error": error.message}, 404)

    async def _post_release(self, request: Request) -> Response:
        return _json(self.release((await _body(request)).get("operation")))


def _describe(batch: Batch) -> dict[str, Any]:
    return {
        "id": batch.id,
        "phase": str(batch.phase),
        "rows": batch.scan.rows,
        "done": batch.done,
        "failed": batch.failed,
        "asked": batch.asked,
        "metadata": batch.metadata,
        "input_file_id": batch.input_file_id,
        "foreign": batch.foreign,
        "errors": [error.code for error in batch.scan.errors],
    }


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    body = orjson.loads(raw) if raw else {}
    return body if isinstance(body, dict) else {}


def _json(value: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
