"""How long an answer can get, where the output bounds it: the ground for a derived output cap.

A model writes JSON with white space of its own taste; the longest customary form counts, which is one
member per line with an indent of two. Characters count as JSON may escape them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import islice, product
from typing import Any

from bulkrate.core.request import Choice, JsonSchema, Output

_INDENT = 2
# `\u00e9`: what one character may take when a model escapes it.
_ESCAPED = 6
_MOST_ANSWERS = 1_000
_DEPTH = 64
_BOUNDS_OF_TYPE = {"boolean": len("false"), "null": len("null")}


def max_answer_chars(output: Output) -> int | None:
    """The most characters an answer can have; None when nothing bounds it."""
    match output:
        case Choice(labels=labels):
            return max(len(label) for label in labels)
        case JsonSchema(schema=schema):
            return _Bound(schema).chars(schema, 0, 0)
        case _:
            return None


def longest_answers(output: Output) -> list[str] | None:
    """All answers, in the longest customary spelling, where they can be listed (at most 1,000); else None.

    The one with the most tokens is among them, whatever the tokenizer.
    """
    match output:
        case Choice(labels=labels):
            return list(labels)
        case JsonSchema(schema=schema):
            values = _Bound(schema).values(schema, 0)
            if values is None:
                return None
            return [json.dumps(value, ensure_ascii=False, indent=_INDENT) for value in values]
        case _:
            return None


class _Bound:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._open: set[str] = set()
        self._known: dict[tuple[str, int], int | None] = {}

    def chars(self, schema: Any, indent: int, depth: int) -> int | None:
        """The most characters of a value of `schema` that stands at an indent."""
        if schema is False:
            return 0
        if not isinstance(schema, Mapping) or depth > _DEPTH:
            return None
        # Every rule must hold, so the tightest bound that any of them gives is a bound.
        bounds = [bound for bound in self._bounds(schema, indent, depth) if bound is not None]
        return min(bounds) if bounds else None

    def _bounds(self, schema: Mapping[str, Any], indent: int, depth: int) -> Iterator[int | None]:
        if "const" in schema:
            yield _written(schema["const"], indent)
        if isinstance(schema.get("enum"), list):
            yield max((_written(value, indent) for value in schema["enum"]), default=0)
        if isinstance(schema.get("$ref"), str):
            yield self._referred(schema["$ref"], indent, depth)
        for inner in schema.get("allOf", ()):
            yield self.chars(inner, indent, depth + 1)
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                yield _max([self.chars(inner, indent, depth + 1) for inner in schema[word]])
        kinds = schema.get("type")
        if kinds is not None:
            kinds = [kinds] if isinstance(kinds, str) else kinds
            yield _max([self._of_type(kind, schema, indent, depth) for kind in kinds])

    def _referred(self, reference: str, indent: int, depth: int) -> int | None:
        if reference in self._open:
            return None  # a schema that contains itself has no longest value
        if (reference, indent) not in self._known:
            self._open.add(reference)
            self._known[reference, indent] = self.chars(self._target(reference), indent, depth + 1)
            self._open.discard(reference)
        return self._known[reference, indent]

    def _of_type(self, kind: str, schema: Mapping[str, Any], indent: int, depth: int) -> int | None:
        match kind:
            case "boolean" | "null":
                return _BOUNDS_OF_TYPE[kind]
            case "integer":
                return _integer_chars(schema)
            case "string":
                length = schema.get("maxLength")
                return None if length is None else 2 + int(length) * _ESCAPED
            case "array":
                return self._array(schema, indent, depth)
            case "object":
                return self._object(schema, indent, depth)
            case _:
                return None

    def _array(self, schema: Mapping[str, Any], indent: int, depth: int) -> int | None:
        first = schema.get("prefixItems", [])
        most = schema.get("maxItems")
        if most is None:
            if schema.get("items") is not False:
                return None
            most = len(first)
        most = int(most)
        inner = [self.chars(item, indent + _INDENT, depth + 1) for item in first[:most]]
        more = most - len(inner)
        if more > 0:
            each = self.chars(schema.get("items"), indent + _INDENT, depth + 1)
            inner.append(None if each is None else each * more + (more - 1) * _between(indent))
        return _enclosed(inner, indent)

    def _object(self, schema: Mapping[str, Any], indent: int, depth: int) -> int | None:
        if schema.get("additionalProperties") is not False or schema.get("patternProperties"):
            return None
        members: list[int | None] = []
        for name, inner in schema.get("properties", {}).items():
            value = self.chars(inner, indent + _INDENT, depth + 1)
            members.append(None if value is None else len(json.dumps(name)) + len(": ") + value)
        return _enclosed(members, indent)

    def values(self, schema: Any, depth: int) -> list[Any] | None:
        """All values of `schema`, if they can be listed."""
        if not isinstance(schema, Mapping) or depth > _DEPTH:
            return None
        if "const" in schema:
            return [schema["const"]]
        if isinstance(schema.get("enum"), list):
            return list(schema["enum"]) if len(schema["enum"]) <= _MOST_ANSWERS else None
        if isinstance(schema.get("$ref"), str) and set(schema) <= {"$ref", "description", "title"}:
            return self.values(self._target(schema["$ref"]), depth + 1)
        for word in ("anyOf", "oneOf"):
            if word in schema and set(schema) <= {word, "description", "title", "default"}:
                branches = [self.values(inner, depth + 1) for inner in schema[word]]
                if any(values is None for values in branches):
                    return None
                found = [value for values in branches for value in values or ()]
                return found if len(found) <= _MOST_ANSWERS else None
        match schema.get("type"):
            case "boolean":
                return [True, False]
            case "null":
                return [None]
            case "integer":
                least, most = _integer_range(schema)
                if least is None or most is None or most - least >= _MOST_ANSWERS:
                    return None
                return list(range(least, most + 1))
            case "object":
                return self._objects(schema, depth)
            case _:
                return None

    def _objects(self, schema: Mapping[str, Any], depth: int) -> list[Any] | None:
        if schema.get("additionalProperties") is not False or schema.get("patternProperties"):
            return None
        properties = schema.get("properties", {})
        members: list[list[Any]] = []
        for inner in properties.values():
            values = self.values(inner, depth + 1)
            if values is None:
                return None
            members.append(values)
        # With all members present an object is longest, so optional ones need not be left out.
        found = [
            dict(zip(properties, row, strict=True)) for row in islice(product(*members), _MOST_ANSWERS + 1)
        ]
        return found if len(found) <= _MOST_ANSWERS else None

    def _target(self, reference: str) -> Any:
        if reference != "#" and not reference.startswith("#/"):
            return None
        target: Any = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(target, Mapping) or name not in target:
                return None
            target = target[name]
        return target


def _max(bounds: list[int | None]) -> int | None:
    known = [bound for bound in bounds if bound is not None]
    return max(known, default=0) if len(known) == len(bounds) else None


def _between(indent: int) -> int:
    """What stands between two members, one per line: a comma, the end of the line, the indent."""
    return len(",\n") + indent + _INDENT


def _enclosed(members: list[int | None], indent: int) -> int | None:
    """The size of members in brackets, one per line."""
    known = [member for member in members if member is not None]
    if len(known) < len(members):
        return None
    if not known:
        return 2
    # The first member has a bracket before it instead of a comma, the last one a line of its own after it.
    return sum(known) + len(known) * _between(indent) + len("\n") + indent + 1


def _written(value: Any, indent: int) -> int:
    text = json.dumps(value, ensure_ascii=True, indent=_INDENT)
    return len(text) + text.count("\n") * indent


def _integer_range(schema: Mapping[str, Any]) -> tuple[int | None, int | None]:
    least, most = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    lows = [-int(-least // 1)] if least is not None else []
    lows += [int(above // 1) + 1] if above is not None else []
    highs = [int(most // 1)] if most is not None else []
    highs += [-int(-below // 1) - 1] if below is not None else []
    return (max(lows) if lows else None), (min(highs) if highs else None)


def _integer_chars(schema: Mapping[str, Any]) -> int | None:
    least, most = _integer_range(schema)
    if least is None or most is None:
        return None
    return max(len(str(least)), len(str(most)))
