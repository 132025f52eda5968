"""What a run under way will come to: what was billed so far, and the forecast of the rows still open."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bulkrate.core.run_states import RunState
from bulkrate.core.vector import RowState
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.expected import Band, expected_band
from bulkrate.pipeline.history import FEWEST_ANSWERS, History
from bulkrate.pipeline.pilot import answers_of
from bulkrate.pipeline.pilot_runs import pilots_of
from bulkrate.pipeline.plan_digests import rates_of
from bulkrate.pipeline.report import bill_of, report
from bulkrate.pipeline.row_files import numbers
from bulkrate.pipeline.run_folder import PARTITION_ROWS, RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pipeline.workspace import Workspace
from bulkrate.pricing.forecast import forecast_by_others
from bulkrate.pricing.lengths import Lengths
from bulkrate.pricing.plan import AnswerLength, OutputForecast, cost_on, input_factor_of


def full_report(workspace: Workspace, run: RunRecord) -> dict[str, Any]:
    """The report of a run, with what it was expected to cost and, under way, what it will."""
    expected = expected_band(workspace.ledger, run)
    now = None if expected is None else reforecast_cost(workspace, run)
    return {
        **report(workspace.ledger, run, workspace.prices),
        "expected": None if expected is None else expected.to_json(),
        "forecast": None if now is None else now.to_json(),
    }


def reforecast_cost(workspace: Workspace, run: RunRecord) -> Band | None:
    """The whole cost of a run under way; None where the length of the answers or the price is not known.

    The rows that are open are judged by those of the pilot that were drawn near them (from the same
    partitions): the ones that finished were no random choice. Without a pilot those stand in.
    """
    setup, here = workspace.setup(run), workspace.home.run_dir(run.id).exists()
    if run.state not in (RunState.ACTIVE, RunState.CANCELLING) or not here or setup.job.model_name is None:
        return None
    lengths, open_partitions = _open_rows(workspace, run)
    spent = bill_of(workspace.ledger, run, workspace.prices).cost
    if spent is None:
        return None
    if not lengths.rows:
        return Band(spent, spent, spent)
    history = History.of(workspace.ledger, workspace.home, setup)
    answers = _near(workspace, setup, run, open_partitions) or history.answers()
    if len(answers) < FEWEST_ANSWERS:
        return None
    seen = [(answer.input_tokens, float(answer.output_tokens)) for answer in answers]
    output = OutputForecast.of(forecast_by_others(lengths.counts, seen, seed=run.id), "history", "")
    lane = _lane_of_the_rest(workspace, run, setup)
    left = cost_on(
        lane,
        rates_of(setup, run.approved_at or run.created_at)[lane],
        lengths,
        output=output,
        cap=setup.max_output_tokens,
        retries=history.retries(workspace.prices),
        input_factor=input_factor_of(answers),
    )
    if left.low is None or left.expected is None or left.high is None:
        return None
    return Band(spent + left.low, spent + left.expected, spent + left.high)


def _lane_of_the_rest(workspace: Workspace, run: RunRecord, setup: Setup) -> str:
    """The lane of the rows still open: the job's, or the faster one once the run has left the batch lane."""
    lane = setup.job.lane
    if lane.rescue != "none" and any(event.kind == "rescue" for event in workspace.ledger.events(run.id)):
        return lane.rescue
    return lane.use


def _open_rows(workspace: Workspace, run: RunRecord) -> tuple[Lengths, set[int]]:
    """The lengths of the rows without an end, and the partitions they are in."""
    folder = RunFolder(workspace.home.run_dir(run.id))
    counts: Counter[int] = Counter()
    partitions = set()
    for part, vector in workspace.ledger.vectors(run.id):
        pending = list(vector.rows_in(RowState.PENDING))
        if pending:
            tokens = numbers(folder.manifest(part.number, ["tokens"]), "tokens")
            counts.update([tokens[index] for index in pending])
            partitions.add(part.number)
    return Lengths(counts), partitions


def _near(workspace: Workspace, setup: Setup, run: RunRecord, partitions: set[int]) -> list[AnswerLength]:
    """The pilot's rows out of these partitions; all of them where those are few."""
    for pilot in pilots_of(workspace.ledger, setup, run.snapshot):
        if pilot.state is RunState.FINISHED and workspace.home.run_dir(pilot.id).exists():
            near = answers_of(workspace, pilot, lambda row: row // PARTITION_ROWS in partitions).drawn
            if len(near) < FEWEST_ANSWERS:
                near = answers_of(workspace, pilot, lambda row: True).drawn
            return list(near)
    return []
