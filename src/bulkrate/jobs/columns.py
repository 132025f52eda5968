"""Which columns a template reads, found without rendering it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from minijinja import Environment

# The name under which a template reaches columns whose names are no words: `row["Ticket subject"]`.
ROW = "row"

# What a template may call without being given it; where it is not called, a column of that name is meant.
_FUNCTIONS = frozenset({"range", "dict", "namespace", "debug", "cycler", "joiner"})

_TAG = re.compile(r"\{#.*?#\}|\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
# Within a tag: a string, a bracket or a colon.
_TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[\[\](){}:]""", re.DOTALL)
# `row["a column"]` and `row.column` say which columns they want; any other use of `row` wants all.
_ROW_WORD = re.compile(r"(?<![\w.])row(?!\w)")
_ROW_COLUMN = re.compile(r"""(?<![\w.])row(?:\[\s*(?:"([^"\\]+)"|'([^'\\]+)')\s*\]|\.(\w+)(?!\w|\s*\())""")


class Reads(NamedTuple):
    """`columns` by their own names, `row_columns` through `row`; `whole_row`: through `row`, any of them."""

    columns: tuple[str, ...]
    row_columns: tuple[str, ...] = ()
    whole_row: bool = False

    @property
    def anything(self) -> bool:
        """Whether the template differs from row to row at all."""
        return bool(self.columns or self.row_columns or self.whole_row)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns it names."""
        return tuple(dict.fromkeys((*self.columns, *self.row_columns)))


def columns_of(source: str, environment: Environment) -> Reads:
    """What a template reads. Raises minijinja's TemplateError for a syntax error."""
    tags = [tag for tag in _TAG.findall(source) if not tag.startswith("{#")]
    names = environment.undeclared_variables_in_str(_TAG.sub(lambda tag: _unsliced(tag[0]), source))
    called = {name for name in names & _FUNCTIONS if re.search(rf"\b{name}\s*\(", "\n".join(tags))}
    columns = tuple(sorted(names - called - {ROW}))
    if ROW not in names:
        return Reads(columns)
    code = "\n".join(tags)
    found = [next(filter(None, groups)) for groups in _ROW_COLUMN.findall(code)]
    return Reads(columns, tuple(sorted(set(found))), whole_row=len(found) != len(_ROW_WORD.findall(code)))


def _unsliced(tag: str) -> str:
    """The tag with each slice `a[b:c]` written as the index `a[b-0-c]`.

    minijinja 3.1 does not see that a slice reads what it cuts: `{{ body[:500] }}` reads nothing, it says.
    An index it does see.
    """
    pieces: list[str] = []
    brackets: list[str] = []
    end = 0
    for token in _TOKEN.finditer(tag, 2):
        text = token[0]
        if text in "[({":
            brackets.append(text)
        elif text in "])}":
            if brackets:
                brackets.pop()
        elif text == ":" and brackets and brackets[-1] == "[":
            rest = tag[token.end() :].lstrip()
            pieces += [tag[end : token.start()], "-0" if rest[:1] in "]:" else "-0-"]
            end = token.end()
    return "".join([*pieces, tag[end:]])
