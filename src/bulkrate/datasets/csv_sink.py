"""CSV and TSV out: UTF-8, line feeds, quotes where needed, no value altered.

Null is an empty field. Text that begins with = or @ is written as it is: what a spreadsheet makes
of it is the spreadsheet's setting, and a changed value would no longer join with its source.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bulkrate.datasets.content import json_text
from bulkrate.datasets.landing import LandingFile, SinkError
from bulkrate.datasets.sink import Column

__all__ = ["CsvSink"]


class CsvSink:
    """A header, then a record per row. An error column becomes `<name>_class` and `<name>_message`."""

    def __init__(self, path: Path, columns: Sequence[Column], *, delimiter: str = ",") -> None:
        self._columns = [(column.name, column.type == "error") for column in columns]
        self._delimiter = delimiter
        header: list[str] = []
        for name, is_error in self._columns:
            header += [f"{name}_class", f"{name}_message"] if is_error else [name]
        if len(set(header)) < len(header):
            twice = sorted({name for name in header if header.count(name) > 1})
            raise SinkError(
                f"two result columns are named {', '.join(map(repr, twice))}", code="duplicate_columns"
            )
        self._landing = LandingFile(path)
        # Readers look for the delimiter in the header, and drop a byte order mark before it.
        if any(mark in name for name in header for mark in ";\t|\ufeff"):
            self._landing.write(self._quoted(header).encode())
        else:
            self._write([header])

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append rows."""
        records = []
        for row in rows:
            record: list[str | None] = []
            for name, is_error in self._columns:
                value = row.get(name)
                if is_error:
                    error = value or {}
                    record += [json_text(error.get("class")), json_text(error.get("message"))]
                else:
                    record.append(json_text(value))
            records.append(record)
        self._write(records)

    def _write(self, records: Sequence[Sequence[str | None]]) -> None:
        buffer = io.StringIO(newline="")
        plain = csv.writer(buffer, delimiter=self._delimiter, lineterminator="\n")
        plain.writerows(records)
        text = buffer.getvalue()
        if "\r" in text:
            # With \n as the line end the writer leaves \r unquoted (before Python 3.13), and readers
            # take it for the end of the row.
            buffer = io.StringIO(newline="")
            plain = csv.writer(buffer, delimiter=self._delimiter, lineterminator="\n")
            for record in records:
                if any(field and "\r" in field for field in record):
                    buffer.write(self._quoted(record))
                else:
                    plain.writerow(record)
            text = buffer.getvalue()
        self._landing.write(text.encode())

    def _quoted(self, record: Sequence[str | None]) -> str:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, delimiter=self._delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(
            record
        )
        return buffer.getvalue()

    def commit(self) -> None:
        """Put the file in place."""
        self._landing.commit()

    def abort(self) -> None:
        """Leave everything as it was."""
        self._landing.abort()
