"""What a prepared run is expected to cost: by the pilot that was drawn from its rows, or by earlier runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from bulkrate.core.vector import RowState
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.pilot import PilotAnswers, found_pilots
from bulkrate.pipeline.plan_price import Pricer
from bulkrate.pipeline.row_files import numbers
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pricing import Quote
from bulkrate.pricing.lengths import Lengths
from bulkrate.pricing.plan import AnswerLength

if TYPE_CHECKING:
    from bulkrate.pipeline.workspace import Workspace


def with_forecast(workspace: Workspace, run: RunRecord, quote: Quote) -> Quote:
    """The quote of a prepared run with what its lane is expected to cost; without, where nothing tells.

    The hard bound is only known by a pilot, and only if the run takes its answers over: rows that are asked
    afresh (`--fresh`) are other draws.
    """
    lane = None
    if quote.cost_max is not None and not quote.free:
        setup = workspace.setup(run)
        lengths, pilot, answered = _whole(workspace, setup, run)
        pricer = Pricer(workspace, workspace.clock.now(), setup.limits.window_s, shards=1)
        own, _ = pricer.own(setup, lengths, pilot, answered, ())
        lane = own.lanes[quote.lane] if own.output.basis in ("pilot", "history") else None
    if lane is None:
        return replace(quote, low=None, expected=None, high=None, bound=None)
    return replace(quote, low=lane.low, expected=lane.expected, high=lane.high, bound=lane.bound)


def _whole(
    workspace: Workspace, setup: Setup, run: RunRecord
) -> tuple[Lengths, PilotAnswers | None, list[AnswerLength]]:
    """The rows still to send and those that pilots answered, the pilot that tells most, and its answers and
    others'."""
    folder = RunFolder(workspace.home.run_dir(run.id))
    counts: Counter[int] = Counter()
    states = bytearray()
    for part, vector in workspace.ledger.vectors(run.id):
        tokens = numbers(folder.manifest(part.number, ["tokens"]), "tokens")
        counts.update(tokens[index] for index in vector.rows_in(RowState.PENDING))
        states += vector.states
    if setup.job.only_rows:
        return Lengths(counts), None, []
    pilot, answered = found_pilots(workspace, setup, run.snapshot, lambda row: True)
    taken = {row: answer for row, answer in answered.items() if states[row] == RowState.SUCCEEDED}
    if pilot is None or not pilot.answered.keys() <= taken.keys():
        return Lengths(counts), None, []
    counts.update(answer.input_tokens for answer in taken.values())
    return Lengths(counts), pilot, list(taken.values())
