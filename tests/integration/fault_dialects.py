"""How the fault table of a dialect differs from OpenAI's: faults it cannot have, and what else may happen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fault_cases import SECTIONS, Case, every, none

# What a dialect has no such thing as; a name stands for all its kin (`upload` for `upload_cut=1`).
WITHOUT: Mapping[str, tuple[str, ...]] = {
    "openai": (),
    # A row refused among the answers is the content filter's, whatever the status.
    "azure": ("refused_in_output=2,status=429", "refused_in_output=2,status=0"),
    # Requests travel in the create call: no file, no queue of tokens, no usage of a batch as a whole.
    "anthropic": ("upload", "delete", "file_lag", "token_queue", "extra_usage", "empty_ids"),
    "google": ("extra_usage", "empty_ids"),
    "mistral": ("token_queue", "extra_usage", "empty_ids"),
    "bedrock": ("token_queue", "empty_ids"),
}

# A batch that has not completed has no results there, as documented.
ALL_OR_NOTHING = frozenset({"google"})
CUT_SHORT = ("expire_after", "cancel_after", "stuck=1,done", "stuck=1,phase=finalizing")
# Create says no for want of quota and not how much there is: no shard is cut on the strength of that.
LIMIT_UNTOLD = frozenset({"google"})
# The provider itself knows a create call that comes again.
IDEMPOTENT = frozenset({"bedrock"})


def cases_of(dialect: str) -> list[tuple[str, Case]]:
    """The cases that `dialect` can have, as they end there, each with its section."""
    every_case = [(section, case) for section, cases in SECTIONS.items() for case in cases]
    return [(section, _as_in(dialect, case)) for section, case in every_case if _can_have(dialect, case)]


def _can_have(dialect: str, case: Case) -> bool:
    if dialect in LIMIT_UNTOLD and "at=create" in case.faults and case.shards == 1:
        return False
    words = case.faults.split()
    return not any(
        f"{word}=".startswith((f"{name}=", f"{name}_")) for word in words for name in WITHOUT[dialect]
    )


def _as_in(dialect: str, case: Case) -> Case:
    if dialect in ALL_OR_NOTHING and case.faults.startswith(CUT_SHORT) and "polls" not in case.faults:
        return replace(case, again=every, batches=2)
    if dialect in IDEMPOTENT and "list_lag=100000" in case.faults:
        return replace(case, again=none, batches=1)
    return case
