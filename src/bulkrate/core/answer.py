"""Is the answer what was asked for? Checked on our side, whatever the provider promises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from bulkrate.core.embedding import embedded
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.core.request import Choice, Embedding, JsonSchema, Output

Check = Callable[[str], str | None]


def judge(output: Output) -> Callable[[Outcome], Outcome]:
    """A function from an outcome as it was decoded to the one that counts."""
    if isinstance(output, Embedding):
        return partial(embedded, dimensions=output.dimensions)
    return partial(_checked, check=checker(output))


def _checked(outcome: Outcome, check: Check) -> Outcome:
    if outcome.error is not None or outcome.text is None:
        return outcome
    reason = check(outcome.text)
    if reason is None:
        return outcome
    return Outcome(
        ErrorClass.INVALID_OUTPUT,
        reason,
        outcome.text,
        outcome.finish_reason,
        outcome.model,
        outcome.usage,
    )


def checker(output: Output) -> Check:
    """A function from an answer's text to the reason why it is not what `output` asks for, or None."""
    match output:
        case Choice(labels=labels):
            allowed = frozenset(labels)
            return lambda text: None if text in allowed else "the answer is not one of the labels"
        case JsonSchema(schema=schema):
            return _schema_checker(dict(schema))
        case _:
            return lambda text: None


def _schema_checker(schema: dict[str, Any]) -> Check:
    import jsonschema_rs

    validator = jsonschema_rs.validator_for(schema)

    def check(text: str) -> str | None:
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return f"the answer is not JSON: {error.msg} at character {error.pos}"
        for problem in validator.iter_errors(value):
            where = "/".join(str(step) for step in problem.instance_path) or "the top level"
            # The message would quote the answer; the rule and the place do not.
            rule = "/".join(str(step) for step in problem.schema_path) or "schema"
            return f"the answer breaks the schema at {where} (rule {rule})"
        return None

    return check


def value_of(output: Output, text: str | None) -> Any:
    """The answer as delivered: a JSON value for a schema, else the text or label itself."""
    if text is None or not isinstance(output, JsonSchema):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
