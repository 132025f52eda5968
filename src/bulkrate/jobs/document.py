"""A YAML or JSON file as plain data, with the line of every value.

YAML reads some bare words as something else than text (`no`, `1.10`, `2024-05-01`, `12:30`). Such values
are kept as YAML reads them (dates as text); `bare` holds the word as it was written and what it became, so
that a message can say what happened and ask for quotes.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from bulkrate.errors import JobError

Place = tuple[str | int, ...]

_MAX_NODES = 200_000
_TAG = "tag:yaml.org,2002:"
# Tags of bare words that are read as something else than text.
_KINDS = {
    "bool": "a boolean",
    "int": "a number",
    "float": "a number",
    "timestamp": "a date",
    "null": "nothing",
}
# Booleans to YAML 1.1; in the `enum` of a schema nobody means them so.
_SWITCHES = {"yes", "no", "on", "off"}


class Defect(NamedTuple):
    """Something wrong at a place of a document."""

    place: Place
    line: int | None
    message: str
    hint: str | None = None


@dataclass(slots=True)
class Document:
    """What a file says and where. `name` is the file as messages call it (None: data without a file)."""

    data: Any
    name: str | None = None
    lines: dict[Place, int] = field(default_factory=dict)
    bare: dict[Place, tuple[str, str]] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)

    def line_of(self, place: Place) -> int | None:
        """The line of a value, or of what encloses it."""
        for end in range(len(place), -1, -1):
            line = self.lines.get(place[:end])
            if line is not None:
                return line
        return None

    def at(self, line: int | None) -> str:
        """The start of a message: `file:line: `."""
        if self.name is None:
            return ""
        return f"{self.name}: " if line is None else f"{self.name}:{line}: "


def _nearest(path: Path) -> str:
    """What to do when a job file is not there."""
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {near[0]}?" if near else "`bulkrate init` writes an example"


def read_document(path: Path, name: str | None = None) -> Document:
    """Read a file; JSON if it is called so, else YAML. Raises JobError when it is neither."""
    name = name or str(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise JobError(f"{name}: cannot be read: {error.strerror or error}", hint=_nearest(path)) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise JobError(f"{name}:{line}: is not UTF-8 text") from None
    return parse_json(text, name) if path.suffix.lower() == ".json" else parse_yaml(text, name)


def parse_yaml(text: str, name: str) -> Document:
    """Read YAML text."""
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            document = Document(None, name)
            if root is not None:
                _walk(root, (), document, frozenset())
                document.data = loader.construct_document(root)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise JobError(f"{name}:{line}: is not valid YAML: {said}", hint=_yaml_hint(error)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise JobError(f"{name}:{line}: is not valid YAML: {error.reason}") from None
    except (ValueError, RecursionError) as error:  # an impossible date, a document without bottom
        raise JobError(f"{name}: is not usable YAML: {error}") from None
    return document


def _yaml_hint(error: yaml.MarkedYAMLError) -> str | None:
    problem = error.problem or ""
    if "mapping values are not allowed" in problem:
        return "quote a text that contains a colon followed by a space"
    if "'\\t'" in problem:
        return "indent with spaces, not with tabs"
    if "unhashable" in problem or ("expected" in problem and "'{'" in problem):
        return "quote a text that begins with a brace"
    return None


def parse_json(text: str, name: str) -> Document:
    """Read JSON text. The places come from reading it as YAML, which JSON is a part of."""
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise JobError(f"{name}:{error.lineno}: is not valid JSON: {error.msg}") from None
    except RecursionError:
        raise JobError(f"{name}: is nested too deeply") from None
    document = Document(data, name)
    try:
        # A tab cannot stand inside a JSON string, and YAML does not take one outside of it.
        root = yaml.compose(text.replace("\t", " "), Loader=yaml.SafeLoader)
        if root is not None:
            _walk(root, (), document, frozenset())
    except (yaml.YAMLError, ValueError, RecursionError):
        pass  # a corner where JSON is not YAML: messages then come without line numbers
    document.bare.clear()  # JSON says what it means
    return document


def _walk(node: Any, place: Place, document: Document, above: frozenset[int]) -> None:
    line: int = node.start_mark.line + 1
    document.lines.setdefault(place, line)
    if len(document.lines) > _MAX_NODES:
        raise ValueError("it is too large for a job file")
    if id(node) in above:
        raise ValueError("an alias contains itself")
    above = above | {id(node)}
    if isinstance(node, yaml.MappingNode):
        _walk_mapping(node, place, document, above)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _walk(item, (*place, index), document, above)
    elif node.tag.removeprefix(_TAG) in _KINDS and node.style is None:
        document.bare[place] = (node.value, _KINDS[node.tag.removeprefix(_TAG)])
        if node.tag == _TAG + "timestamp":
            # JSON has no dates, so no field of a job can mean one. As text it cannot be an impossible date.
            node.tag = _TAG + "str"
            document.defects.append(Defect(place, line, quote_advice(document, place) or ""))
        elif "enum" in place and node.value.lower() in _SWITCHES:
            document.defects.append(Defect(place, line, quote_advice(document, place) or ""))
    elif not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + "str":
        document.defects.append(Defect(place, line, f"has the YAML tag {node.tag}"))


def _walk_mapping(node: yaml.MappingNode, place: Place, document: Document, above: frozenset[int]) -> None:
    seen: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.tag == _TAG + "merge":
            continue
        if not isinstance(key, yaml.ScalarNode):
            document.defects.append(Defect(place, line, "has a key that is not a text"))
            continue
        inner = (*place, key.value)
        if key.tag != _TAG + "str":
            kind = _KINDS.get(key.tag.removeprefix(_TAG), "something else")
            message = f'the bare key {key.value} is read as {kind}; write "{key.value}" in quotes'
            document.defects.append(Defect(inner, line, message))
            key.tag = _TAG + "str"
        elif key.value in seen:
            document.defects.append(
                Defect(inner, line, f"stands twice; the first is on line {seen[key.value]}")
            )
        seen.setdefault(key.value, line)
        document.lines.setdefault(inner, line)
        _walk(value, inner, document, above)


def quote_advice(document: Document, place: Place) -> str | None:
    """What to do about a bare word that is not read as text, if that is what stands at `place`."""
    word = document.bare.get(place)
    if word is None:
        return None
    text, kind = word
    if not text:
        return "is empty"
    return f'the bare word {text} is read as {kind}; write "{text}" in quotes'


def value_at(data: Any, place: Place) -> tuple[bool, Any]:
    """Whether there is a value at `place`, and which."""
    for step in place:
        match data, step:
            case Mapping(), _ if step in data:
                data = data[step]
            case ((list() | tuple()), int()) if step < len(data):
                data = data[step]
            case _:
                return False, None
    return True, data


def written(place: Place) -> str:
    """A place as people write it: `request.output.choice[2]`."""
    return "".join(_steps(place)) or "the job"


def _steps(place: Place) -> Iterator[str]:
    for number, step in enumerate(place):
        if isinstance(step, int):
            yield f"[{step}]"
        else:
            yield step if number == 0 else f".{step}"
