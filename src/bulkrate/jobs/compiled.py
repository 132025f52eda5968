"""The templates of a job, compiled: which strings differ from row to row, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bulkrate.jobs.document import Defect, Document, Place
from bulkrate.jobs.environment import FUNCTIONS, NullWritten, new_environment
from bulkrate.jobs.request_spec import RequestSpec
from bulkrate.jobs.spec import Job

if TYPE_CHECKING:
    from minijinja import Environment, TemplateError

URLS = ("https:", "data:")
ROW = "row"
# `row["a column"]` and `row.column` say which columns they want; any other use of `row` wants all.
_ROW_WORD = re.compile(r"(?<![\w.])row(?!\w)")
_ROW_COLUMN = re.compile(r"""(?<![\w.])row(?:\[\s*(?:"([^"\\]+)"|'([^'\\]+)')\s*\]|\.(\w+)(?!\w|\s*\())""")
# What makes a template fail for every row alike.
_HOPELESS = {"UnknownFilter", "UnknownTest", "UnknownFunction", "TemplateNotFound"}


@dataclass(frozen=True, slots=True)
class Text:
    """A templated string of the job: where it stands, who says it, what it is."""

    place: Place
    message: int
    role: str
    source: str
    is_url: bool = False


@dataclass(slots=True)
class Slot:
    """A string that differs from row to row."""

    text: Text
    name: str
    columns: tuple[str, ...]
    row_columns: tuple[str, ...] = ()
    whole_row: bool = False


@dataclass(slots=True)
class Compiled:
    environment: Environment
    slots: list[Slot] = field(default_factory=list)
    constants: dict[Place, str] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)


def template_defects(job: Job) -> list[Defect]:
    """What is wrong with the job's templates as such."""
    return [] if job.request is None else compile_templates(job, job.request).defects


def texts_of(spec: RequestSpec) -> Iterator[Text]:
    """The templated strings, in the order of the chat. Places are those of the job file."""
    if spec.messages is None:
        if spec.system is not None:
            yield Text(("request", "system"), 0, "system", spec.system)
        yield Text(("request", "prompt"), 1, "user", spec.prompt or "")
        return
    for number, message in enumerate(spec.messages):
        place = ("request", "messages", number, "content")
        if isinstance(message.content, str):
            yield Text(place, number, message.role, message.content)
            continue
        for index, part in enumerate(message.content):
            for kind in ("text", "image", "document"):
                source = getattr(part, kind)
                if source is not None:
                    yield Text((*place, index, kind), number, message.role, source, kind != "text")


def compile_templates(job: Job, spec: RequestSpec) -> Compiled:
    from minijinja import TemplateError

    document = origin_of(job)
    compiled = Compiled(new_environment())
    for number, text in enumerate(texts_of(spec)):
        name = str(number)
        try:
            compiled.environment.add_template(name, text.source)
            slot = _slot(text, name, compiled.environment)
            if slot is None:
                compiled.constants[text.place] = compiled.environment.render_template(name)
            else:
                _probe(slot, compiled.environment)
                compiled.slots.append(slot)
        except TemplateError as error:
            compiled.defects.append(_template_defect(text, error, document))
        except NullWritten:
            compiled.defects.append(_defect(text, document, "the template writes out a null"))
    if not compiled.defects:
        compiled.defects = list(_constant_defects(spec, compiled, document))
    return compiled


def _slot(text: Text, name: str, environment: Environment) -> Slot | None:
    """The slot of a template; None when it names no column and so is the same for every row."""
    names = environment.undeclared_variables_in_template(name)
    called = {word for word in names & FUNCTIONS if re.search(rf"\b{word}\s*\(", text.source)}
    columns = tuple(sorted(names - called - {ROW}))
    if ROW not in names:
        return Slot(text, name, columns) if columns else None
    found = [next(filter(None, groups)) for groups in _ROW_COLUMN.findall(text.source)]
    whole = len(found) != len(_ROW_WORD.findall(text.source))
    return Slot(text, name, columns, tuple(sorted(set(found))), whole)


def _probe(slot: Slot, environment: Environment) -> None:
    """Render once with stand-ins, to find a filter that does not exist before a million rows do."""
    from minijinja import TemplateError

    context: dict[str, Any] = dict.fromkeys(slot.columns, "1")
    context[ROW] = dict.fromkeys(slot.row_columns, "1")
    try:
        environment.render_template(slot.name, **context)
    except TemplateError as error:
        if error.kind in _HOPELESS:
            raise
    except Exception:  # noqa: S110  (stand-ins need not suit the template)
        pass


def blank_groups(
    spec: RequestSpec, holes: Mapping[Place, int], constants: Mapping[Place, str]
) -> list[tuple[int, ...]]:
    """For each turn of the user that can come out blank: the holes that decide it."""
    groups: list[tuple[int, ...]] = []
    turns: dict[int, list[Text]] = {}
    for text in texts_of(spec):
        if text.role == "user":
            turns.setdefault(text.message, []).append(text)
    for texts in turns.values():
        if any(text.is_url or constants.get(text.place, "").strip() for text in texts):
            continue
        groups.append(tuple(holes[text.place] for text in texts if text.place in holes))
    return groups


def _constant_defects(spec: RequestSpec, compiled: Compiled, document: Document) -> Iterator[Defect]:
    places = {slot.text.place: number for number, slot in enumerate(compiled.slots)}
    for text in texts_of(spec):
        value = compiled.constants.get(text.place)
        if text.is_url and value is not None and not value.startswith(URLS):
            yield _defect(text, document, "must be an https: or data: URL; files are not read from here")
    if () in blank_groups(spec, places, compiled.constants):
        text = next(text for text in texts_of(spec) if text.role == "user")
        yield _defect(text, document, "is empty")


def origin_of(job: Job) -> Document:
    origin = job._origin
    return origin if isinstance(origin, Document) else Document(None)


def _defect(text: Text, document: Document, message: str) -> Defect:
    return Defect(text.place, document.line_of(text.place), message)


def _template_defect(text: Text, error: TemplateError, document: Document) -> Defect:
    what = re.sub(r"(?<!^)(?=[A-Z])", " ", error.kind).lower()
    line = f"line {error.line} of the template: " if error.line is not None else ""
    return _defect(text, document, f"{line}{what}: {error.detail or 'not possible here'}")
