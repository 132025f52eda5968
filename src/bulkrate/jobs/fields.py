"""Types and checks of single job fields. Messages are sentences that follow `field: `."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from bulkrate.core.money import parse_money
from bulkrate.errors import BulkrateError

_DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?", re.ASCII)
_DURATION_PATTERN = r"^(?=\d)(\d+d)?(\d+h)?(\d+m)?(\d+s)?$"
_MODEL_PATTERN = r"^[a-z0-9][a-z0-9_-]*/\S+$"
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


def wrong(message: str, *, at: str | int | None = None, wants_text: bool = False) -> PydanticCustomError:
    """A field error whose text is `message`; `at` points to an item or key below the checked field."""
    # The text goes in as a value, so that braces in it are not read as pydantic's placeholders.
    return PydanticCustomError(
        "job_field", "{problem}", {"problem": message, "at": at, "wants_text": wants_text}
    )


def _one_or_many(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list | tuple):
        raise wrong("must be a text or a list of texts", wants_text=True)
    return value


def _check_many(values: tuple[str, ...]) -> tuple[str, ...]:
    if not values:
        raise wrong("is an empty list")
    if "" in values:
        raise wrong("is empty", at=values.index("") if len(values) > 1 else None)
    _check_distinct(values, "value")
    return values


def _check_distinct(values: Sequence[str], what: str) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise wrong(f'repeats the {what} "{value}"', at=index)
        seen.add(value)


_ONE_OR_MANY_SCHEMA = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "uniqueItems": True},
    ]
}

# One string or a list of them; held as a tuple.
Strings = Annotated[
    tuple[str, ...],
    BeforeValidator(_one_or_many),
    AfterValidator(_check_many),
    WithJsonSchema(_ONE_OR_MANY_SCHEMA),
]


def _check_name(value: str) -> str:
    if not re.fullmatch(NAME_PATTERN[1:-1], value):
        raise wrong(
            "must be lower-case letters, digits, hyphens and underscores: at most 64, "
            "the first a letter or digit"
        )
    return value


Name = Annotated[str, AfterValidator(_check_name), Field(json_schema_extra={"pattern": NAME_PATTERN})]


def duration_s(text: str) -> float:
    """Seconds of a duration such as `24h`, `90m` or `1d12h`. Raises ValueError for anything else."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError('must be a duration such as "24h", "90m" or "1d12h"')
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _check_duration(value: Any) -> Any:
    if value is None:
        return value
    if not isinstance(value, str):
        raise wrong('must be a duration such as "24h", "90m" or "1d12h"')
    try:
        seconds = duration_s(value)
    except ValueError as error:
        raise wrong(str(error)) from None
    if seconds <= 0:
        raise wrong("must be longer than nothing")
    return value


Duration = Annotated[
    str, BeforeValidator(_check_duration), Field(json_schema_extra={"pattern": _DURATION_PATTERN})
]


def _check_money(value: Any) -> Any:
    if value is None or isinstance(value, Decimal):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise wrong('must be an amount of money such as 20, 0.50 or "20 USD"')
    try:
        return parse_money(value if isinstance(value, str) else f"{Decimal(str(value)):f}")
    except BulkrateError as error:
        raise wrong(f"{error.message}; {error.hint}") from None


# An amount in USD: a number, or text such as "20 USD".
Money = Annotated[
    Decimal,
    BeforeValidator(_check_money),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
]


def _check_model(value: str) -> str:
    if not re.fullmatch(_MODEL_PATTERN[1:-1], value):
        raise wrong('must be "provider/model", for example "openai/gpt-5-mini"')
    return value


Model = Annotated[str, AfterValidator(_check_model), Field(json_schema_extra={"pattern": _MODEL_PATTERN})]

# A number or a whole number, never a string or a boolean that looks like one.
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]


def _check_labels(labels: tuple[str, ...]) -> tuple[str, ...]:
    if len(labels) < 2:
        raise wrong("needs at least two labels")
    for index, label in enumerate(labels):
        if not label.strip():
            raise wrong("is an empty label", at=index)
    _check_distinct(labels, "label")
    return labels


# The allowed answers, in order.
Labels = Annotated[
    tuple[str, ...],
    AfterValidator(_check_labels),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1},
            "minItems": 2,
            "uniqueItems": True,
        }
    ),
]


def empty_as_default(value: Any) -> Any:
    """A section that is present but empty (`lane:`) counts as absent."""
    return {} if value is None else value


def or_empty(schema: dict[str, Any]) -> None:
    """The same, said in a field's JSON Schema."""
    schema["anyOf"] = [{"$ref": schema.pop("$ref")}, {"type": "null"}]
