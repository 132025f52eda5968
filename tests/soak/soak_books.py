"""The soak's own books: what the provider took and how each row of it ended, read from the provider itself.

Nothing here uses the code under test to read a result: the books are the other side of the audit.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import orjson
from soak_plan import ATTEMPTS, LABELS

from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch


class Fate(StrEnum):
    """How a row of an accepted batch stands."""

    RUNNING = "running"
    ANSWERED = "answered"
    REFUSED = "refused"  # by itself, for good
    TRUNCATED = "truncated"
    INVALID = "invalid"
    PASSING = "passing"  # a failure of the way: missing, expired, an overloaded server


@dataclass(slots=True)
class Taken:
    """A batch that the provider took to run: its rows by custom_id."""

    batch: Batch
    tag: str
    shard: int
    prompts: dict[str, str]
    ended: dict[str, Fate] = field(default_factory=dict)


class Books:
    """Every acceptance, and the rules about accepting again."""

    def __init__(self, state: ProviderState, *, choice: bool) -> None:
        self._state = state
        self._choice = choice
        self.taken: list[Taken] = []
        self.by_prompt: dict[str, list[tuple[Taken, str]]] = {}

    def take(self, batch: Batch) -> str | None:
        """Enter a batch that was just created; says what is wrong with its acceptance."""
        if batch.scan.errors:
            return None
        metadata = batch.metadata or {}
        lines = [orjson.loads(line) for line in batch.blob.lines()]
        prompts = {line["custom_id"]: line["body"]["messages"][-1]["content"] for line in lines}
        taken = Taken(batch, str(metadata["bulkrate_run"]), int(metadata["bulkrate_shard"]), prompts)
        self.taken.append(taken)
        for custom_id, prompt in prompts.items():
            self.by_prompt.setdefault(prompt, []).append((taken, custom_id))
        return None

    def overpaid(self, batch: Batch, allowed: Counter[str]) -> str | None:
        """A prompt of this new batch that was accepted too often, `allowed` being how many may be had."""
        taken = next((item for item in self.taken if item.batch is batch), None)
        if taken is None:
            return None
        for prompt in set(taken.prompts.values()):
            most = allowed[prompt]
            live = sum(
                self._counts(other, custom_id, taken.tag) for other, custom_id in self.by_prompt[prompt]
            )
            if live > most:
                return f"shard {taken.shard}: a row is accepted {live} times at once, {most} allowed"
            mine = sum(other.tag == taken.tag for other, _ in self.by_prompt[prompt])
            if mine > most * ATTEMPTS:
                return (
                    f"shard {taken.shard}: a row is accepted {mine} times, attempts allow {most * ATTEMPTS}"
                )
        return None

    def _counts(self, taken: Taken, custom_id: str, tag: str) -> bool:
        """Whether an earlier acceptance forbids another one."""
        fate = self.fates(taken)[custom_id]
        return fate in (Fate.RUNNING, Fate.ANSWERED) or (fate is Fate.REFUSED and taken.tag == tag)

    def fates(self, taken: Taken) -> dict[str, Fate]:
        """How each row of a batch stands."""
        if not taken.batch.ended:
            return dict.fromkeys(taken.prompts, Fate.RUNNING)
        if not taken.ended:
            taken.ended = dict.fromkeys(taken.prompts, Fate.PASSING)
            for file_id in (taken.batch.output_file_id, taken.batch.error_file_id):
                if file_id is not None:
                    for text in self._state.files[file_id].blob.lines():
                        line = orjson.loads(text)
                        taken.ended[line["custom_id"]] = self._fate(line)
        return taken.ended

    def _fate(self, line: dict[str, Any]) -> Fate:
        response = line["response"]
        if response is None:
            return Fate.PASSING
        status = response["status_code"]
        if status != 200:
            return Fate.PASSING if status in (429, 500, 503) else Fate.REFUSED
        choice = response["body"]["choices"][0]
        if choice["finish_reason"] != "stop":
            return Fate.TRUNCATED
        if self._choice:
            try:
                given = orjson.loads(choice["message"]["content"])
            except orjson.JSONDecodeError:
                return Fate.INVALID
            return Fate.ANSWERED if set(given.values()) <= set(LABELS) else Fate.INVALID
        return Fate.ANSWERED

    def history(self, prompt: str) -> list[tuple[str, Fate]]:
        """(run, fate) of each acceptance of a prompt, in order."""
        return [(taken.tag, self.fates(taken)[one]) for taken, one in self.by_prompt.get(prompt, [])]
