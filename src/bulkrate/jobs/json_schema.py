"""Is this a JSON Schema that answers can be checked against on our side, without the network?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_json_schema(schema: Mapping[str, Any]) -> None:
    """Raise ValueError, with a sentence that follows "the schema", when it cannot be used."""
    import jsonschema_rs

    _check_enums(schema, "the top level")
    try:
        jsonschema_rs.validator_for(dict(schema), retriever=_no_network)
    except jsonschema_rs.ValidationError as error:
        where = "/".join(str(step) for step in error.instance_path) or "the top level"
        raise ValueError(f"is not a valid JSON Schema, at {where}: {error.message}") from None
    except jsonschema_rs.ReferencingError as error:
        raise ValueError(f"is not a usable JSON Schema: {error}") from None


def _check_enums(schema: Any, where: str) -> None:
    """A text that must equal a number can never be written: `enum: [1, 2]` for `type: string`."""
    if isinstance(schema, Mapping):
        values = schema.get("enum")
        if schema.get("type") == "string" and isinstance(values, list):
            wrong = next((value for value in values if not isinstance(value, str)), None)
            if wrong is not None:
                raise ValueError(f"asks for a text that equals {wrong!r}, at {where}/enum; quote the value")
        for name, inner in schema.items():
            _check_enums(inner, name if where == "the top level" else f"{where}/{name}")
    elif isinstance(schema, list):
        for number, inner in enumerate(schema):
            _check_enums(inner, f"{where}/{number}")


def _no_network(uri: str) -> Any:
    raise ValueError(f"{uri} lies outside the schema; put what it refers to under $defs")
