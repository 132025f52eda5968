"""A JSON Schema in Gemini's own form, `responseSchema`: a subset of OpenAPI 3.0's.

The field that takes JSON Schema as it is, `responseJsonSchema`, is honoured by single calls and was seen to
give degenerate answers in batches (0 of 502, public report of 2026-08), so the older form is preferred. What
it has no word for is left out: answers are held against the whole schema on our side anyway.
Keywords: google-genai 3.4.0, `types.Schema`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_TYPES = {
    "string": "STRING",
    "number": "NUMBER",
    "integer": "INTEGER",
    "boolean": "BOOLEAN",
    "array": "ARRAY",
    "object": "OBJECT",
}
# Any other format is refused with 400 (for strings: "only 'enum' and 'date-time' are supported").
_FORMATS = {"STRING": {"date-time"}, "NUMBER": {"float", "double"}, "INTEGER": {"int32", "int64"}}
_AS_THEY_ARE = (
    "title",
    "description",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "pattern",
)
_SPOKEN_FOR = {
    *_AS_THEY_ARE,
    *("type", "format", "enum", "properties", "required", "items", "anyOf", "allOf", "$ref", "nullable"),
    # No constraints.
    *("$schema", "$id", "$defs", "definitions", "$comment", "default", "examples", "deprecated"),
    # Only the listed properties are written.
    "additionalProperties",
}


@dataclass(frozen=True, slots=True)
class NativeSchema:
    """The schema as `responseSchema`, and the keywords that only our own check knows."""

    schema: dict[str, Any]
    left_out: tuple[str, ...]


class _CannotSay(Exception):
    """The form has no words for a place of the schema."""


def native_schema(schema: Mapping[str, Any]) -> NativeSchema | None:
    """`schema` in Gemini's own form; None where it cannot be said (recursion, values of any type)."""
    translation = _Translation(schema)
    try:
        return NativeSchema(translation.node(schema), tuple(sorted(translation.left_out)))
    except _CannotSay:
        return None


class _Translation:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._open: list[str] = []
        self.left_out: set[str] = set()

    def node(self, schema: Any) -> dict[str, Any]:
        if not isinstance(schema, Mapping):
            raise _CannotSay
        if "$ref" in schema:
            return self._referred(schema)
        if "allOf" in schema:
            return self._merged(schema)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._any_of(schema, keyword)
        if isinstance(schema.get("type"), list):
            options = [{**schema, "type": name} for name in schema["type"]]
            return self._options(options)
        return self._plain(schema)

    def _referred(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        reference = str(schema["$ref"])
        if reference in self._open or not reference.startswith("#"):
            raise _CannotSay
        target: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            target = target.get(name) if isinstance(target, Mapping) and name else target
        self._open.append(reference)
        try:
            return {**self.node(target), **self._told(schema)}
        finally:
            self._open.pop()

    def _merged(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        parts = schema["allOf"]
        beside = {name: value for name, value in schema.items() if name != "allOf"}
        if len(parts) != 1 or not isinstance(parts[0], Mapping) or set(beside) & set(parts[0]):
            raise _CannotSay
        return self.node({**beside, **parts[0]})

    def _any_of(self, schema: Mapping[str, Any], keyword: str) -> dict[str, Any]:
        if {"properties", "items", "enum", "const"} & set(schema):
            raise _CannotSay
        if keyword == "oneOf":
            self.left_out.add("oneOf")
        return {**self._options(schema[keyword]), **self._told(schema)}

    def _options(self, options: list[Any]) -> dict[str, Any]:
        values = [option for option in options if not _is_null(option)]
        if not values:
            raise _CannotSay
        found = [self.node(option) for option in values]
        said: dict[str, Any] = found[0] if len(found) == 1 else {"anyOf": found}
        return said if len(values) == len(options) else {**said, "nullable": True}

    def _plain(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        self.left_out |= set(schema) - _SPOKEN_FOR - {"const"}
        said: dict[str, Any] = {name: schema[name] for name in _AS_THEY_ARE if name in schema}
        if "const" in schema or "enum" in schema:
            self._values(schema, said)
            return said
        name = schema.get("type") or (
            "object" if "properties" in schema else "array" if "items" in schema else ""
        )
        if name not in _TYPES:
            raise _CannotSay
        said["type"] = _TYPES[name]
        if "format" in schema:
            if schema["format"] in _FORMATS.get(said["type"], ()):
                said["format"] = schema["format"]
            else:
                self.left_out.add("format")
        if name == "object":
            self._object(schema, said)
        elif name == "array":
            if "prefixItems" in schema:
                raise _CannotSay
            said["items"] = self.node(schema.get("items"))
        return said

    def _values(self, schema: Mapping[str, Any], said: dict[str, Any]) -> None:
        allowed = schema["enum"] if "enum" in schema else [schema["const"]]
        values = [value for value in allowed if value is not None]
        kinds = {type(value) for value in values}
        if kinds == {str} and all(values):
            said |= {"type": "STRING", "format": "enum", "enum": values}
        elif kinds and kinds <= {int, float}:
            said["type"] = "INTEGER" if kinds == {int} else "NUMBER"
            self.left_out.add("enum of numbers")
        elif kinds == {bool}:
            said["type"] = "BOOLEAN"
            self.left_out |= {"enum of booleans"} if len(set(values)) == 1 else set()
        else:
            raise _CannotSay
        if len(values) < len(allowed):
            said["nullable"] = True

    def _object(self, schema: Mapping[str, Any], said: dict[str, Any]) -> None:
        properties = schema.get("properties") or {}
        required = schema.get("required") or []
        # An object without properties is refused with 400.
        if not properties or not set(required) <= set(properties):
            raise _CannotSay
        said["properties"] = {name: self.node(value) for name, value in properties.items()}
        # Without it the model writes them in the order of the alphabet: a verdict before its reasons.
        said["propertyOrdering"] = list(properties)
        if required:
            said["required"] = list(required)
        if isinstance(schema.get("additionalProperties"), Mapping):
            self.left_out.add("additionalProperties")

    @staticmethod
    def _told(schema: Mapping[str, Any]) -> dict[str, Any]:
        return {name: schema[name] for name in ("title", "description") if name in schema}


def _is_null(schema: Any) -> bool:
    return isinstance(schema, Mapping) and (
        schema.get("type") == "null" or ("const" in schema and schema["const"] is None)
    )
