"""The plan: what a job would cost with which model on which lane, and what was approved when it is run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from bulkrate.pricing.ceiling import bounded, ceiling
from bulkrate.pricing.forecast import Forecast
from bulkrate.pricing.lengths import Lengths
from bulkrate.pricing.rates import Rate
from bulkrate.pricing.statement import text

VERSION = 1

# Where the length of the answers is known from: none are needed, rows drawn from this very source, earlier
# runs of the same template, the job's own model standing in for another one, or nothing at all.
Basis = Literal["none_needed", "pilot", "history", "other_model", "unknown"]


class AnswerLength(NamedTuple):
    """One answered row: its input tokens as counted, and what the provider billed."""

    input_tokens: int
    output_tokens: int
    billed_input_tokens: int


def input_factor_of(answers: Iterable[AnswerLength]) -> Decimal | None:
    """Input tokens that were billed for one that was counted; None where nothing was billed."""
    counted = billed = 0
    for answer in answers:
        counted, billed = counted + answer.input_tokens, billed + answer.billed_input_tokens
    return (Decimal(billed) / counted).quantize(Decimal("0.0001")) if counted and billed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputForecast:
    """Output tokens of some rows. Without a basis `low` is 0, and `high` what the caps allow.

    `bound` is exceeded at most 5 of 100 times whatever the answers are like; it needs a pilot and a cap.
    """

    basis: Basis
    low: int
    expected: int | None
    high: int | None
    bound: int | None = None
    answers: int = 0  # that it was learned from
    confidence: float | None = None
    skewed: bool = False
    source: str = ""

    @classmethod
    def unknown(cls, most: int | None) -> OutputForecast:
        """Nothing is known but the caps."""
        if most == 0:
            return cls(basis="none_needed", low=0, expected=0, high=0)
        return cls(basis="unknown", low=0, expected=None, high=most)

    @classmethod
    def of(cls, found: Forecast, basis: Basis, source: str) -> OutputForecast:
        """From a forecast in tokens."""
        return cls(
            basis=basis,
            low=max(int(found.low), 0),
            expected=max(round(found.expected), 0),
            high=max(math.ceil(found.high), 0),
            answers=found.drawn,
            confidence=found.confidence,
            skewed=found.skewed,
            source=source,
        )

    def less(self, tokens: int, rows: int) -> OutputForecast:
        """What is left when answers of so many tokens are there, and so many rows are still open."""

        def left(amount: int | None) -> int | None:
            return None if amount is None else max(amount - tokens, 0) if rows else 0

        low, expected = left(self.low), left(self.expected)
        return replace(self, low=low or 0, expected=expected, high=left(self.high), bound=left(self.bound))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """What was paid in all over what the answers that count cost, in own earlier runs; None: not measured.

    `most` is its upper limit: few requests say little of how often they fail.
    """

    factor: Decimal | None = None
    most: Decimal | None = None
    requests: int = 0

    @classmethod
    def measured(cls, *, paid: Decimal, kept: Decimal, wasted: int, requests: int) -> Retries:
        """From what was paid, the part of it that answers cost, and how many of the requests were no answer.

        The upper limit is that of the share of such requests, by Wilson's interval of 95 %.
        """
        share, z = wasted / requests, 1.96
        root = math.sqrt(share * (1 - share) / requests + z * z / (4 * requests * requests))
        limit = (share + z * z / (2 * requests) + z * root) / (1 + z * z / requests)
        factor = paid / kept
        # Without a wasted request one is taken to cost what an answer does, beside what no request explains.
        most = 1 + (factor - 1) * Decimal(limit / share) if wasted else factor + Decimal(limit)
        digits = Decimal("0.0001")
        return cls(factor=factor.quantize(digits), most=most.quantize(digits), requests=requests)


@dataclass(frozen=True, slots=True, kw_only=True)
class LanePlan:
    """One model on one lane. `ceiling` is for sending every row once with every answer at its cap, `bound`
    with answers that come to the hard bound of the pilot.

    None is not known. `chance_missed` is that of the job's deadline, without one of the provider's window;
    `takes_s` how long single requests would take.
    """

    lane: str
    low: Decimal | None = None
    expected: Decimal | None = None
    high: Decimal | None = None
    ceiling: Decimal | None = None
    bound: Decimal | None = None
    published: bool = False
    priced_as: str = ""
    prices_dated: date | None = None
    prices_source: str = ""
    chance_missed: float | None = None
    takes_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """One model on the lanes its provider has."""

    model: str
    rows: int
    input_tokens: int
    longest_input_tokens: int
    input_method: str
    input_source: str
    input_factor: Decimal | None  # billed tokens for one that was counted, in a pilot or earlier runs
    rows_too_long: int
    max_output_tokens: int | None
    output: OutputForecast
    retries: Retries
    lanes: Mapping[str, LanePlan]
    free: bool = False
    notes: tuple[str, ...] = ()

    def saving(self, lane: str) -> Decimal | None:
        """What the lane costs less than live: of the expected costs, else of the ceilings."""
        own, live = self.lanes.get(lane), self.lanes.get("live")
        if own is None or live is None:
            return None
        for mine, theirs in ((own.expected, live.expected), (own.ceiling, live.ceiling)):
            if mine is not None and theirs is not None:
                return theirs - mine
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The document. `rows` counts them by what becomes of them, `digests` are what a run is held against.

    `store_cost` and `reprocess` are the user's: an amount, and the share of the rows that is asked again.
    """

    job: str
    job_file: str | None
    document: Mapping[str, Any]
    made_at: datetime
    rows: Mapping[str, int]
    problems: Mapping[str, int]
    lengths: Lengths
    shards: int
    lane: str
    window_s: float
    deadline_s: float | None
    turnaround: Mapping[str, Any]
    models: tuple[ModelPlan, ...]
    digests: Mapping[str, Any]
    pilot: Mapping[str, Any] | None = None
    store_cost: Decimal | None = None
    reprocess: Decimal | None = None
    currency: str = "USD"

    @property
    def own(self) -> ModelPlan:
        """The job's own model."""
        return self.models[0]

    @property
    def likely(self) -> Decimal | None:
        """What the job's own model and lane come to: the expected cost, else the upper end."""
        lane = self.own.lanes[self.lane]
        return lane.high if lane.expected is None else lane.expected

    @property
    def total(self) -> Decimal | None:
        """The same with the user's lines; None without any."""
        if self.likely is None or self.store_cost is self.reprocess is None:
            return None
        return self.likely * (1 + (self.reprocess or 0)) + (self.store_cost or 0)

    def to_json(self) -> dict[str, Any]:
        """A plain document: money as strings, so that no reader rounds it."""
        return {
            "bulkrate_plan": VERSION,
            "job": self.job,
            "job_file": self.job_file,
            "made_at": self.made_at.isoformat(),
            "rows": dict(self.rows),
            "problems": dict(self.problems),
            "input_tokens": self.own.input_tokens,
            "histogram": self.lengths.histogram(),
            "shards": self.shards,
            "lane": self.lane,
            "window_s": self.window_s,
            "deadline_s": self.deadline_s,
            "turnaround": dict(self.turnaround),
            "currency": self.currency,
            "pilot": None if self.pilot is None else dict(self.pilot),
            "store_cost": text(self.store_cost),
            "reprocess": text(self.reprocess),
            "total": text(self.total),
            "models": [_model_document(model) for model in self.models],
            "digests": dict(self.digests),
            "document": dict(self.document),
        }

    def _repr_html_(self) -> str:
        from bulkrate.pricing.plan_table import html

        return html(self)


def cost_on(
    lane: str,
    rate: Rate | None,
    lengths: Lengths,
    *,
    output: OutputForecast,
    cap: int | None,
    retries: Retries,
    input_factor: Decimal | None = None,
) -> LanePlan:
    """A lane's costs. Without a forecast the upper end is the ceiling, and there is no middle.

    The lower end is what it costs if nothing is sent again.
    """
    if rate is None or not rate.metered:
        return LanePlan(lane=lane, priced_as="" if rate is None else rate.priced_as)
    most, known = ceiling(rate, lengths.load(cap)), output.expected is not None

    def cost(tokens: int | None, times: Decimal | None = None) -> Decimal | None:
        if tokens is None:
            return None
        return lengths.cost(rate, tokens, input_factor or Decimal(1)) * (times or 1)

    bound = None
    if output.bound is not None:
        bound = bounded(rate, lengths.load(cap, max(input_factor or Decimal(1), Decimal(1))), output.bound)
    return LanePlan(
        lane=lane,
        low=cost(output.low),
        expected=cost(output.expected, retries.factor),
        high=cost(output.high, retries.most) if known and output.high is not None else most,
        ceiling=most,
        bound=None if bound is None else bound * (retries.most or 1),
        published=rate.published,
        priced_as=rate.priced_as,
        prices_dated=rate.dated,
        prices_source=rate.source,
    )


def _model_document(model: ModelPlan) -> dict[str, Any]:
    document = asdict(model)
    document["notes"] = list(model.notes)
    document["retries"] |= {"factor": text(model.retries.factor), "most": text(model.retries.most)}
    document["input_factor"] = text(model.input_factor)
    for name, lane in document["lanes"].items():
        saving = model.saving(name)
        lane["saving"] = saving
        for field in ("low", "expected", "high", "ceiling", "bound", "saving"):
            lane[field] = text(lane[field])
        lane["prices_dated"] = None if lane["prices_dated"] is None else lane["prices_dated"].isoformat()
    return document
