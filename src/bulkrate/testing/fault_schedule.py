"""Which call and which batch a fault befalls: the plan, held against what has happened so far."""

from __future__ import annotations

from collections import Counter

from bulkrate.testing.faults import CONTENT, Fault, FaultPlan
from bulkrate.testing.records import Batch


class FaultSchedule:
    """Counts calls and knows which batches are under the present plan."""

    def __init__(self, plan: FaultPlan) -> None:
        self.plan = plan
        self._calls: Counter[str] = Counter()
        self.first_ordinal = 0

    def begin(self, plan: FaultPlan, first_ordinal: int) -> None:
        """Have another plan, for the batches from this one on and for the calls still to come."""
        self.plan, self.first_ordinal = plan, first_ordinal
        self._calls.clear()

    def on_content(self) -> dict[str, Fault]:
        """Count one download that is being sent, and say what befalls its bytes."""
        nth = self._calls[CONTENT]
        self._calls[CONTENT] += 1
        return self.plan.on_content(nth)

    def on_next_call(self, operation: str) -> Fault | None:
        """What will interrupt the next call of ``operation``; nothing is counted."""
        return self.plan.on_call(operation, self._calls[operation])

    def on_call(self, operation: str) -> Fault | None:
        """Count one call of ``operation`` and say what interrupts it, if anything does."""
        nth = self._calls[operation]
        self._calls[operation] += 1
        return self.plan.on_call(operation, nth)

    def on_create(self, name: str, ordinal: int) -> Fault | None:
        """The fault ``name``, if it befalls the batch that is about to be created."""
        return self.plan.on_batch(name, ordinal - self.first_ordinal)

    def on_batch(self, name: str, batch: Batch) -> Fault | None:
        """The fault ``name``, if it befalls this batch; never somebody else's."""
        return None if batch.foreign else self.on_create(name, batch.ordinal)

    def on_poll(self, name: str, batch: Batch) -> bool:
        """Whether ``name`` befalls the status call that was just counted."""
        fault = self.on_batch(name, batch)
        return fault is not None and 0 <= batch.asked - fault.number("from_poll") < fault.count
