"""Planted bugs: small changes to the protocol, each of which the soak must catch.

A bug is planted while the module is imported: its source text is changed in memory, nothing on disk is.
A text that is no longer there is an error, so that the list follows the code.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True, slots=True)
class Bug:
    """`text` of `module` (which must hold it exactly once) becomes `instead`."""

    meaning: str
    module: str
    text: str
    instead: str


COLLECT, LANDING, SUBMIT, ADOPT = (
    f"bulkrate.pipeline.{name}" for name in ("collect", "landing", "submit", "adopt")
)
STATES, RECONCILE, CLIENT, HTTP = (
    "bulkrate.core.shard_states",
    "bulkrate.core.reconcile",
    "bulkrate.providers.openai.client",
    "bulkrate.providers.http",
)

BUGS: dict[str, Bug] = {
    "drop_the_intent": Bug(
        "the create call is not recorded as interrupted: a crash takes it for not sent",
        STATES,
        "    S.CREATING: V.CREATE_UNKNOWN,",
        "    S.CREATING: V.CREATE_DEFERRED,",
    ),
    "doubt_is_not_sent": Bug(
        "a create without an answer is taken for not sent",
        SUBMIT,
        "_after_create(context, shard, intent, ShardEvent.CREATE_UNKNOWN, error.code)",
        "_after_create(context, shard, intent, ShardEvent.CREATE_DEFERRED, error.code)",
    ),
    "sent_without_reserving": Bug(
        "a create is intended, and nothing is reserved for it",
        SUBMIT,
        "        reserve(tx, context, shard)\n",
        "",
    ),
    "money_back_in_doubt": Bug(
        "what is reserved for a create without an answer is given back",
        STATES,
        "MAY_COST = REMOTE | {",
        "MAY_COST = {S.SUBMITTED} | {",
    ),
    "reserved_unchecked": Bug(
        "the budget is looked at before a shard is sent, and not again in the transaction that reserves",
        "bulkrate.pipeline.budget",
        "        _hold_all(limits, tx.held(shard.run, at, but=[shard.number]), "
        "wanted(context, shard, amount))\n",
        "        pass\n",
    ),
    "under_way_is_free": Bug(
        "what is under way does not count against a budget before it has ended",
        "bulkrate.core.budget",
        "        return self.spent + self.under_way\n",
        "        return self.spent\n",
    ),
    "file_after_transaction": Bug(
        "the outcomes file is written after the transaction that says it is there",
        COLLECT,
        "    record_outcomes(context, shard, decoded.outcomes)\n    vectors: dict[int, Vector] = {}",
        "    import contextlib\n    later = contextlib.ExitStack()\n"
        "    later.callback(record_outcomes, context, shard, decoded.outcomes)\n"
        "    plain, context.on_change = context.on_change, lambda: (later.close(), plain())\n"
        "    vectors: dict[int, Vector] = {}",
    ),
    "skip_the_error_file": Bug(
        "only the output file is read", COLLECT, 'KINDS = ("output", "error")', 'KINDS = ("output",)'
    ),
    "trust_the_counts": Bug(
        "a batch whose counts say that all is done has answered all: what is absent is refused",
        RECONCILE,
        'return Outcome(ErrorClass.MISSING, "the batch completed without a line for this row")',
        'return Outcome(None, text="")',
    ),
    "retried_calls": Bug(
        "a call without an answer is sent again at once, as SDKs do: a create, too",
        HTTP,
        "            response = await self._client.request(method, path, timeout=timeout_s, **options)\n",
        "            import httpx2\n"
        "            try:\n"
        "                response = await self._client.request(method, path, timeout=timeout_s, **options)\n"
        "            except httpx2.HTTPError:\n"
        "                response = await self._client.request(method, path, timeout=timeout_s, **options)\n",
    ),
    "trust_the_order": Bug(
        "result lines are taken in the order they come in, not by their id",
        RECONCILE,
        "        known = self.outcomes[number]\n",
        "        number = min(self.answered, self.requests - 1)\n        known = self.outcomes[number]\n",
    ),
    "second_answer_wins": Bug(
        "a row that comes twice overwrites its first answer",
        RECONCILE,
        "            if known.succeeded or not outcome.succeeded:\n                return\n",
        "",
    ),
    "no_second_look": Bug(
        "after the fence the shard is sent again without another look",
        SUBMIT,
        "        status = await _look(context, shard, since)",
        "        status = None if shard.state is ShardState.FENCED else await _look(context, shard, since)",
    ),
    "no_wait_after_the_fence": Bug(
        "the look after the fence does not wait for the listing to catch up",
        STATES,
        "                at = max(at, shard.looked_at + timedelta(seconds=lag_s))\n",
        "                at = max(at, shard.looked_at + timedelta(seconds=min(lag_s, 0)))\n",
    ),
    "keep_the_input_file": Bug(
        "the fence leaves the input file where it is: a late create still runs",
        SUBMIT,
        "            await context.connection.delete_file(shard.file_id)",
        "            pass",
    ),
    "endless_attempts": Bug(
        "attempts are not counted", COLLECT, "            vector.count_attempt(index)\n", "            pass\n"
    ),
    "adopt_a_refused_batch": Bug(
        "a shard in doubt adopts a batch that the token queue refused",
        CLIENT,
        "            if status.queue_refusal is not None:\n                continue\n",
        "",
    ),
    "ignore_the_row_hash": Bug(
        "a row that was edited is delivered with the answer to what it was",
        "bulkrate.pipeline.join",
        "                if not ends.match(place, [values]):\n",
        "                if values is None:\n",
    ),
    "keep_twin_keys": Bug(
        "rows whose key was there before are not rejected",
        "bulkrate.pipeline.check",
        "        vectors[partition].reject(index)\n",
        "        pass\n",
    ),
    "wrong_leader": Bug(
        "an answer that is shared is given to the row beside",
        COLLECT,
        "settle_alias(vector, index, vectors[leader_partition], leader_index)",
        "settle_alias(vector, index, vectors[leader_partition], max(leader_index - 1, 0))",
    ),
    "vector_without_the_move": Bug(
        "the vectors are committed in another transaction than the shard's move",
        COLLECT,
        "        tx.put_usage(usage)\n        tx.move_shard(shard.run, shard.number, ShardEvent.COLLECTED,",
        "    with context.transaction('moved') as tx:\n        at = context.clock.now()\n"
        "        tx.put_usage(usage)\n        tx.move_shard(shard.run, shard.number, ShardEvent.COLLECTED,",
    ),
    "send_without_looking": Bug(
        "on an empty disk nobody looks for batches that are in flight",
        ADOPT,
        "    status = context.orphans.pop((shard.number, shard.digest), None)",
        "    status = None",
    ),
    "unreachable_is_no": Bug(
        "a listing that could not be had is taken for an empty one",
        SUBMIT,
        "        wait_after_failure(context, shard.number, error.retry_after_s)\n        return\n"
        '    signal("find.after")',
        '        status = None\n    signal("find.after")',
    ),
    "half_a_file": Bug(
        "a download that was cut is taken for whole",
        LANDING,
        "        async for chunk in context.connection.download(file):\n"
        "            write(chunk)\n            arrival.add(chunk)",
        "        import contextlib\n        arrival.lines = 1_000_000\n"
        "        with contextlib.suppress(Unreachable):\n"
        "            async for chunk in context.connection.download(file):\n"
        "                write(chunk)",
    ),
    "forget_the_fencing_token": Bug(
        "a stopped process that wakes up writes on, although another one has taken the run",
        "bulkrate.pipeline.context",
        "            tx.fence(self.run, self.epoch)\n            yield tx",
        "            yield tx",
    ),
    "no_control_total": Bug(
        "what was billed and explained by no row is not recorded",
        "bulkrate.pipeline.used",
        "    if rest:\n",
        "    if not rest:\n",
    ),
}


class _Planter(importlib.abc.MetaPathFinder):
    """Finds the one module as always, and gives it a loader that changes its source."""

    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._bug.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None and spec.origin is not None
        spec.loader = _Loader(fullname, spec.origin, self._bug)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, bug: Bug) -> None:
        super().__init__(name, path)
        self._bug = bug

    def get_code(self, fullname: str) -> object:
        text = self.get_data(self.path).decode()
        if text.count(self._bug.text) != 1:
            raise LookupError(
                f"{fullname} holds the text {text.count(self._bug.text)} times: {self._bug.text!r}"
            )
        return compile(text.replace(self._bug.text, self._bug.instead), self.path, "exec")


def plant(name: str) -> None:
    """Plant a bug in this process, before its module is imported."""
    bug = BUGS[name]
    if bug.module in sys.modules:
        raise RuntimeError(f"{bug.module} is imported already")
    sys.meta_path.insert(0, _Planter(bug))
