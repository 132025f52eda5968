"""Send: single requests on the flex and live lanes, every answer durable before it counts.

A shard of such a lane is answered request by request into an answer log, as lines of the same shape as a
batch's result file; when all are there the log becomes the shard's raw file and is collected like any other.
A crash resumes with the requests that have no answer yet. A call cut short may have been answered and
billed without our knowing, and cannot be found: before each call its intent is logged, and those left
without an answer are counted as `possibly_billed`. So none is cut short when time is up: no more are begun,
and those under way are waited for, `answer_timeout_s` at most.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import anyio
import orjson

from bulkrate.core.identity import RequestId, parse_custom_id
from bulkrate.core.json_value import writable
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.run_states import RunState
from bulkrate.core.shard_states import ShardEvent, ShardState
from bulkrate.errors import BulkrateError, OutcomeUnknown, QuotaError, Refused, Unreachable
from bulkrate.ledger.answer_log import AnswerLog
from bulkrate.ledger.records import ShardRecord
from bulkrate.pipeline.budget import reserve
from bulkrate.pipeline.context import RunContext
from bulkrate.pipeline.drained import record_stretch
from bulkrate.pipeline.landing import answers_lost
from bulkrate.pipeline.packed import packed_file
from bulkrate.pipeline.run_folder import BodyReader
from bulkrate.signals import signal

# Calls for one request before it is given up for this attempt.
TRIES = 8
# A pause is cut into pieces as long as this: somebody may cancel the run, and the lease runs on.
LOOK_S = 5.0
# Marks an intent whose call was refused for certain: nothing was answered, nothing is billed.
REFUSED = "!"


@dataclass(slots=True)
class Sending:
    """The work of one shard: what is left, how often each request was tried, what went wrong on the way."""

    shard: ShardRecord
    left: deque[tuple[int, bytes | None]]  # request, and its body once it was read
    answers: AnswerLog
    intents: AnswerLog
    tries: Counter[int]  # calls by request: those of this process, and those before that were lost
    busy: int = 0
    lost: int = 0  # calls cut short, which may be billed beside those that are made in their place
    paused_until: datetime | None = None
    cancelled: bool = False
    cut: bool = False  # time is up
    failures: list[Exception] = field(default_factory=list)

    @property
    def goes_on(self) -> bool:
        """Whether more calls may be begun."""
        return not self.cancelled and not self.cut and not self.failures


async def send(context: RunContext, shard: ShardRecord, *, cancelling: bool) -> None:
    """Answer every request of the shard that has no answer yet; a cancelled run sends no more.

    When time is up (`context.calls_until_at`) it is left as it is, for another time. Some calls are made
    however late it is: whoever has no time at all comes to an end, too.
    """
    if context.cut and not cancelling:
        return
    if shard.state is ShardState.PACKED:
        try:
            with context.transaction("send_intended") as tx:
                reserve(tx, context, shard)
                at = context.clock.now()
                tx.move_shard(shard.run, shard.number, ShardEvent.SEND_INTENDED, at, submitted_at=at)
        except Refused:
            return  # the money is needed elsewhere by now: whether to wait is `drive`'s to decide
    folder = context.folder.answers_dir(shard.number, shard.digest)
    with AnswerLog(folder / "answers") as answers, AnswerLog(folder / "intents") as intents:
        began_at, before = context.clock.now(), len(answers)
        left = [number for number in range(shard.requests) if custom_id(shard, number) not in answers]
        if left and not cancelling:
            work: deque[tuple[int, bytes | None]] = deque((number, None) for number in left)
            tries = Counter(map(_request_of, unsettled(answers, intents)))
            sending = Sending(shard, work, answers, intents, tries, lost=tries.total())
            if sending.lost:
                _reserve_lost(context, sending)
            await _answer_all(context, sending, left)
            cancelling = sending.cancelled
        lost, answered = len(unsettled(answers, intents)), len(answers) - before
        if len(answers) < shard.requests and not cancelling:
            with context.transaction("answered") as tx:
                record_stretch(tx, context, shard, began_at, answered)
            return
        answers.seal()
        intents.seal()
    end = BatchEnd.CANCELLED if cancelling else BatchEnd.COMPLETED
    with context.transaction("all_answered") as tx:
        at = context.clock.now()
        record_stretch(tx, context, shard, began_at, answered)
        if lost:
            tx.add_event(shard.run, "possibly_billed", at, shard.number, {"requests": lost})
        tx.move_shard(shard.run, shard.number, ShardEvent.ALL_ANSWERED, at, ended_at=at, end=end)
    context.on_change()


def custom_id(shard: ShardRecord, request: int) -> str:
    """The request's id, the same as in a batch."""
    return str(RequestId(shard.run, shard.number, request))


def _request_of(intent: str) -> int:
    """The request that a call was made for."""
    parsed = parse_custom_id(intent.partition("#")[0])
    assert parsed is not None
    return parsed.request


def unsettled(answers: AnswerLog, intents: AnswerLog) -> list[str]:
    """Intents of calls that were begun, and neither answered nor refused as far as anybody knows: these are
    possibly billed."""
    begun = intents.ids()
    settled = {str(line["intent"]) for _, line in answers.entries() if "intent" in line}
    settled |= {name.removesuffix(REFUSED) for name in begun if name.endswith(REFUSED)}
    return [name for name in begun if not name.endswith(REFUSED) and name not in settled]


async def _answer_all(context: RunContext, sending: Sending, left: list[int]) -> None:
    rows = context.folder.rows(sending.shard.number)
    bodies = BodyReader(context.folder, context.partitions).bodies([rows[number] for number in left])
    changed = anyio.Event()

    async def one(request: int, body: bytes) -> None:
        try:
            await _answer(context, sending, request, body)
        except Exception as error:
            sending.failures.append(error)
        finally:
            sending.busy -= 1
            changed.set()

    async with anyio.create_task_group() as group:
        while sending.busy or (sending.left and sending.goes_on):
            await _pause(context, sending)
            while sending.left and sending.busy < context.throttle.slots and sending.goes_on:
                request, body = sending.left.popleft()
                if body is None:  # in ascending order the first time, which is how bodies are read
                    body = next(bodies)
                    if sending.shard.max_output_tokens is not None:
                        body = context.wire.with_cap(body, sending.shard.max_output_tokens)
                sending.busy += 1
                group.start_soon(one, request, body)
            if sending.busy:
                await changed.wait()
            changed = anyio.Event()
            _look(context, sending)
    if sending.failures:
        raise sending.failures[0]


async def _pause(context: RunContext, sending: Sending) -> None:
    until, sending.paused_until = sending.paused_until, None
    while until is not None and sending.goes_on:
        wait_s = (until - context.clock.now()).total_seconds()
        if wait_s <= 0:
            return
        await context.clock.sleep(min(wait_s, LOOK_S, _calls_for_s(context)))
        _look(context, sending)


def _calls_for_s(context: RunContext) -> float:
    """How much longer calls may be begun."""
    if context.calls_until_at is None:
        return math.inf
    return max((context.calls_until_at - context.clock.now()).total_seconds(), 0.0)


def _look(context: RunContext, sending: Sending) -> None:
    """Keep the lease, and see whether the run was cancelled, or time is up. Calls under way go on: they are
    billed."""
    if _calls_for_s(context) <= 0:
        sending.cut = context.cut = True
    try:
        context.renew()
        run = context.ledger.run(context.run)
    except BulkrateError as error:
        sending.failures.append(error)
    else:
        sending.cancelled = run is not None and run.state is RunState.CANCELLING


async def _answer(context: RunContext, sending: Sending, request: int, body: bytes) -> None:
    name = custom_id(sending.shard, request)
    sending.tries[request] += 1
    tried = sending.tries[request]
    intent = f"{name}#{context.epoch}.{tried}"
    await sending.intents.append(intent, {})
    signal("send.before")
    line: dict[str, Any] = {"custom_id": name, "response": None, "error": None, "intent": intent}
    try:
        answer = await context.connection.answer(body, context.lane_of(sending.shard))
    except (QuotaError, Unreachable) as error:
        if not isinstance(error, OutcomeUnknown):
            await sending.intents.append(intent + REFUSED, {})
        else:
            sending.lost += 1
            _reserve_lost(context, sending)
        context.throttle.refused()
        delay_s = context.pacing.retry_delay_s(tried, error.retry_after_s)
        sending.paused_until = context.clock.now() + timedelta(seconds=delay_s)
        if tried < TRIES:
            sending.left.append((request, body))
            return
        # Given up for this attempt; the row is sent again as its class allows.
        del line["intent"]
        line["error"] = {"code": "no_answer", "message": f"no answer after {tried} calls: {error.code}"}
    else:
        context.throttle.answered()
        line["response"] = {"status_code": answer.status_code, "body": writable(answer.body)}
    signal("send.after")
    await sending.answers.append(name, line)
    context.on_change()


def _reserve_lost(context: RunContext, sending: Sending) -> None:
    """Reserve for the calls that were lost, too, before one is made in their place. Raises `Refused`."""
    with context.transaction("lost_calls") as tx:
        reserve(tx, context, sending.shard, lost=sending.lost)


def land_answers(context: RunContext, shard: ShardRecord, *, cancelling: bool) -> None:
    """Turn the shard's answer log into its raw file: from here on the lanes are one.

    Raises LedgerError when answers are not in it any more that were: asked again, they are paid for again. A
    run that is being cancelled asks nothing, and ends with what there is.
    """
    log = context.folder.answers_dir(shard.number, shard.digest) / "answers"
    expected = shard.requests if shard.end is BatchEnd.COMPLETED and not cancelling else 0
    gone = answers_lost(shard, log, "and nobody else has them")
    if expected and not log.is_dir():
        raise gone
    with AnswerLog(log) as answers, packed_file(context.folder.raw_path(shard.number, "output")) as write:
        if len(answers) < expected:
            raise gone
        for _, line in answers.entries():
            write(orjson.dumps(line) + b"\n")
    with context.transaction("results_landed") as tx:
        tx.move_shard(shard.run, shard.number, ShardEvent.RESULTS_LANDED, context.clock.now())
