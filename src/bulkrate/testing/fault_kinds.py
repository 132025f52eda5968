"""The table of faults: what each is called, what its number counts, and its options with their defaults.

Where a fault was seen: OpenAI's batch guide and SDK 3.54 (read 2026-11), Azure's batch documentation
(2026-11), and public issues of 2025 and 2026 on openai-python, litellm and curator.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

OPERATIONS: Final = ("upload", "create", "status", "download", "list", "cancel", "delete")
"""The calls that can be held, refused, cut or left unanswered."""

CONTENT: Final = "content"
"""What faults of a download's bytes count: answers that are being sent, not calls that arrive."""

UNKNOWN_WORDS: Final = ("queued", "paused", "pending_review")
"""Status words that OpenAI's batches have never been documented to have."""


class Scope(StrEnum):
    """What a fault's budget counts."""

    BATCH = "batch"  # the first `batches` batches that would run; the number is of rows, polls or tokens
    BATCHES = "batches"  # the first `count` batches that would run
    CALL = "call"  # the first `count` calls of an operation
    STANDING = "standing"  # always in force


class Fate(StrEnum):
    """How one row of a batch ends."""

    ANSWERED = "answered"
    TRUNCATED = "truncated"  # answered, finish reason `length`
    BAD_JSON = "bad_json"  # answered, but a structured answer that does not parse
    REFUSED = "refused"  # reached the model's door and was turned away: HTTP 4xx for this row
    REFUSED_IN_OUTPUT = "refused_in_output"  # the same, among the answers
    MISSING = "missing"  # run, but in neither result file
    CUT_LINE = "cut_line"  # run, but its line ends in the middle
    BAD_UTF8 = "bad_utf8"  # run, but its line is not UTF-8
    EMPTY_BODY = "empty_body"  # run, but its line has status 200 and nothing else
    EXPIRED = "expired"  # not run when the window closed
    CANCELLED = "cancelled"  # not run when the batch was cancelled


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One entry of the table. ``operation`` is what a fault of calls interrupts."""

    meaning: str
    scope: Scope
    options: Mapping[str, int | str] = field(default_factory=dict)
    operation: str | None = None


def _of_rows() -> dict[str, FaultKind]:
    of = Scope.BATCH
    return {
        "missing": FaultKind("n rows run and are in neither result file", of, {"billed": 1}),
        "bad_rows": FaultKind("n rows are refused by themselves", of, {"status": 400}),
        "refused_in_output": FaultKind("n rows are refused, among the answers", of, {"status": 400}),
        "truncate": FaultKind("n rows capped under `below` output tokens are cut", of, {"below": 256}),
        "bad_json": FaultKind("n structured answers do not parse the first time", of),
        "cut_lines": FaultKind("n answers' lines end in the middle", of),
        "bad_utf8": FaultKind("n answers' lines are not UTF-8", of),
        "empty_body": FaultKind("n answers have status 200 and an empty body", of),
        "duplicate_rows": FaultKind("n answers come twice, or once more as an error", of, {"second": "same"}),
        "unknown_ids": FaultKind("n further answers have ids nobody sent", of),
    }


def _of_batches() -> dict[str, FaultKind]:
    one, of = Scope.BATCHES, Scope.BATCH
    return {
        "expire_after": FaultKind("the batch expires with n rows answered", of),
        "cancel_after": FaultKind("somebody else cancels the batch when n rows are answered", of),
        "slow_cancel": FaultKind("a cancelled batch stays `cancelling` for n status calls", of),
        "status_503": FaultKind("n status calls in a row answer 503", of, {"from_poll": 1}),
        "status_404": FaultKind(
            "n status calls in a row know no such batch, as just after create", of, {"from_poll": 1}
        ),
        "unknown_status": FaultKind("n status calls in a row tell a status of no published name", of),
        "list_lag": FaultKind("the batch is missing from the list for n list calls", of),
        "extra_usage": FaultKind("the batch's usage is n tokens more, in and out, than its rows'", of),
        "stuck": FaultKind(
            "n batches stay in a phase, with `done` rows run, for `polls` status calls (0: for ever)",
            one,
            {"phase": "in_progress", "done": 0, "polls": 0},
        ),
        "no_output": FaultKind(
            "n batches complete without an output file: every row is refused", one, {"status": 400}
        ),
        "empty_ids": FaultKind("n batches have empty strings for the files they have not", one),
        "no_usage": FaultKind("n batches tell no usage, neither as a whole nor by row", one),
        "duplicate_create": FaultKind("n creates make two batches each; one is answered", one),
        "lookalikes": FaultKind("n creates find somebody else's batches, of nearly our metadata", one),
        "webhook_lost": FaultKind("the webhooks of n batches never come", one),
        "webhook_twice": FaultKind("the webhooks of n batches come twice", one),
        "webhook_late": FaultKind(
            "the webhooks of n batches come when `calls` more calls have come", one, {"calls": 3}
        ),
        "webhook_forged": FaultKind("the webhooks of n batches are signed with another secret", one),
        "webhook_stale": FaultKind("the webhooks of n batches were signed ten minutes ago", one),
    }


def _of_calls() -> dict[str, FaultKind]:
    kinds = {
        "file_lag": FaultKind("n creates know no such file, just after its upload", Scope.CALL, {}, "create"),
        "late_create": FaultKind(
            "n creates are cut off, and take effect when `calls` more calls have come",
            Scope.CALL,
            {"calls": 3},
            "create",
        ),
        "download_cut": FaultKind("n downloads end at `at` percent", Scope.CALL, {"at": 50}, CONTENT),
        "download_short": FaultKind(
            "n downloads are `at` percent of the file, sent as if that were all",
            Scope.CALL,
            {"at": 50},
            CONTENT,
        ),
        "download_page": FaultKind(
            "n downloads are a proxy's page, with status 200", Scope.CALL, {}, CONTENT
        ),
        "trickle": FaultKind("n downloads come `bytes` by `bytes`", Scope.CALL, {"bytes": 64}, CONTENT),
        "gzip": FaultKind("n downloads come compressed, where the caller allows it", Scope.CALL, {}, CONTENT),
    }
    when: dict[str, int | str] = {"when": "after"}
    for op in OPERATIONS:
        kinds[f"hold_{op}"] = FaultKind(
            f"the first n {op} calls wait, before or after their effect, until they are released",
            Scope.CALL,
            when,
            op,
        )
        kinds[f"{op}_unanswered"] = FaultKind(
            f"the first n {op} calls take effect (or not: when=before) and are never answered",
            Scope.CALL,
            when,
            op,
        )
        kinds[f"{op}_429"] = FaultKind(
            f"n {op} calls are too many; `retry_after` seconds in the header (0: no header)",
            Scope.CALL,
            {"retry_after": 0},
            op,
        )
        kinds[f"{op}_error"] = FaultKind(
            f"n {op} calls answer an HTTP status, before or after their effect",
            Scope.CALL,
            {"status": 500, "when": "before"},
            op,
        )
    for op in ("create", "status", "list", "cancel", "delete"):
        kinds[f"{op}_cut"] = FaultKind(
            f"the connection of n {op} calls breaks after their effect, or before", Scope.CALL, when, op
        )
    kinds["upload_cut"] = FaultKind(
        "the connection of n uploads breaks at half of the body", Scope.CALL, {}, "upload"
    )
    return kinds


def _standing() -> dict[str, FaultKind]:
    always = Scope.STANDING
    return {
        "token_queue": FaultKind(
            "a model's batches in flight may hold n prompt tokens; refused on poll, or at create",
            always,
            {"at": "poll"},
        ),
        "creation_rate": FaultKind(
            "of `refused` + n creates in a row the last `refused` are too many", always, {"refused": 3}
        ),
        "clock_skew": FaultKind("the provider's clock is n seconds off", always, {"way": "behind"}),
    }


FAULTS: Final[Mapping[str, FaultKind]] = {**_of_rows(), **_of_batches(), **_standing(), **_of_calls()}
"""Every fault by name. Operations: see ``OPERATIONS``."""

WORDS: Final[Mapping[tuple[str, str], Collection[str]]] = {
    ("stuck", "phase"): ("validating", "in_progress", "finalizing"),
    ("duplicate_rows", "second"): ("same", "error"),
    ("token_queue", "at"): ("poll", "create"),
    ("clock_skew", "way"): ("behind", "ahead"),
}
"""The words an option may be, by fault and option; ``when`` is ``before`` or ``after`` everywhere."""

WHEN: Final = ("before", "after")
LIMITED: Final[Mapping[str, range]] = {"at": range(101), "bytes": range(1, 1 << 31)}
"""Bounds of numeric options that cannot be any whole number."""
