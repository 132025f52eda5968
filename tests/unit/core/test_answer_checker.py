"""Answers are checked on our side, and the reason never quotes them."""

from __future__ import annotations

import pytest

from bulkrate.core.answer import checker, value_of
from bulkrate.core.request import Choice, FreeText, JsonSchema

SECRET = "patient-4711"
SCHEMA = JsonSchema(
    {
        "type": "object",
        "properties": {"age": {"type": "integer"}, "names": {"type": "array", "items": {"maxLength": 3}}},
        "required": ["age"],
        "additionalProperties": False,
    }
)


@pytest.mark.parametrize("text", ["", "whatever", "{"])
def test_free_text_is_free(text: str) -> None:
    assert checker(FreeText())(text) is None
    assert value_of(FreeText(), text) == text


@pytest.mark.parametrize(
    ("text", "good"),
    [("yes", True), ("no", True), ("Yes", False), ("yes ", False), ("", False), (SECRET, False)],
)
def test_labels(text: str, good: bool) -> None:
    reason = checker(Choice(("yes", "no")))(text)
    assert (reason is None) is good
    assert SECRET not in (reason or "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"age": 1}', None),
        ('{"age": 1, "names": ["a"]}', None),
        ("{", "is not JSON"),
        ("", "is not JSON"),
        (SECRET, "is not JSON"),
        ("NaN", "is not JSON"),
        ("[]", "at the top level (rule type)"),
        ("{}", "at the top level (rule required)"),
        (f'{{"age": "{SECRET}"}}', "at age (rule properties/age/type)"),
        (f'{{"age": 1, "names": ["{SECRET}"]}}', "at names/0 (rule properties/names/items/maxLength)"),
        (f'{{"age": 1, "{SECRET}": 2}}', "at the top level (rule additionalProperties)"),
    ],
)
def test_schemas(text: str, reason: str | None) -> None:
    found = checker(SCHEMA)(text)
    if reason is None:
        assert found is None
    else:
        assert found is not None
        assert reason in found
        assert SECRET not in found


def test_values_as_delivered() -> None:
    assert value_of(SCHEMA, '{"age": 1}') == {"age": 1}
    assert value_of(SCHEMA, "{") == "{", "an answer that fails its check is still shown"
    assert value_of(SCHEMA, None) is None
    assert value_of(Choice(("1",)), "1") == "1"
