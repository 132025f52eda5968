"""Why a row is not sent."""

from __future__ import annotations

from typing import NamedTuple


class Problem(NamedTuple):
    """A row's defect: `code` is a stable word, `message` a sentence without any of the row's content."""

    code: str
    message: str
