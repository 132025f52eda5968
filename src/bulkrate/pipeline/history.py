"""History: what earlier runs in this ledger tell about a job that is planned."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.run_states import RunState
from bulkrate.core.usage import Usage
from bulkrate.core.vector import RowState
from bulkrate.ledger.home import Home
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import RunRecord, UsageRecord
from bulkrate.pipeline.outcomes import REUSED, OutcomeReader
from bulkrate.pipeline.row_files import numbers
from bulkrate.pipeline.run_folder import RunFolder
from bulkrate.pipeline.setup import Setup
from bulkrate.pricing import PriceList, bill
from bulkrate.pricing.plan import AnswerLength, Retries
from bulkrate.pricing.turnaround import Seen

# So many answers are looked at, of so many partitions of a run: more would say the same.
MOST_ANSWERS = 1_000
MOST_PARTITIONS = 10
MOST_RUNS = 50
# Fewer requests say nothing about how often they fail.
LEAST_REQUESTS = 30
FEWEST_ANSWERS = 30

_BEGUN = (RunState.ACTIVE, RunState.CANCELLING, RunState.SETTLED, RunState.FINISHED)


@dataclass(frozen=True, slots=True)
class History:
    """Earlier runs of a job's template with one model, newest first."""

    ledger: Ledger
    home: Home
    runs: tuple[RunRecord, ...]

    @classmethod
    def of(cls, ledger: Ledger, home: Home, setup: Setup) -> History:
        """Those of the same name whose request is the same, model included."""
        asked = template_of(setup.document()["job"])
        found = [
            run
            for run in ledger.runs(job_name=setup.job.name)
            if (run.provider, run.model) == (setup.job.provider, setup.model)
            and run.state in _BEGUN
            and home.run_dir(run.id).exists()
            and template_of(orjson.loads(run.job_json)["job"]) == asked
        ]
        return cls(ledger, home, tuple(found[:MOST_RUNS]))

    def answers(self) -> list[AnswerLength]:
        """Answers drawn at random, newest runs first."""
        found: list[AnswerLength] = []
        for run in self.runs:
            chance = random.Random(run.id)  # noqa: S311 - no secret
            mine = list(self._answers_of(run, chance))
            found += chance.sample(mine, min(len(mine), MOST_ANSWERS - len(found)))
            if len(found) >= MOST_ANSWERS:
                break
        return found

    def _answers_of(self, run: RunRecord, chance: random.Random) -> Iterator[AnswerLength]:
        folder = RunFolder(self.home.run_dir(run.id))
        reader = OutcomeReader(folder, ["input_tokens", "output_tokens"])
        parts = self.ledger.partitions(run.id)
        for part in chance.sample(parts, min(len(parts), MOST_PARTITIONS)):
            vector = self.ledger.vector(run.id, part.number)
            outcomes = reader.partition(part.first_row, vector)
            billed, outputs = outcomes["input_tokens"], outcomes["output_tokens"]
            inputs = numbers(folder.manifest(part.number, ["tokens"]), "tokens")
            copied = folder.pairs(folder.aliases_path, part.first_row, part.first_row + part.rows)
            for index in vector.rows_in(RowState.SUCCEEDED):
                if vector.shards[index] == REUSED or part.first_row + index in copied:
                    continue
                if outputs[index] is not None:
                    yield AnswerLength(inputs[index], outputs[index], billed[index])

    def retries(self, prices: PriceList) -> Retries:
        """What was paid over what the answers that count cost."""
        paid, kept, requests, answers = Decimal(0), Decimal(0), 0, 0
        for run in self.runs:
            used = [record for record in self.ledger.usage(run.id) if record.usage]
            answered = [record for record in used if not record.error]
            at = run.approved_at or run.created_at
            whole, good = (bill(_billed(run, each), at, prices).cost for each in (used, answered))
            if whole is None or good is None:
                return Retries()
            paid, kept = paid + whole, kept + good
            requests += sum(record.requests for record in used)
            answers += sum(record.requests for record in answered)
        if answers < LEAST_REQUESTS or not kept:
            return Retries()
        return Retries.measured(paid=paid, kept=kept, wasted=requests - answers, requests=requests)


def _billed(run: RunRecord, used: Sequence[UsageRecord]) -> list[tuple[str, Usage, int, str]]:
    return [
        (f"{run.provider}/{each.model or run.model}", each.usage, each.requests, each.lane) for each in used
    ]


def template_of(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """What makes answers long or short: the request of a job document, its model aside."""
    return {name: value for name, value in (job.get("request") or {}).items() if name != "model"}


def seen_batches(ledger: Ledger, provider: str, within_s: float, now: datetime) -> Seen:
    """Batches of any job with a provider, and how many took longer. One cancelled sooner says nothing."""
    batches = late = 0
    runs: Sequence[RunRecord] = [run for run in ledger.runs() if run.provider == provider][:MOST_RUNS]
    for run in runs:
        for shard in ledger.shards(run.id):
            if shard.submitted_at is None or shard.batch_id is None:
                continue
            took_s = ((shard.ended_at or now) - shard.submitted_at).total_seconds()
            too_long = took_s > within_s or shard.end is BatchEnd.EXPIRED
            if too_long or shard.end is BatchEnd.COMPLETED:
                batches, late = batches + 1, late + too_long
    return Seen(batches, late)
