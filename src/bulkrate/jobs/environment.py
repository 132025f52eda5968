"""The template language: Jinja as minijinja speaks it, made strict about what must not reach a prompt.

A template is the job's author's; a row is data and never a template. What differs from plain Jinja:

* a name that is not a column is an error, never an empty text;
* a null refuses to become text (`None` in a prompt is a silent, paid-for bug). It can be tested
  (`{% if note %}`, `note is none`) and replaced (`note | default("…")`);
* `tojson` writes plain JSON: the HTML-safe escapes of Jinja cost tokens and read badly;
* numbers read as Python writes them, and decimals keep their zeros.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minijinja import Environment

# What a template may call without being given it; a column of that name still wins where it is not called.
FUNCTIONS = frozenset({"range", "dict", "namespace", "debug"})


class NullWritten(Exception):
    """A template wrote out a null. Holds no content of the row."""


class Null:
    """Stands for a null of a row: false, equal to none, and it remembers being made into text."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written = False

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        self.written = True
        return ""

    def __repr__(self) -> str:
        return "None"  # inside a list or mapping that is shown as a whole


class NotText(Exception):
    """A value that has no sensible text: bytes."""


def guarded(value: Any, null: Null) -> Any:
    """`value` with its nulls watched and its decimals as they are written. Raises NotText for bytes."""
    match value:
        case None:
            return null
        case Decimal():
            return str(value)
        case bytes() | bytearray() | memoryview():
            raise NotText
        case Mapping():
            return {str(key): guarded(inner, null) for key, inner in value.items()}
        case list() | tuple():
            return [guarded(inner, null) for inner in value]
        case _:
            return value


def _finalize(value: Any) -> Any:
    """Called for every `{{ … }}`."""
    if type(value) is str:
        return value
    if value is None or type(value) is Null:
        raise NullWritten
    if type(value) is float:
        return str(value)
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


@cache
def environment() -> Environment:
    """A new environment without templates; one per process is enough for probing."""
    return new_environment()


def new_environment() -> Environment:
    """An environment as described above."""
    from minijinja import Environment

    return Environment(
        undefined_behavior="strict",
        auto_escape_callback=lambda name: None,
        keep_trailing_newline=True,
        debug=False,  # its messages would quote the row
        finalizer=_finalize,
        filters={"default": _default, "d": _default, "tojson": _to_json},
        tests={"none": _is_none},
    )
