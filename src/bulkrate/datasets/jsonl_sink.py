"""JSON Lines out: an object per row, values as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bulkrate.datasets.content import json_line
from bulkrate.datasets.landing import LandingFile
from bulkrate.datasets.sink import Column

__all__ = ["JsonlSink"]


class JsonlSink:
    """Columns first, in their order; then what else a row holds."""

    def __init__(self, path: Path, columns: Sequence[Column]) -> None:
        self._nulls = dict.fromkeys((column.name for column in columns), None)
        self._landing = LandingFile(path)

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows."""
        nulls = self._nulls
        self._landing.write(b"".join([json_line({**nulls, **row}) for row in rows]))

    def commit(self) -> None:
        """Put the file in place."""
        self._landing.commit()

    def abort(self) -> None:
        """Leave everything as it was."""
        self._landing.abort()
