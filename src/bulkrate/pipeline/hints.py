"""What a provider says unasked about its batches: never a state, only a reason to ask now."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import HintRecord
from bulkrate.pipeline.clock import Clock


class Heard:
    """The hints one loop has heeded. Each counts once: one that came too early leads to one more question,
    and then the loop asks at its own cadence again."""

    def __init__(self) -> None:
        self._ids: set[tuple[str, str]] = set()

    def fresh(self, ledger: Ledger, runs: Sequence[str]) -> list[HintRecord]:
        """Hints about these runs that were not there before."""
        known = self._ids
        hints = ledger.hints(runs)
        self._ids = {(hint.provider, hint.id) for hint in hints}
        return [hint for hint in hints if (hint.provider, hint.id) not in known]


class Bell:
    """Wakes a loop that sleeps. Belongs to the event loop; a ring that comes while it works counts, too."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    @property
    def rung(self) -> bool:
        """Whether it was rung since the last sleep ended."""
        return self._rung.is_set()

    def ring(self) -> None:
        """Cut the present sleep short, or the next one."""
        self._rung.set()

    async def sleep(self, clock: Clock, seconds: float) -> None:
        """Sleep by that clock, or until somebody rings."""
        async with anyio.create_task_group() as group:

            async def listen() -> None:
                await self._rung.wait()
                group.cancel_scope.cancel()

            group.start_soon(listen)
            await clock.sleep(seconds)
            group.cancel_scope.cancel()
        self._rung = anyio.Event()
