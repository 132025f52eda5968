"""JSON Schema as far as Anthropic enforces it.

Structured output takes a part of JSON Schema and turns a request with any other keyword away (SDK 2.12.0,
`lib/_parse/_transform.py`, does the same for its users). Whatever is left out here is still demanded: in the
description, for the model, and by our own check of every answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from bulkrate.errors import JobError

_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
)
_KEPT = frozenset({"type", "enum", "const", "title", "description", "required", "$ref"})
_DECISIVE = frozenset({"type", "enum", "const", "properties", "anyOf", "oneOf", "allOf", "$ref"})
_OLD_DEFINITIONS = "#/definitions/"
# What says nothing about an answer.
_SILENT = frozenset(
    {"$schema", "$id", "$comment", "examples", "default", "deprecated", "readOnly", "writeOnly"}
)


def narrowed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without what Anthropic does not take. Raises `JobError` for one that it cannot mean."""
    return _node(schema, "the schema")


def checked_by_us(schema: Mapping[str, Any]) -> list[str]:
    """The rules of the schema that only our own check enforces."""
    return sorted({rule for node in _nodes(schema) for rule in _left_out(node)})


def _node(schema: Any, place: str) -> dict[str, Any]:
    if not isinstance(schema, Mapping) or _DECISIVE.isdisjoint(schema):
        raise JobError(
            f"{place} allows any value, which Anthropic's structured output cannot",
            hint="give it a `type`, an `enum`, or `anyOf`",
        )
    kinds = schema.get("type")
    if isinstance(kinds, list):
        branches = [{**schema, "type": kind} for kind in kinds]
        return {"anyOf": [_node(branch, place) for branch in branches]}
    node = {name: value for name, value in schema.items() if name in _KEPT}
    if isinstance(node.get("$ref"), str):
        node["$ref"] = node["$ref"].replace(_OLD_DEFINITIONS, "#/$defs/")
    definitions = {**schema.get("definitions", {}), **schema.get("$defs", {})}
    if definitions:
        node["$defs"] = {name: _node(inner, f"{place}, {name}") for name, inner in definitions.items()}
    for word, inner in _branches(schema):
        node[word] = [_node(branch, place) for branch in inner]
    if kinds == "object" or "properties" in schema:
        node.update(_object(schema, place))
    if "items" in schema:
        node["items"] = _node(schema["items"], f"{place}, items")
    if schema.get("format") in _FORMATS:
        node["format"] = schema["format"]
    if schema.get("minItems") in (0, 1):
        node["minItems"] = schema["minItems"]
    demands = {name: schema[name] for name in _left_out(schema)}
    if demands:
        said = orjson.dumps(demands).decode()
        node["description"] = " ".join(filter(None, [schema.get("description"), said]))
    return node


def _branches(schema: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    for word, written in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
        if isinstance(schema.get(word), list):
            yield written, schema[word]


def _object(schema: Mapping[str, Any], place: str) -> dict[str, Any]:
    open_to = schema.get("additionalProperties", False)
    if open_to is not False or not schema.get("properties"):
        raise JobError(
            f"{place} has an object of any properties, which Anthropic's structured output cannot",
            hint="name the properties, or take a list of pairs",
        )
    inner = {name: _node(part, f"{place}, {name}") for name, part in schema["properties"].items()}
    return {"type": "object", "properties": inner, "additionalProperties": False}


def _left_out(schema: Mapping[str, Any]) -> list[str]:
    """Keywords that are rules and that Anthropic does not take."""
    known = _KEPT | _SILENT | {"$defs", "definitions", "anyOf", "oneOf", "allOf", "properties", "items"}
    known |= {"additionalProperties"}
    gone = [name for name in schema if name not in known]
    if schema.get("format") in _FORMATS:
        gone.remove("format")
    if schema.get("minItems") in (0, 1):
        gone.remove("minItems")
    return gone


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(schema, Mapping):
        return
    yield schema
    inner: list[Any] = [schema.get("items")]
    for word in ("$defs", "definitions", "properties"):
        inner += (schema.get(word) or {}).values()
    for word in ("anyOf", "oneOf", "allOf"):
        inner += schema.get(word) or []
    for part in inner:
        yield from _nodes(part)
