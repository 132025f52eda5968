"""Every error Bulkrate raises on purpose.

    BulkrateError                 exit 2   could not do it
    ├── JobError                           the job file or Job object is wrong (file, line, suggestion)
    ├── SourceError                        the source cannot be read at all
    ├── SourceChanged                      the source is not what was assembled
    ├── ConfigError                        keys, URLs, missing extras
    ├── LedgerError                        the ledger cannot be opened, or is newer than this program
    ├── DiskError                          the disk is full, read-only, damaged, or not ours
    ├── RowsRejected              exit 1   rows that cannot be sent, and the job wants none
    ├── RunBusy                   exit 3   another process drives this run
    ├── NotFinished               exit 3   time is up, the work goes on
    ├── Refused                   exit 4   over a budget, or not approved
    │   ├── PlanChanged                    what a plan was made of is not as it was
    │   └── CanaryFailed                   the sample failed, so the rest was not sent
    └── ProviderError                      a provider said no
        ├── AuthError                      key missing, wrong, or without the right
        ├── QuotaError                     back-pressure: try again later, nothing is wrong
        ├── NotFoundError                  no such batch or file (may be a lagging listing)
        ├── RequestRefused                 a definite no: nothing was created
        └── Unreachable                    could not ask; never the same as "the provider says no"
            ├── OutcomeUnknown             the effect may or may not have happened
            └── Undecided                  a batch may be ours; its end will tell

A message says what, where, why; the hint says what to do. Neither holds a prompt, an answer or a key.
"""

from __future__ import annotations

import errno

__all__ = [
    "AuthError",
    "BulkrateError",
    "CanaryFailed",
    "ConfigError",
    "DiskError",
    "JobError",
    "LedgerError",
    "NotFinished",
    "NotFoundError",
    "OutcomeUnknown",
    "PlanChanged",
    "ProviderError",
    "QuotaError",
    "Refused",
    "RequestRefused",
    "RowsRejected",
    "RunBusy",
    "SourceChanged",
    "SourceError",
    "Undecided",
    "Unreachable",
]


class BulkrateError(Exception):
    """Base of all. `code` is a stable word for programs, `hint` a next step for people."""

    exit_code = 2
    default_code = "error"

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class JobError(BulkrateError):
    """The job file or object is wrong."""

    default_code = "job"


class SourceError(BulkrateError):
    """The source cannot be read at all (single rows that cannot be read are rejected instead)."""

    default_code = "source"


class SourceChanged(BulkrateError):
    """The source is not what was assembled."""

    default_code = "source_changed"


class ConfigError(BulkrateError):
    """Something outside the job is missing or wrong: a key, a URL, an extra."""

    default_code = "config"


class LedgerError(BulkrateError):
    """The ledger cannot be opened, or was written by a newer version."""

    default_code = "ledger"


class DiskError(BulkrateError):
    """The disk refused, in the middle of something: it is full, read-only, damaged, or not ours to write."""

    default_code = "disk"

    @classmethod
    def of(cls, error: Exception) -> DiskError | None:
        """What the operating system said of a file, for people; None if it is not about a file."""
        if not isinstance(error, OSError) or isinstance(error, ConnectionError | TimeoutError):
            return None
        if error.filename is None and error.errno not in _OF_DISKS:
            return None
        what = f"the disk refused: {error.strerror}"
        where = "" if error.filename is None else f": {error.filename}"
        mend = "free some space" if error.errno in _FULL else "see to it that it can be read and written"
        hint = f"{mend}, then run the command again: what was recorded is safe, and it goes on from there"
        return cls(what + where, hint=hint)


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_OF_DISKS = _FULL | {
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
    errno.EMFILE,
    errno.ENFILE,
}


class RowsRejected(BulkrateError):
    """Some rows cannot be sent, and the job says `on_rejected: fail`."""

    exit_code = 1
    default_code = "rows_rejected"


class RunBusy(BulkrateError):
    """Another process drives this run."""

    exit_code = 3
    default_code = "run_busy"


class NotFinished(BulkrateError):
    """Waiting ended before the run did; the remote work goes on."""

    exit_code = 3
    default_code = "not_finished"


class Refused(BulkrateError):
    """Not approved, or over a budget: nothing was sent, or nothing more is."""

    exit_code = 4
    default_code = "refused"


class PlanChanged(Refused):
    """The rows, the job, its model or its prices are not what the plan was made of. Nothing was sent."""

    default_code = "plan_changed"


class CanaryFailed(Refused):
    """Too many rows of the canary failed through their own fault: the rest was not sent."""

    default_code = "canary_failed"


class ProviderError(BulkrateError):
    """A provider, or the way to it, failed."""

    default_code = "provider"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.retry_after_s = retry_after_s


class AuthError(ProviderError):
    """Key missing, wrong, or without the right. Never retried, never a row's fault."""

    default_code = "auth"


class QuotaError(ProviderError):
    """Rate, queue or creation limit: back-pressure, uses up no attempt.

    `queue_full` says that it is the token queue, which a smaller shard may fit; `limit_tokens` how long it
    is, where the provider says so.
    """

    default_code = "quota"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        retry_after_s: float | None = None,
        queue_full: bool = False,
        limit_tokens: int | None = None,
    ) -> None:
        super().__init__(message, code=code, hint=hint, retry_after_s=retry_after_s)
        self.queue_full = queue_full
        self.limit_tokens = limit_tokens


class NotFoundError(ProviderError):
    """No such batch or file. Listings lag, so this may pass."""

    default_code = "not_found"


class RequestRefused(ProviderError):
    """A definite no: the call had no effect and will not have one later."""

    default_code = "provider_refused"


class Unreachable(ProviderError):
    """Could not ask, or got no usable answer. The remote state is whatever it was."""

    default_code = "unreachable"


class OutcomeUnknown(Unreachable):
    """The call may have had its effect: the provider must be asked before anything is sent again."""

    default_code = "outcome_unknown"


class Undecided(Unreachable):
    """A batch may be the one looked for, and cannot be told from a stranger's before it has ended."""

    default_code = "undecided"
