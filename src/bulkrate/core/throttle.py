"""How many single requests to have in flight: additive increase, multiplicative decrease. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Throttle:
    """A width that grows by one for each width's worth of answers and halves on a refusal.

    Refusals of the same burst count once: after one, the width is left alone until as many answers or
    refusals have come as were in flight.
    """

    width: float = 4.0
    floor: float = 1.0
    ceiling: float = 64.0
    _settling: int = 0

    @property
    def slots(self) -> int:
        """Requests to have in flight."""
        return max(int(self.width), 1)

    def answered(self) -> None:
        """A request was answered."""
        self._settling = max(self._settling - 1, 0)
        self.width = min(self.width + 1 / self.width, self.ceiling)

    def refused(self) -> None:
        """A request was refused for now (rate limit, overload)."""
        if self._settling:
            self._settling -= 1
            return
        self._settling = self.slots
        self.width = max(self.width / 2, self.floor)
