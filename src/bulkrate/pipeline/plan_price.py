"""Pricing a plan: each model on the lanes it has, by what a pilot or earlier runs tell of its answers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from bulkrate.errors import JobError
from bulkrate.pipeline.history import FEWEST_ANSWERS, History, seen_batches
from bulkrate.pipeline.pilot import PilotAnswers
from bulkrate.pipeline.plan_digests import name_of, rates_of
from bulkrate.pipeline.setup import Setup
from bulkrate.pricing.forecast import forecast, forecast_by_others
from bulkrate.pricing.hard_bound import hard_bound
from bulkrate.pricing.lengths import Lengths
from bulkrate.pricing.pilot import sort_into_strata
from bulkrate.pricing.plan import (
    AnswerLength,
    LanePlan,
    ModelPlan,
    OutputForecast,
    Retries,
    cost_on,
    input_factor_of,
)
from bulkrate.pricing.rates import LANES
from bulkrate.pricing.turnaround import chance_missed

if TYPE_CHECKING:
    from bulkrate.pipeline.workspace import Workspace

# The band is never above the hard bound at this risk: half of what a band of 95 % leaves out.
BAND_RISK = 0.025


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one model's answers to this template: those of the pilot, or of earlier runs."""

    answers: Sequence[AnswerLength]
    runs: int
    retries: Retries
    pilot: PilotAnswers | None

    @property
    def input_factor(self) -> Decimal | None:
        """Input tokens that were billed for one that was counted."""
        return input_factor_of(self.answers)


@dataclass(frozen=True, slots=True)
class Pricer:
    """Prices one model after the other for the rows that are to be sent.

    `within_s` is when a batch must be back, `shards` how many there are.
    """

    workspace: Workspace
    at: datetime
    within_s: float
    shards: int

    def own(
        self,
        setup: Setup,
        lengths: Lengths,
        pilot: PilotAnswers | None,
        answered: Collection[AnswerLength],
        notes: Sequence[str],
    ) -> tuple[ModelPlan, OutputForecast]:
        """The job's own model, and its forecast for all rows: those that pilots have `answered` are off what
        is still to pay."""
        known = self._known(setup, pilot)
        whole = forecast_output(setup, lengths, known)
        left, output = lengths, whole
        if answered:
            left = Lengths(Counter(lengths.counts) - Counter(answer.input_tokens for answer in answered))
            output = whole.less(sum(answer.output_tokens for answer in answered), left.rows)
        return self._model(setup, left, output, known, notes), whole

    def anew(self, setup: Setup, lengths: Lengths, whole: OutputForecast, own_rows: int) -> OutputForecast:
        """The own model's forecast for the rows that another would be asked: `whole` if those are its own."""
        if lengths.rows == own_rows:
            return whole
        return forecast_output(setup, lengths, self._known(setup, None))

    def other(self, setup: Setup, lengths: Lengths, alike: OutputForecast, own_rows: int) -> ModelPlan:
        """Another model; unless earlier runs tell, its answers are taken to be as long as `alike` says."""
        known = self._known(setup, None)
        output = forecast_output(setup, lengths, known)
        if output.basis == "unknown" and alike.expected is not None:
            said = "the job's own model: this one's answers are taken to be as long"
            output = replace(alike, basis="other_model", bound=None, source=said)
        notes = list(self._remarks(setup))
        if (more := lengths.rows - own_rows) > 0:
            notes.append(f"asked {more:,} rows more: the answers that are here come from another model")
        return self._model(setup, lengths, output, known, notes)

    def _known(self, setup: Setup, pilot: PilotAnswers | None) -> Known:
        history = History.of(self.workspace.ledger, self.workspace.home, setup)
        answers = history.answers() if pilot is None else pilot.drawn
        return Known(answers, len(history.runs), history.retries(setup.prices), pilot)

    def _model(
        self,
        setup: Setup,
        lengths: Lengths,
        output: OutputForecast,
        known: Known,
        notes: Sequence[str],
    ) -> ModelPlan:
        cap, window = setup.max_output_tokens, setup.provider.context_window(setup.model)
        rates, too_few = rates_of(setup, self.at), 0 < lengths.rows < setup.limits.min_requests
        lanes = {}
        for lane in (lane for lane in LANES if lane in setup.provider.traits(setup.model).lanes):
            rate = rates["live" if lane == "batch" and too_few else lane]
            cost = cost_on(
                lane,
                rate,
                lengths,
                output=output,
                cap=cap,
                retries=known.retries,
                input_factor=known.input_factor,
            )
            lanes[lane] = self._timed(cost, setup, lengths.rows)
        return ModelPlan(
            model=name_of(setup),
            rows=lengths.rows,
            input_tokens=lengths.tokens,
            longest_input_tokens=lengths.longest,
            input_method=setup.counter.method,
            input_source=setup.counter.source,
            input_factor=known.input_factor,
            rows_too_long=0 if window is None else lengths.over(window - (cap or 0)),
            max_output_tokens=cap,
            output=output,
            retries=known.retries,
            lanes=lanes,
            free=(live := rates["live"]) is not None and not live.metered,
            notes=tuple(notes),
        )

    def _timed(self, lane: LanePlan, setup: Setup, rows: int) -> LanePlan:
        if lane.lane != "batch":
            return replace(lane, takes_s=rows / setup.limits.answers_per_s)
        live = rates_of(setup, self.at)["live"]
        if live is not None and not live.metered:
            return lane  # on a machine of one's own: other people's batches say nothing of it
        seen = seen_batches(self.workspace.ledger, setup.job.provider, self.within_s, self.at)
        return replace(lane, chance_missed=chance_missed(self.within_s, self.shards if rows else 0, seen))

    def _remarks(self, setup: Setup) -> Iterator[str]:
        """What to know of a model beside the job's own, whose quote says it."""
        rates = rates_of(setup, self.at)
        live, batch = rates["live"], rates["batch"]
        if live is None or batch is None:
            yield f"no price is known for {name_of(setup)}"
        elif not live.metered:
            yield "no price per token: it runs on a machine of yours"
        else:
            if live.priced_as != name_of(setup):
                yield f"priced as {live.priced_as}"
            if not batch.published:
                yield "no published batch rate: the live price stands in"
            if live.output_mtok is None and setup.max_output_tokens != 0:
                yield "no price for output tokens: such a model may not answer prompts at all"
        if setup.counter.method == "estimate":
            yield f"input tokens are an estimate ({setup.counter.source})"
        try:
            _ = setup.encoder
        except JobError as error:
            yield f"cannot be sent as it is: {error.message}"
        if setup.template is not None:
            yield from (f"left out: {field}" for field in setup.wire.dropped(setup.template.request))


def forecast_output(setup: Setup, lengths: Lengths, known: Known) -> OutputForecast:
    """Output tokens of all these rows: by the pilot, else by earlier runs of the template, else unknown."""
    cap = setup.max_output_tokens
    most = None if cap is None else cap * lengths.rows
    if most == 0 or not lengths.rows:
        return OutputForecast.unknown(0)
    outputs = [(answer.input_tokens, float(answer.output_tokens)) for answer in known.answers]
    if known.pilot is not None and outputs:
        return _by_pilot(known.pilot, lengths, outputs, cap)
    if known.pilot is None and len(outputs) >= FEWEST_ANSWERS:
        bound = math.inf if most is None else most
        found = forecast_by_others(lengths.counts, outputs, seed=name_of(setup), most=bound)
        runs = f"{known.runs:,} earlier run{'' if known.runs == 1 else 's'}"
        return OutputForecast.of(found, "history", f"{len(outputs):,} answers of {runs} of this template")
    return OutputForecast.unknown(most)


def _by_pilot(
    pilot: PilotAnswers, lengths: Lengths, outputs: Sequence[tuple[int, float]], cap: int | None
) -> OutputForecast:
    values = [output for _, output in outputs]
    most = bound = math.inf
    if cap is not None:
        # A row that was cut off and sent again may have more than the cap.
        highest = max(float(cap), *values)
        bound = hard_bound(values, rows=lengths.rows, cap=highest)
        most = hard_bound(values, rows=lengths.rows, cap=highest, risk=BAND_RISK)
    found = forecast(sort_into_strata(lengths.counts, outputs), seed=pilot.run, most=most)
    said = f"{len(values):,} rows drawn at random (run {pilot.run})"
    output = OutputForecast.of(found, "pilot", said)
    return output if bound == math.inf else replace(output, bound=math.ceil(bound))


def pilot_document(pilot: PilotAnswers) -> dict[str, Any]:
    """What a plan says of its pilot."""
    return {
        "run": pilot.run,
        "rows": pilot.rows,
        "answered": len(pilot.answered),
        "cost": None if pilot.cost is None else f"{pilot.cost:f}",
    }
