"""Rehearsal: a whole job against the provider that misbehaves, before a cent is spent.

The true pipeline on a true ledger and true files, in a folder that is thrown away; only the provider and the
time are made up. No key and no address of the user's reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import orjson

from bulkrate.core.retry import SendReason
from bulkrate.errors import ConfigError
from bulkrate.jobs.spec import Job
from bulkrate.ledger.home import Home
from bulkrate.ledger.records import RunRecord, ShardRecord
from bulkrate.pipeline.report import report
from bulkrate.pipeline.setup import Setup
from bulkrate.pipeline.spending import spending_of
from bulkrate.pipeline.workspace import Workspace
from bulkrate.pricing import PUBLISHED, PriceList
from bulkrate.pricing.statement import Statement
from bulkrate.testing import answers
from bulkrate.testing.answers import Answer, Answerer
from bulkrate.testing.clock import FakeClock
from bulkrate.testing.dialects import NAMES
from bulkrate.testing.server import MisbehavingProvider
from bulkrate.tokens import TokenCounter

# A batch that expires leaves this share of its rows unanswered; so many of its rows come back nowhere.
EXPIRED, MISSING = 0.4, 0.002
# Status calls until a batch ends, and time between them: only their order matters here.
POLLS, POLL_S = 2, 600.0
# Settings of the user's that a rehearsal keeps: they shape the work, and lead nowhere.
_KEPT: Final = ("BULKRATE_LIMITS__", "BULKRATE_WORKERS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """What happened. `waves` are batches one after another: each waited for those before it."""

    report: Mapping[str, Any]
    faults: str
    answered: str  # what the lengths of the answers were taken from
    shards: int
    sent_again: int  # requests sent more than once, by shards made for it
    waves: int
    disk_bytes: int
    statement: Statement


def rehearse(
    job: Job,
    folder: Path,
    *,
    env: Mapping[str, str],
    at: datetime,
    prices: PriceList = PUBLISHED,
    faults: str | None = None,
    lengths: Sequence[int] = (),
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda rows: None,
) -> Rehearsal:
    """Run `job` in `folder`, which it fills, as if it began `at`: the prices are those of that day.

    `lengths`: output tokens of answers to draw from; without any every answer is as long as its cap.
    `faults`: those to have instead of the typical ones.

    Raises `ConfigError` for a provider that has no counterpart here, and what preparing the job raises.
    """
    import anyio

    if job.provider not in NAMES:
        raise ConfigError(
            f"there is no counterpart of {job.provider} to rehearse against",
            hint=f"there are those of {', '.join(sorted(NAMES))}: try `--model` of one that is priced alike",
        )
    clock = FakeClock(at)
    kept = {name: value for name, value in env.items() if name.startswith(_KEPT)}
    counter = Setup(job, kept).counter
    provider = MisbehavingProvider(
        dialect=job.provider,
        seed=seed,
        polls=POLLS,
        answer=answer_of(lengths),
        count_tokens=lambda body: count(counter, body),
        now=clock.now,
        track_ids=False,
    )
    job = job.model_copy(update={"sink": job.sink.model_copy(update={"path": str(folder / "answers.jsonl")})})
    with provider:
        workspace = Workspace(
            Home.find(folder, env={}), clock=clock, env={**kept, **provider.env, **_no_lag(kept)}
        )
        workspace.prices = prices
        try:
            run = workspace.prepare(job, on_progress=on_progress)
            chosen = typical(workspace.ledger.shards(run.id)) if faults is None else faults
            provider.set_faults(chosen)
            run = workspace.approve(run, decide=lambda quote: True)
            run = anyio.run(lambda: workspace.advance(run.id, poll_s=POLL_S))
            return _told(workspace, run, folder, faults=chosen, drawn=len(lengths))
        finally:
            workspace.close()


def typical(shards: Sequence[ShardRecord]) -> str:
    """Faults such as every large job meets, by the size of the first shard."""
    rows = max((shard.requests for shard in shards), default=0)
    expiring = f"expire_after={round(rows * (1 - EXPIRED))}" if rows > 1 else ""
    missing = f"missing={max(round(rows * MISSING), 1)},batches=2" if rows > 2 else ""
    return " ".join(filter(None, [expiring, missing, "create_cut=1", "status_503=2", "download_cut=1"]))


def answer_of(lengths: Sequence[int]) -> Answerer:
    """A model whose answers are as long as those drawn, the same for the same question."""

    def answer(body: Mapping[str, Any]) -> Answer:
        found = answers.default_answer(body)
        cap = answers.output_cap(body)
        if not lengths:
            return Answer(found.text, found.finish_reason, cap)
        digest = blake2b(orjson.dumps(answers.content_key(body)), digest_size=8).digest()
        drawn = lengths[int.from_bytes(digest) % len(lengths)]
        return Answer(found.text, found.finish_reason, drawn)

    return answer


def count(counter: TokenCounter, body: Mapping[str, Any]) -> int:
    """A request's input tokens, as the job's own counter has them."""
    if "messages" not in body:
        given = body.get("input", "")
        return sum(counter.count_texts([given] if isinstance(given, str) else list(given)))
    # A raw body may hold anything: whether it is refused is for the provider to say.
    turns = [
        (str(turn.get("role")), _text(turn.get("content")))
        for turn in body["messages"]
        if isinstance(turn, Mapping)
    ]
    return counter.count_chats([turns])[0]


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return content if isinstance(content, str) else ""


def _no_lag(kept: Mapping[str, str]) -> dict[str, str]:
    """A provider on this machine lists what there is: waiting for it would only be drawn out."""
    name = "BULKRATE_LIMITS__LISTING_LAG_S"
    return {} if name in kept else {name: "1"}


def _told(workspace: Workspace, run: RunRecord, folder: Path, *, faults: str, drawn: int) -> Rehearsal:
    shards = workspace.ledger.shards(run.id)
    return Rehearsal(
        report=report(workspace.ledger, run, workspace.prices),
        faults=faults,
        answered=f"{drawn:,} answers of earlier runs" if drawn else "all as long as their cap",
        shards=sum(shard.reason is SendReason.FIRST for shard in shards),
        sent_again=sum(shard.requests for shard in shards if shard.reason is not SendReason.FIRST),
        waves=waves(shards),
        disk_bytes=sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        statement=spending_of(workspace.ledger, workspace.home, [run], workspace.prices, by=("model",)),
    )


def waves(shards: Sequence[ShardRecord]) -> int:
    """How many batches had to follow one another: the most of them that never overlap."""
    found = sorted(
        (shard.ended_at, shard.submitted_at)
        for shard in shards
        if shard.submitted_at is not None and shard.ended_at is not None
    )
    chain: list[datetime] = []
    for ended_at, submitted_at in found:
        if not chain or submitted_at >= chain[-1]:
            chain.append(ended_at)
    return len(chain)
