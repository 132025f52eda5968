"""Every fault of the misbehaving provider, and what the rules allow a run to be charged for it.

`allowed` is the most rows the provider may accept: each row once, and again what it took and did not answer
in a way that can be used (and, for a create that it doubles by itself, the rows of its own second batch).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Count = Callable[[int], int]


def none(rows: int) -> int:
    """No row."""
    del rows
    return 0


def every(rows: int) -> int:
    """All rows."""
    return rows


def some(number: int) -> Count:
    """So many rows, however many there are."""
    return lambda rows: number


def rest(rows: int) -> int:
    """What is left of a batch that ended when six tenths of it were answered."""
    return rows - part(rows)


def part(rows: int) -> int:
    """Six tenths."""
    return rows * 6 // 10


@dataclass(frozen=True, slots=True)
class Case:
    """Faults (`{part}`: six tenths of the rows, `{queue}`: prompt tokens of six tenths) and the expected end.

    `again` rows may be accepted more than once, `failed` rows end without an answer. `shards` is how many
    batches the rows are sent in, `batches` how many there are in the end, None where the provider's own count
    of tokens decides. `structured` asks for a label, `limits` are limits the client is told.
    """

    faults: str
    again: Count = none
    batches: int | None = 1
    failed: Count = none
    shards: int = 1
    structured: bool = False
    seed: int = 7
    limits: Mapping[str, str] = field(default_factory=dict)
    headline: bool = False

    def faults_for(self, rows: int) -> str:
        """The faults for a source of this many rows, of 10 prompt tokens each."""
        return self.faults.format(part=part(rows), queue=part(rows) * 10)

    def name(self, rows: int) -> str:
        """What the table calls it."""
        shards = f" ({self.shards} shards)" if self.shards > 1 else ""
        return f"`{self.faults_for(rows) or '(none)'}{shards}`"


BRIEF = {"CREATE_TIMEOUT_S": "1", "UPLOAD_TIMEOUT_S": "1"}
"""Calls that are never answered are given up by the machine's clock."""

ROWS = [
    Case("", headline=True),
    Case("missing=2", some(2), 2, headline=True),
    Case("bad_rows=2", failed=some(2), headline=True),
    Case("bad_rows=2,status=500", some(2), 2),
    Case("refused_in_output=2", failed=some(2)),
    Case("refused_in_output=2,status=429", some(2), 2),
    Case("refused_in_output=2,status=0", some(2), 2),
    Case("truncate=2", some(2), 2),
    Case("bad_json=2", some(2), 2, structured=True),
    Case("cut_lines=2", some(2), 2, headline=True),
    Case("bad_utf8=2", some(2), 2),
    Case("empty_body=2", some(2), 2),
    Case("duplicate_rows=20"),
    Case("duplicate_rows=20,second=error", headline=True),
    Case("unknown_ids=20", headline=True),
]

BATCHES = [
    Case("expire_after={part}", rest, 2, headline=True),
    Case("cancel_after={part}", rest, 2, headline=True),
    Case("cancel_after={part} slow_cancel=5", rest, 2),
    Case("no_output=1", failed=every),
    Case("no_output=1,status=500", every, 2, headline=True),
    Case("stuck=1,phase=validating,polls=5"),
    Case("stuck=1,phase=in_progress,polls=5"),
    Case("stuck=1,phase=finalizing,polls=5"),
    Case("stuck=1,phase=validating", every, 2),
    Case("stuck=1,done={part}", rest, 2, headline=True),
    Case("stuck=1,phase=finalizing"),
    Case("status_503=4", headline=True),
    Case("status_404=4", headline=True),
    Case("unknown_status=4"),
    Case("empty_ids=1"),
    Case("extra_usage=1000"),
    Case("no_usage=1"),
    Case("duplicate_create=1", every, 2, headline=True),
    Case("lookalikes=1", headline=True),
]

QUOTA = [
    Case("token_queue={queue}", batches=None, headline=True),
    Case("token_queue={queue},at=create", batches=None, headline=True),
    Case("token_queue={queue},at=create", batches=None, shards=5),
    Case("creation_rate=2,refused=3", batches=5, shards=5, headline=True),
    Case("create_429=3"),
    Case("create_429=3,retry_after=30", headline=True),
    Case("status_429=3"),
    Case("status_429=3,retry_after=30"),
    Case("upload_429=2"),
    Case("list_429=2 create_cut=1"),
    Case("download_429=2,retry_after=5"),
    Case("delete_429=1"),
]

CALLS = [
    Case("upload_cut=1", headline=True),
    Case("upload_error=1"),
    Case("upload_error=1,when=after"),
    Case("upload_unanswered=1", limits=BRIEF),
    Case("create_cut=1", headline=True),
    Case("create_cut=1,when=before"),
    Case("create_error=1,status=500"),
    Case("create_error=1,status=502,when=after", headline=True),
    Case("create_unanswered=1", limits=BRIEF),
    Case("create_unanswered=1,when=before", limits=BRIEF),
    # Orphans of the same minute and of the same size.
    Case("create_cut=2", batches=2, shards=2),
    Case("create_cut=5", batches=5, shards=5),
    Case("create_cut=1 list_lag=3", headline=True),
    Case("create_cut=1 list_lag=100"),
    # Missing from the list for longer than a list may lag: nothing tells this from a create that failed.
    Case("create_cut=1 list_lag=100000", every, 2),
    Case("create_cut=1 lookalikes=1", headline=True),
    Case("create_cut=1 clock_skew=200,way=behind"),
    Case("create_cut=1 clock_skew=200,way=ahead"),
    Case("create_cut=1 clock_skew=7200,way=behind"),
    Case("late_create=1,calls=1"),
    Case("late_create=1,calls=5", headline=True),
    Case("late_create=1,calls=180"),
    Case("late_create=1,calls=1000"),
    Case("file_lag=3"),
    Case("file_lag=7"),
    Case("status_cut=2"),
    Case("status_error=2"),
    Case("list_cut=2 create_cut=1"),
    Case("list_error=2 create_cut=1"),
    Case("download_error=2"),
    Case("download_cut=2", headline=True),
    Case("download_cut=1,at=0"),
    Case("download_cut=1,at=100"),
    Case("download_short=1", headline=True),
    Case("download_short=1,at=99"),
    Case("download_page=3", headline=True),
    Case("trickle=1"),
    Case("gzip=1"),
    Case("gzip=2 download_cut=1", headline=True),
    Case("gzip=1 trickle=1"),
    Case("delete_error=1"),
    Case("delete_cut=1"),
]

MIXES = [
    Case("missing=2 bad_rows=3 status_503=4", some(2), 2, some(3), seed=11),
    Case("expire_after={part} missing=2", lambda rows: rest(rows) + 2, 2, seed=12),
    Case("create_cut=1 list_lag=3 clock_skew=120", seed=13),
    Case("create_cut=1 lookalikes=1 list_429=2", seed=14),
    Case("duplicate_create=1 missing=2", lambda rows: rows + 2, 3, seed=15),
    Case("gzip=3 download_cut=1 cut_lines=2", some(2), 2, seed=16),
    Case("create_error=1,when=after empty_ids=1 unknown_status=3", seed=17),
    Case("token_queue={queue},at=create missing=2", some(2), None, seed=18),
    Case("late_create=1,calls=4 duplicate_rows=9 unknown_ids=9", seed=19),
    Case("upload_cut=2 create_429=2 bad_utf8=3", some(3), 2, seed=20),
    Case("truncate=2 bad_json=2 empty_body=2", some(6), None, structured=True, seed=21),
    Case("stuck=1,polls=9 status_429=2,retry_after=9 no_usage=1", seed=22),
]

SECTIONS: Mapping[str, list[Case]] = {
    "Rows": ROWS,
    "Batches": BATCHES,
    "Queues and rates": QUOTA,
    "Calls": CALLS,
    "Mixed": MIXES,
}
