"""The template language: Jinja as minijinja speaks it, made strict about what must not reach a prompt.

A template is the job's author's; a row is data and never a template. What differs from plain Jinja:

* a name that is not a column is an error, never an empty text;
* a null refuses to become text (`None` in a prompt is a silent, paid-for bug). It can be tested
  (`{% if note %}`, `note is none`) and replaced (`note | default("…")`);
* `tojson` writes plain JSON: the HTML-safe escapes of Jinja cost tokens and read badly;
* decimals keep their zeros.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minijinja import Environment


class NullWritten(Exception):
    """A filter was asked to write out a null. Holds no content of the row."""


class NotText(Exception):
    """A value that has no sensible text: bytes."""


class Null:
    """Stands for a null of a row: it is false, and being made into text is noticed."""

    __slots__ = ("_nulls",)

    def __init__(self, nulls: Nulls) -> None:
        self._nulls = nulls

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        self._nulls.written = True
        return ""

    def __repr__(self) -> str:
        return "None"  # inside a list or mapping that is shown as a whole


class Nulls:
    """The nulls of one row: which columns are null, and whether a template wrote one out."""

    __slots__ = ("columns", "written")

    def __init__(self) -> None:
        self.columns: set[str] = set()
        self.written = False

    def guard(self, value: Any, column: str) -> Any:
        """A column's value with its nulls watched. Raises NotText for bytes."""
        if value is None:
            self.columns.add(column)
        return self._guarded(value)

    def _guarded(self, value: Any) -> Any:
        match value:
            case None:
                return Null(self)
            case Decimal():
                return str(value)  # minijinja would make it a float: 1.10 would read 1.1
            case bytes() | bytearray() | memoryview():
                raise NotText
            case Mapping():
                return {str(key): self._guarded(inner) for key, inner in value.items()}
            case list() | tuple():
                return [self._guarded(inner) for inner in value]
            case _:
                return value


def _default(value: Any, other: Any = "", boolean: bool = False) -> Any:
    if value is None or type(value) is Null or (boolean and not value):
        return other
    return value


def _is_none(value: Any) -> bool:
    return value is None or type(value) is Null


def _to_json(value: Any, indent: int | None = None) -> str:
    if value is None or type(value) is Null:  # an undefined value comes as None, too
        raise NullWritten
    return json.dumps(value, ensure_ascii=False, indent=indent, default=_json_of)


def _json_of(value: Any) -> Any:
    return None if type(value) is Null else str(value)


def new_environment() -> Environment:
    """An environment as described above."""
    from minijinja import Environment

    return Environment(
        undefined_behavior="strict",
        auto_escape_callback=lambda name: None,
        keep_trailing_newline=True,
        debug=False,  # its messages would quote the row
        filters={"default": _default, "d": _default, "tojson": _to_json},
        tests={"none": _is_none},
    )
