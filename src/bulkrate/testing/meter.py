"""What a provider counted: the witness for "nothing was paid for twice"."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bulkrate.testing.records import Scan


@dataclass(slots=True)
class Meter:
    """Counts since the provider started. A copy is a snapshot; ``as_dict`` is its JSON form.

    A row is *accepted* when it enters a batch that the provider would run and bill; it is counted when
    the create call takes effect, answered or not. A batch refused afterwards (malformed input, token
    queue) accepts no rows. A row is *billed* when it was run: rows that expired, were cancelled or were
    refused by themselves are not.
    """

    uploads: int = 0
    uploaded_lines: int = 0
    uploaded_bytes: int = 0
    downloads: int = 0
    downloaded_bytes: int = 0
    status_calls: int = 0
    batches_created: int = 0
    batches_refused: int = 0
    """Of ``batches_created``, those that could only turn failed."""
    rows_accepted: int = 0
    rows_accepted_again: int = 0
    """Accepted rows whose content (caps on output aside) had been accepted before, whatever their id."""
    rows_billed: int = 0
    accepted_input_tokens: int = 0
    billed_input_tokens: int = 0
    billed_cached_tokens: int = 0
    billed_output_tokens: int = 0
    accepted_by_custom_id: Counter[str] = field(default_factory=Counter)
    """How many times each id was accepted; empty when the provider was told not to track ids."""

    def copy(self) -> Meter:
        """A snapshot that later calls do not change."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        values["accepted_by_custom_id"] = Counter(self.accepted_by_custom_id)
        return Meter(**values)

    def as_dict(self, *, ids: bool = False) -> dict[str, Any]:
        """The counts as plain values; with ``ids`` also the count per custom id."""
        names = [item.name for item in fields(self) if item.name != "accepted_by_custom_id"]
        values: dict[str, Any] = {name: getattr(self, name) for name in names}
        if ids:
            values["accepted_by_custom_id"] = dict(self.accepted_by_custom_id)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Meter:
        """The inverse of ``as_dict``."""
        ids = Counter(values.get("accepted_by_custom_id", {}))
        return cls(**{**values, "accepted_by_custom_id": ids})


class Acceptance:
    """Counts accepted rows into a meter; knows which contents it has seen."""

    def __init__(self, meter: Meter, *, track_ids: bool) -> None:
        self._meter, self._track_ids = meter, track_ids
        self._contents: set[int] = set()

    def add(self, scan: Scan) -> None:
        """Count one batch, whose rows are accepted unless it can only fail."""
        meter = self._meter
        meter.batches_created += 1
        if scan.errors:
            meter.batches_refused += 1
            return
        meter.rows_accepted += scan.rows
        meter.accepted_input_tokens += scan.prompt_tokens
        for content in scan.contents:
            if content in self._contents:
                meter.rows_accepted_again += 1
            else:
                self._contents.add(content)
        if self._track_ids:
            meter.accepted_by_custom_id.update(scan.custom_ids)
