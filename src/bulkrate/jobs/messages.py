"""What is wrong with a job, in sentences: `file:line: field: what is wrong`, one line per problem."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from bulkrate.errors import JobError
from bulkrate.jobs.document import Defect, Document, Place, quote_advice, value_at, written


def job_error(document: Document, defects: Iterable[Defect]) -> JobError:
    """All defects as one error, in the order of the file; the hint holds what may have been meant."""
    ordered = sorted(
        dict.fromkeys(defects), key=lambda defect: (defect.line or 0, [str(step) for step in defect.place])
    )
    lines = [f"{document.at(d.line)}{written(d.place)}: {d.message}" for d in ordered]
    hints = [(defect.line, written(defect.place), defect.hint) for defect in ordered if defect.hint]
    if len(ordered) == 1:
        hint = hints[0][2] if hints else None
    else:
        hint = "\n".join(
            f"{f'line {line}' if line is not None else field}: {text}" for line, field, text in hints
        )
    return JobError("\n".join(lines), hint=hint or None)


def defects_of(error: ValidationError, document: Document, model: type[BaseModel]) -> list[Defect]:
    """pydantic's findings, with places that exist in the file and words that help."""
    return [_defect(finding, document, model) for finding in error.errors(include_url=False)]


def _defect(finding: Mapping[str, Any], document: Document, model: type[BaseModel]) -> Defect:
    kind: str = finding["type"]
    context: Mapping[str, Any] = finding.get("ctx", {})
    place = _real_place(finding["loc"], document.data, kind)
    if kind == "job_field":
        at = context.get("at")
        if at is not None:
            place = (*place, *(at.split(".") if isinstance(at, str) else (at,)))
        advice = quote_advice(document, place) if context["wants_text"] else None
        return Defect(place, document.line_of(place), advice or context["problem"])
    if kind == "extra_forbidden":
        hint = _nearest_field(place, model)
        return Defect(place, document.line_of(place), "there is no such field", hint)
    hint = None
    if kind == "literal_error":
        hint = _nearest(str(finding["input"]), _literals(context["expected"]))
    if kind == "model_type" and isinstance(finding["input"], str):
        inner = _model_at(place, model)
        hint = f"did you mean `{written(place)}.path`?" if inner and "path" in inner.model_fields else None
    message = _sentence(kind, context, finding["input"])
    if kind in _WANTS_TEXT:
        message = quote_advice(document, place) or message
    return Defect(place, document.line_of(place), message, hint)


_WANTS_TEXT = {"string_type", "literal_error"}


def _real_place(loc: tuple[str | int, ...], data: Any, kind: str) -> Place:
    """The place without the names pydantic gives to the branches of a union."""
    place: Place = ()
    for number, step in enumerate(loc):
        last = number == len(loc) - 1
        if value_at(data, (*place, step))[0] or (last and kind == "missing"):
            place = (*place, step)
    return place


def _sentence(kind: str, context: Mapping[str, Any], value: Any) -> str:
    match kind:
        case "missing":
            return "is missing"
        case "string_type":
            return f"must be text, not {_what(value)}"
        case "tuple_type" | "list_type":
            return f"must be a list, not {_what(value)}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"must be a section with fields, not {_what(value)}"
        case "int_type" if isinstance(value, float):
            return "must be a whole number"
        case "int_type":
            return f"must be a whole number, not {_what(value)}"
        case "float_type":
            return f"must be a number, not {_what(value)}"
        case "bool_type":
            return f"must be true or false, not {_what(value)}"
        case "finite_number":
            return "must be a finite number"
        case "literal_error":
            return f"must be one of {', '.join(_literals(context['expected']))}"
        case "greater_than":
            return f"must be greater than {_number(context['gt'])}"
        case "greater_than_equal":
            return f"must be at least {_number(context['ge'])}"
        case "less_than_equal":
            return f"must be at most {_number(context['le'])}"
        case "string_too_short" | "too_short":
            return "is empty"
        case _:
            return f"is not right ({kind.replace('_', ' ')})"


def _what(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a section"
        case _:
            return f"a {type(value).__name__}"


def _number(value: float) -> str:
    return f"{value:g}"


def _literals(expected: str) -> list[str]:
    return [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]


def _nearest(word: str, words: Iterable[str]) -> str | None:
    found = difflib.get_close_matches(word.lower(), list(words), n=1, cutoff=0.6)
    return f"did you mean `{found[0]}`?" if found else None


def _nearest_field(place: Place, model: type[BaseModel]) -> str | None:
    """The field that an unknown one may stand for: a neighbour, or the same name in another section."""
    name = str(place[-1])
    here = _model_at(place[:-1], model)
    if here is None:
        return None
    near = _nearest(name, _fields(here))
    if near is not None:
        return near
    for section, inner in _sections(model).items():
        if inner is not here and name in _fields(inner):
            return f"did you mean `{section}.{name}`?"
    if here is not model and name in _fields(model):
        return f"`{name}` stands at the top of the file, not under `{written(place[:-1])}`"
    return None


def _fields(model: type[BaseModel]) -> list[str]:
    return [name for name, field in model.model_fields.items() if not field.exclude]


def _sections(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """The sections of the job, and below: dotted name to model, outer ones first."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            found.setdefault(name, inner)
    for name, inner in list(found.items()):
        for deeper, model_below in _sections(inner).items():
            found.setdefault(f"{name}.{deeper}", model_below)
    return found


def _model_at(place: Place, model: type[BaseModel]) -> type[BaseModel] | None:
    for step in place:
        if isinstance(step, int):
            continue  # the items of a list share one model, found at the list's own name
        field = model.model_fields.get(step)
        inner = next(_models_in(field.annotation), None) if field is not None else None
        if inner is None:
            return None
        model = inner
    return model


def _models_in(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
