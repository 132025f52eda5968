"""What the operating system says, in our words."""

from __future__ import annotations

import errno

import pytest

from bulkrate.errors import DiskError


@pytest.mark.parametrize(
    ("error", "message", "mend"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device", "free some space"),
        (OSError(errno.EFBIG, "File too large"), "File too large", "free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/b"), "Permission denied: /a/b", "see to it"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/a/b"), "No such file: /a/b", "see to it"),
    ],
)
def test_a_disk_that_refuses(error: OSError, message: str, mend: str) -> None:
    told = DiskError.of(error)
    assert told is not None
    assert (told.code, told.message) == ("disk", f"the disk refused: {message}")
    assert (told.hint or "").startswith(mend)


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(errno.ECONNRESET, "reset"), TimeoutError("late"), OSError("?"), ValueError()],
)
def test_what_is_not_about_a_disk(error: Exception) -> None:
    assert DiskError.of(error) is None
