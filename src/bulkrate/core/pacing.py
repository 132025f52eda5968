"""When to ask again. Pure: ages and counts in, seconds out; jitter is a number passed in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pacing:
    """`poll_s` fixes the poll interval (None: it grows with the batch's age, 2 s to 60 s)."""

    poll_s: float | None = None
    min_s: float = 2.0
    max_s: float = 60.0

    def poll_delay_s(self, age_s: float, jitter: float = 0.0) -> float:
        """Seconds to the next poll of a batch of this age; `jitter` in [0, 1] adds up to a tenth.

        A twentieth of the age: a batch of ten minutes is asked every half minute, a fresh one often.
        """
        if self.poll_s is not None:
            return self.poll_s
        delay_s = min(max(age_s / 20, self.min_s), self.max_s)
        return delay_s * (1 + jitter / 10)

    def retry_delay_s(self, failures: int, retry_after_s: float | None = None) -> float:
        """Seconds to wait after the n-th failure in a row; a provider's Retry-After wins if longer."""
        base_s = self.min_s if self.poll_s is None else self.poll_s
        doublings = min(max(failures - 1, 0), 30)  # a power of an outage of days is no float any more
        delay_s = min(base_s * 2.0**doublings, max(self.max_s * 5, base_s))
        return max(delay_s, retry_after_s or 0.0)
