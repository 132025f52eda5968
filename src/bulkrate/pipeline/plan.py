"""Plan: every row counted, and what the job would cost, by model and lane. Spends nothing."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulkrate.errors import BulkrateError, JobError
from bulkrate.pipeline.history import FEWEST_ANSWERS, History, seen_batches
from bulkrate.pipeline.plan_count import Progress, count_rows
from bulkrate.pipeline.prepare import earlier_runs
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pricing.forecast import forecast_by_others
from bulkrate.pricing.lengths import Lengths
from bulkrate.pricing.plan import ModelPlan, OutputForecast, Plan, cost_on
from bulkrate.pricing.rates import LANES, Rate
from bulkrate.pricing.turnaround import PRIOR_SOURCE, chance_missed
from bulkrate.providers.registry import get_provider

if TYPE_CHECKING:
    from bulkrate.jobs.spec import Job
    from bulkrate.pipeline.workspace import Workspace


def make_plan(
    workspace: Workspace,
    job: Job,
    models: Sequence[str] = (),
    *,
    job_file: Path | None = None,
    on_progress: Progress = lambda rows: None,
) -> Plan:
    """The plan of a job, with its own model first and `models` ("provider/name") beside it."""
    at = workspace.clock.now()
    setup = Setup(job, workspace.env, workspace.prices)
    setup.check()
    name = name_of(setup)
    setups = {name: setup, **{other: with_model(setup, other) for other in models if other != name}}
    earlier = earlier_runs(workspace.ledger, workspace.home, setup)
    with tempfile.TemporaryDirectory(prefix="bulkrate-plan-") as scratch:
        folder = RunFolder(Path(scratch))
        counted = count_rows(workspace.ledger, earlier, setups, folder, at=at, on_progress=on_progress)
    balance, lengths, lane = counted.checked.balance, counted.lengths[name], job.lane
    within_s = lane.deadline_s or setup.limits.window_s
    planner = _Planner(workspace, at, within_s=within_s, shards=counted.shards)
    own = planner.model(setup, lengths, notes=counted.quote.notes)
    others = [
        planner.model(each, counted.lengths[other], notes=_notes(each, at), stand_in=own.output)
        for other, each in setups.items()
        if other != name
    ]
    seen = seen_batches(workspace.ledger, job.provider, within_s, at)
    return Plan(
        job=job.name,
        job_file=None if job_file is None else str(job_file.absolute()),
        document=setup.document(),
        made_at=at,
        rows={
            "total": balance.rows,
            "to_send": own.rows,
            "rejected": balance.rejected,
            "repeated": counted.checked.aliases,
            "reused": counted.checked.reused,
        },
        problems=counted.problems,
        lengths=lengths,
        shards=counted.shards,
        lane=lane.use,
        window_s=setup.limits.window_s,
        deadline_s=lane.deadline_s,
        turnaround={"prior": PRIOR_SOURCE, "own_batches": seen.batches, "own_late": seen.late},
        models=(own, *others),
        digests=digests_of(setup, at),
    )


def name_of(setup: Setup) -> str:
    """The model as "provider/name"."""
    return f"{setup.job.provider}/{setup.model}"


def with_model(setup: Setup, model: str) -> Setup:
    """The same job asked of another model, on whatever lane that has: which one is what is asked."""
    provider, slash, name = model.partition("/")
    if not slash or not name:
        hint = f"write it as provider/name: openai/{model}"
        raise BulkrateError(f"which provider's {model}?", code="usage", hint=hint)
    job = setup.job
    lanes = get_provider(provider, setup.env).traits(name).lanes
    lane = job.lane.model_copy(update={"use": lanes[0], "rescue": "none"})
    if job.request is None:
        changed = job.model_copy(update={"model": model, "lane": lane})
    else:
        request = job.request.model_copy(update={"model": model})
        changed = job.model_copy(update={"request": request, "lane": lane})
    return Setup(changed, setup.env, setup.prices)


def digests_of(setup: Setup, at: datetime) -> dict[str, Any]:
    """What a run is held against: the files' content, the model, and the prices in force."""
    return {
        "source": setup.source.snapshot(),
        "model": name_of(setup),
        "prices": {lane: rate_document(rate) for lane, rate in _rates(setup, at).items()},
    }


def rate_document(rate: Rate | None) -> dict[str, Any] | None:
    """What a rate charges; not its date or source, which may change without changing a price."""
    if rate is None:
        return None
    kinds = ("input_mtok", "cached_mtok", "cache_write_mtok", "output_mtok", "reasoning_mtok")

    def amounts(of: Any) -> dict[str, str | None]:
        prices = {kind: getattr(of, kind) for kind in kinds}
        return {kind: None if cost is None else f"{cost.normalize():f}" for kind, cost in prices.items()}

    return amounts(rate) | {
        "request_k": None if rate.request_k is None else f"{rate.request_k.normalize():f}",
        "steps": [{"over_tokens": step.over_tokens} | amounts(step) for step in rate.steps],
    }


def _rates(setup: Setup, at: datetime) -> dict[str, Rate | None]:
    return {lane: setup.prices.rate(setup.job.provider, setup.model, lane, at) for lane in LANES}


class _Planner:
    """Prices one model after the other for the same rows."""

    def __init__(self, workspace: Workspace, at: datetime, *, within_s: float, shards: int) -> None:
        self._workspace = workspace
        self._at = at
        self._within_s = within_s
        self._shards = shards

    def model(
        self,
        setup: Setup,
        lengths: Lengths,
        *,
        notes: Sequence[str],
        stand_in: OutputForecast | None = None,
    ) -> ModelPlan:
        """A model on the lanes it has. `stand_in`: how long another's answers are."""
        name, cap, ledger = name_of(setup), setup.max_output_tokens, self._workspace.ledger
        history = History.of(ledger, self._workspace.home, setup)
        output = _forecast(name, lengths, history, cap, stand_in)
        retries = history.retries(setup.prices)
        rates, window = _rates(setup, self._at), setup.provider.context_window(setup.model)
        limits, too_few = setup.limits, 0 < lengths.rows < setup.limits.min_requests
        seen = seen_batches(ledger, setup.job.provider, self._within_s, self._at)
        lanes = {}
        for lane in (lane for lane in LANES if lane in setup.provider.traits(setup.model).lanes):
            rate = rates["live" if lane == "batch" and too_few else lane]
            cost = cost_on(lane, rate, lengths, output=output, cap=cap, retries=retries)
            if lane == "batch":
                missed = chance_missed(self._within_s, self._shards, seen)
                lanes[lane] = replace(cost, chance_missed=missed)
            else:
                lanes[lane] = replace(cost, takes_s=lengths.rows / limits.answers_per_s)
        return ModelPlan(
            model=name,
            rows=lengths.rows,
            input_tokens=lengths.tokens,
            longest_input_tokens=lengths.longest,
            input_method=setup.counter.method,
            input_source=setup.counter.source,
            rows_too_long=0 if window is None else lengths.over(window - (cap or 0)),
            max_output_tokens=cap,
            output=output,
            retries=retries,
            lanes=lanes,
            free=(live := rates["live"]) is not None and not live.metered,
            notes=tuple(notes),
        )


def _forecast(
    name: str, lengths: Lengths, history: History, cap: int | None, stand_in: OutputForecast | None
) -> OutputForecast:
    most = None if cap is None else cap * lengths.rows
    if most == 0 or not lengths.rows:
        return OutputForecast.unknown(0)
    answers = history.answers()
    if len(answers) >= FEWEST_ANSWERS:
        bound = math.inf if most is None else most
        found = forecast_by_others(lengths.counts, answers, seed=name, most=bound)
        runs = f"{len(history.runs):,} earlier run{'' if len(history.runs) == 1 else 's'}"
        return OutputForecast.of(found, "history", f"{len(answers):,} answers of {runs} of this template")
    if stand_in is not None and stand_in.expected is not None:
        said = "the job's own model: this one's answers are taken to be as long"
        return replace(stand_in, basis="other_model", source=said)
    return OutputForecast.unknown(most)


def _notes(setup: Setup, at: datetime) -> Sequence[str]:
    """What to know of a model beside the job's own, whose quote says it."""
    return tuple(_remarks(setup, _rates(setup, at)))


def _remarks(setup: Setup, rates: Mapping[str, Rate | None]) -> Iterator[str]:
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
    if setup.counter.method == "estimate":
        yield f"input tokens are an estimate ({setup.counter.source})"
    try:
        _ = setup.encoder
    except JobError as error:
        yield f"cannot be sent as it is: {error.message}"
    if setup.template is not None:
        yield from (f"left out: {field}" for field in setup.wire.dropped(setup.template.request))
