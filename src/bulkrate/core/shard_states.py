"""The life of a shard: from packed rows to collected outcomes, with doubt as a state of its own.

The dangerous call is *create*: it is the one that costs money. Its intent is recorded first; when its end
is not known the shard is `in_doubt`, and leaves that state only by adopting the batch that is found, or by
fencing it off: the quiet period over, the uploaded input deleted (a late create is then refused), and,
once the listing had time to show what was created until then, a second listing without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from bulkrate.core.lanes import Lane
from bulkrate.core.table import Table, moves


class ShardState(StrEnum):
    PACKED = "packed"  # rows chosen, nothing sent
    UPLOADING = "uploading"  # an upload was begun; a lost one costs nothing, an orphan file never runs
    UPLOADED = "uploaded"  # the provider has the file
    CREATING = "creating"  # a create intent is recorded; the call is under way
    IN_DOUBT = "in_doubt"  # the create call's end is not known
    FENCED = "fenced"  # the quiet period is over and the input file deleted; one more look
    SUBMITTED = "submitted"  # the provider has the batch
    SENDING = "sending"  # single requests are under way (flex and live lanes); answers go to the answer log
    ENDED = "ended"  # the batch reached its end, whichever; results not yet landed
    LANDED = "landed"  # raw result files are on disk, synced
    COLLECTED = "collected"  # outcomes, vector and usage are recorded
    SUPERSEDED = "superseded"  # never ran: its rows were packed anew into smaller shards
    WITHDRAWN = "withdrawn"  # never ran: the run was cancelled first


class ShardEvent(StrEnum):
    SEND_INTENDED = "send_intended"
    ALL_ANSWERED = "all_answered"
    UPLOAD_INTENDED = "upload_intended"
    UPLOAD_ANSWERED = "upload_answered"
    UPLOAD_LOST = "upload_lost"
    INPUT_GONE = "input_gone"  # the provider no longer knows the uploaded file
    CREATE_INTENDED = "create_intended"
    CREATE_ANSWERED = "create_answered"
    CREATE_DEFERRED = "create_deferred"  # a definite no for now: queue, rate or a lagging file
    CREATE_UNKNOWN = "create_unknown"  # timeout, cut connection, 5xx, or our own death
    FOUND = "found"
    FENCE = "fence"  # absent after the quiet period, and the input file deleted
    ABSENT = "absent"  # absent again after the fence
    QUEUE_REFUSED = "queue_refused"  # the batch failed before any row ran: token queue full
    TOO_BIG = "too_big"  # this shard alone is over the queue limit
    BATCH_ENDED = "batch_ended"
    RESULTS_LANDED = "results_landed"
    RESULTS_LOST = "results_lost"  # what had landed is gone or damaged, and not collected
    COLLECTED = "collected"
    WITHDRAW = "withdraw"


S, V = ShardState, ShardEvent

SHARD_TABLE: Table[ShardState, ShardEvent] = Table(
    name="shard",
    initial=S.PACKED,
    final=frozenset({S.COLLECTED, S.SUPERSEDED, S.WITHDRAWN}),
    moves=moves(
        [
            (S.PACKED, V.UPLOAD_INTENDED, S.UPLOADING),
            (S.PACKED, V.SEND_INTENDED, S.SENDING),
            (S.SENDING, V.ALL_ANSWERED, S.ENDED),
            (S.PACKED, V.FOUND, S.SUBMITTED),
            (S.PACKED, V.TOO_BIG, S.SUPERSEDED),
            (S.PACKED, V.WITHDRAW, S.WITHDRAWN),
            (S.UPLOADING, V.UPLOAD_ANSWERED, S.UPLOADED),
            (S.UPLOADING, V.UPLOAD_LOST, S.PACKED),
            (S.UPLOADED, V.CREATE_INTENDED, S.CREATING),
            (S.UPLOADED, V.INPUT_GONE, S.PACKED),
            (S.UPLOADED, V.TOO_BIG, S.SUPERSEDED),
            (S.UPLOADED, V.WITHDRAW, S.WITHDRAWN),
            (S.CREATING, V.CREATE_ANSWERED, S.SUBMITTED),
            (S.CREATING, V.CREATE_DEFERRED, S.UPLOADED),
            (S.CREATING, V.CREATE_UNKNOWN, S.IN_DOUBT),
            (S.IN_DOUBT, V.FOUND, S.SUBMITTED),
            (S.IN_DOUBT, V.FENCE, S.FENCED),
            (S.FENCED, V.FOUND, S.SUBMITTED),
            (S.FENCED, V.ABSENT, S.PACKED),
            (S.SUBMITTED, V.QUEUE_REFUSED, S.UPLOADED),
            (S.SUBMITTED, V.TOO_BIG, S.SUPERSEDED),
            (S.SUBMITTED, V.BATCH_ENDED, S.ENDED),
            (S.ENDED, V.RESULTS_LANDED, S.LANDED),
            (S.LANDED, V.RESULTS_LOST, S.ENDED),
            (S.LANDED, V.COLLECTED, S.COLLECTED),
        ]
    ),
)

# What a process that finds a shard in this state after a crash must assume has happened.
INTERRUPTED: dict[ShardState, ShardEvent] = {
    S.UPLOADING: V.UPLOAD_LOST,
    S.CREATING: V.CREATE_UNKNOWN,
}

# The batch may exist or is known to, and may still run and bill.
REMOTE = frozenset({S.CREATING, S.IN_DOUBT, S.FENCED, S.SUBMITTED})


# What such a shard sent may be billed, and its cost is not known yet.
MAY_COST = REMOTE | {S.SENDING, S.ENDED, S.LANDED}


class Effect(StrEnum):
    """What the shell does next for a shard."""

    SEND = "send"
    UPLOAD = "upload"
    CREATE = "create"
    FIND = "find"
    FENCE = "fence"
    POLL = "poll"
    LAND = "land"
    COLLECT = "collect"
    WITHDRAW = "withdraw"
    SUPERSEDE = "supersede"


@dataclass(frozen=True, slots=True)
class ShardView:
    """What the rules need to know of a shard.

    `not_before_at` holds it back (pacing, back-pressure); `create_began_at` is the time of the last create
    intent, `looked_at` of the last look for it that was answered, or of the fence.
    """

    number: int
    state: ShardState
    tokens: int
    requests: int = 1
    lane: Lane = Lane.BATCH
    not_before_at: datetime | None = None
    create_began_at: datetime | None = None
    looked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What holds for all shards of a run at this moment.

    `quiet_s` is how long after a create intent, `listing_lag_s` how long after its creation a batch must
    have shown up in a listing (None: not known apart, `quiet_s` bounds it).
    """

    now: datetime
    quiet_s: float
    listing_lag_s: float | None = None
    queued_tokens: int | None = None
    batches_in_flight: int | None = None
    cancelling: bool = False
    # While a canary is out, or a budget is used up, only these may go.
    only: frozenset[int] | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """An effect for one shard, now or at `at`."""

    shard: int
    effect: Effect
    at: datetime


def next_steps(shards: list[ShardView], situation: Situation) -> list[Step]:
    """The next effect of every unfinished shard, in shard order; pure, so a crash changes nothing.

    Uploads and creates are admitted while queued tokens and batches in flight stay within the limits; a
    shard that alone exceeds the token queue is superseded by smaller ones. A shard that is not admitted has
    no step: it gets one when another batch ends.
    """
    steps: list[Step] = []
    flying = [shard for shard in shards if shard.state in REMOTE]
    tokens = sum(shard.tokens for shard in flying)
    batches = len(flying)
    for shard in sorted(shards, key=lambda shard: shard.number):
        if shard.state in SHARD_TABLE.final:
            continue
        at = max(situation.now, shard.not_before_at or situation.now)
        if shard.state in (S.PACKED, S.UPLOADED):
            effect = _before_create(shard, situation, tokens, batches)
            if effect is None:
                continue
            if effect in (Effect.UPLOAD, Effect.CREATE):
                tokens, batches = tokens + shard.tokens, batches + 1
        else:
            effect = _after_create(shard, situation)
            if shard.state is S.FENCED and shard.looked_at is not None:
                # A create that came just before the fence is running, and not listed yet.
                lag_s = situation.quiet_s if situation.listing_lag_s is None else situation.listing_lag_s
                at = max(at, shard.looked_at + timedelta(seconds=lag_s))
        steps.append(Step(shard.number, effect, at))
    return steps


def _before_create(shard: ShardView, situation: Situation, tokens: int, batches: int) -> Effect | None:
    if situation.cancelling:
        return Effect.WITHDRAW
    if situation.only is not None and shard.number not in situation.only:
        return None
    if shard.lane is not Lane.BATCH:
        return Effect.SEND
    limit = situation.queued_tokens
    if limit is not None and shard.tokens > limit and shard.requests > 1:
        return Effect.SUPERSEDE
    # A single request over the limit goes when nothing else waits: the provider has the last word.
    if limit is not None and batches and tokens + shard.tokens > limit:
        return None
    if situation.batches_in_flight is not None and batches >= situation.batches_in_flight:
        return None
    return Effect.UPLOAD if shard.state is S.PACKED else Effect.CREATE


def _after_create(shard: ShardView, situation: Situation) -> Effect:
    match shard.state:
        case S.IN_DOUBT:
            if shard.looked_at is None or shard.create_began_at is None:
                return Effect.FIND
            # Fence only on the strength of a look made after the quiet period.
            quiet_over_at = shard.create_began_at + timedelta(seconds=situation.quiet_s)
            return Effect.FENCE if shard.looked_at >= quiet_over_at else Effect.FIND
        case S.FENCED:
            return Effect.FIND
        case S.SUBMITTED:
            return Effect.POLL
        case S.SENDING:
            return Effect.SEND
        case S.ENDED:
            return Effect.LAND
        case S.LANDED:
            return Effect.COLLECT
        case _:  # UPLOADING and CREATING belong to the process that is at it
            raise AssertionError(f"{shard.state} must be settled by INTERRUPTED before planning")
