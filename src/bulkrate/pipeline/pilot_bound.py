"""The hard bound of a prepared run: what its rows come to at most, by the pilot that was drawn from them."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

from bulkrate.core.vector import RowState
from bulkrate.ledger.records import RunRecord
from bulkrate.pipeline.pilot import answers_of
from bulkrate.pipeline.pilot_runs import finished_pilot
from bulkrate.pipeline.plan_price import Pricer
from bulkrate.pipeline.row_files import numbers
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pricing import Quote
from bulkrate.pricing.lengths import Lengths

if TYPE_CHECKING:
    from bulkrate.pipeline.workspace import Workspace


def bound_of(workspace: Workspace, run: RunRecord, quote: Quote) -> Decimal | None:
    """What the rows still to send cost more than in at most 5 of 100 such pilots; None without a pilot.

    There is none either if the run does not take the pilot's answers over (`--fresh`): its rows are other
    draws then.
    """
    setup = workspace.setup(run)
    pilot = None if setup.job.only_rows else finished_pilot(workspace.ledger, setup, run.snapshot)
    if pilot is None or not workspace.home.run_dir(pilot.id).exists():
        return None
    folder = RunFolder(workspace.home.run_dir(run.id))
    counts: Counter[int] = Counter()
    states = bytearray()
    for part, vector in workspace.ledger.vectors(run.id):
        tokens = numbers(folder.manifest(part.number, ["tokens"]), "tokens")
        counts.update(tokens[index] for index in vector.rows_in(RowState.PENDING))
        states += vector.states
    answers = answers_of(workspace, pilot, lambda row: True)
    drawn = workspace.setup(pilot).job.only_rows or ()
    if sum(states[row] == RowState.SUCCEEDED for row in drawn) < answers.answered.total():
        return None
    pricer = Pricer(workspace, workspace.clock.now(), setup.limits.window_s, shards=1)
    own, _ = pricer.own(setup, Lengths(counts + answers.answered), answers, ())
    return own.lanes[quote.lane].bound
