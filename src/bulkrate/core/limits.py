"""What a provider allows, as data. Values come from dated `limits.toml` files, never from code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one provider and model on the batch lane.

    `queued_tokens` is the most prompt tokens that may wait at once (None: not known); fewer requests than
    `min_requests` are no batch, and are sent one by one. The next six describe the submit protocol: how long
    an upload and a create call may take, how far a listing may lag, how far clocks may disagree, how long
    results are kept (as far back as orphans are looked for), and what a lease lasts beyond the longest call.
    """

    requests: int = 50_000
    min_requests: int = 1
    file_bytes: int = 200_000_000
    line_bytes: int | None = None
    queued_tokens: int | None = None
    batches_in_flight: int | None = None
    window_s: float = 86_400.0
    upload_timeout_s: float = 600.0
    create_timeout_s: float = 120.0
    listing_lag_s: float = 60.0
    clock_skew_s: float = 300.0
    retention_s: float = 30 * 86_400.0
    lease_margin_s: float = 60.0

    # A batch that has not ended this long after its submission is cancelled, and its answers kept.
    overdue_s: float = 2 * 86_400.0

    # Single requests: facts of the flex and live lanes, and of leaving the batch lane.
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    answer_timeout_s: float = 600.0
    cancel_latency_s: float = 600.0
    answers_per_s: float = 5.0

    @property
    def quiet_s(self) -> float:
        """How long after a create intent a batch that exists must have shown up in a listing."""
        return self.create_timeout_s + self.listing_lag_s

    @property
    def lease_s(self) -> float:
        """Longer than any call that may have an effect: who takes a run after it finds them all over."""
        return self.upload_timeout_s + self.create_timeout_s + self.lease_margin_s


@dataclass(frozen=True, slots=True)
class Traits:
    """What a provider's batch lane does and does not do: facts, dated like the limits.

    `apis` are those a chat can be asked by; `found_by` says what tells a batch of ours in a listing;
    `discount` is the share taken off the live price where the provider publishes one for all its models;
    `retention_days` how long results are kept (None: not published); `inputs_tell` says that the name of its
    input file is what tells a batch of ours, so the input stays as long as the results; `keys` are the
    variables a key is read from, the first that is set counts; `run_live` is the day somebody has run the
    dialect against the real service (None: never).
    """

    lanes: tuple[str, ...] = ("batch", "live")
    apis: tuple[str, ...] = ("chat",)
    windows: tuple[str, ...] = ("24h",)
    discount: float | None = None
    progress: bool = True
    partial_on_cancel: bool = True
    partial_on_expiry: bool = True
    found_by: str = "metadata"
    inputs_tell: bool = False
    results_can_be_deleted: bool = False
    retention_days: float | None = None
    keys: tuple[str, ...] = ()
    run_live: str | None = None
    dated: str | None = None
    source: str | None = None
