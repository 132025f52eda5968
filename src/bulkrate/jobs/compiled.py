"""The templates of a job, compiled: which strings differ from row to row, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bulkrate.core.problem import Problem
from bulkrate.core.request import has_hole
from bulkrate.jobs.columns import ROW, Reads, columns_of
from bulkrate.jobs.document import Defect, Document, Place
from bulkrate.jobs.environment import NullWritten, new_environment
from bulkrate.jobs.local_files import URLS, as_url
from bulkrate.jobs.raw_body import is_data, strings_in
from bulkrate.jobs.request_spec import RequestSpec
from bulkrate.jobs.spec import Job

if TYPE_CHECKING:
    from minijinja import Environment, TemplateError

# A column and nothing else, without Jinja's signs for eating white space.
_BARE_COLUMN = re.compile(r"\{\{[ \t\n]*([A-Za-z_][A-Za-z0-9_]*)[ \t\n]*\}\}")
# What makes a template fail for every row alike.
_HOPELESS = {"UnknownFilter", "UnknownTest", "UnknownFunction", "TemplateNotFound"}


@dataclass(frozen=True, slots=True)
class Text:
    """A templated string of the job: where it stands, who says it, and what it is."""

    place: Place
    message: int
    role: str
    source: str
    kind: str = "text"  # or an image, a document; or data, which nobody counts

    @property
    def is_url(self) -> bool:
        """Whether it says where a file is."""
        return self.kind in ("image", "document")


@dataclass(slots=True)
class Slot:
    """A string that differs from row to row.

    `plain`: the template as literals and column names in turn, when it is text with columns in it and
    nothing more. For texts and integers a join does what the template engine does, in a tenth of the time.
    """

    text: Text
    name: str
    reads: Reads
    plain: list[str] | None = None

    def joined(self, row: Mapping[str, Any]) -> str | None:
        """The rendered text of a `plain` slot; None: the engine has to look at this row."""
        assert self.plain is not None
        parts = self.plain.copy()
        for place in range(1, len(parts), 2):
            value = row.get(parts[place])
            if type(value) is str:
                parts[place] = value
            elif type(value) is int:
                parts[place] = str(value)
            else:
                return None
        return "".join(parts)


@dataclass(slots=True)
class Compiled:
    environment: Environment
    slots: list[Slot] = field(default_factory=list)
    constants: dict[Place, str] = field(default_factory=dict)
    defects: list[Defect] = field(default_factory=list)


def template_defects(job: Job) -> list[Defect]:
    """What is wrong with the job's templates as such, and with files that every row needs."""
    if job.request is None:
        return []
    compiled, document = compile_templates(job, job.request), origin_of(job)
    found = compiled.defects
    for slot in compiled.slots:
        if slot.text.is_url and slot.plain is not None and len(slot.plain) == 1:
            url = as_url(slot.plain[0], slot.text.kind, job.files)
            if isinstance(url, Problem):
                found.append(_defect(slot.text, document, url.message))
    return found


def texts_of(spec: RequestSpec) -> Iterator[Text]:
    """The templated strings, in the order of the chat. Places are those of the job file."""
    if spec.embed is not None:
        yield Text(("request", "embed"), 0, "user", spec.embed)
        return
    if spec.raw is not None:
        for number, (place, source) in enumerate(strings_in(spec.raw, ("request", "raw"))):
            yield Text(place, number, "user", source, "data" if is_data(place, source) else "text")
        return
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
                    yield Text((*place, index, kind), number, message.role, source, kind)


def compile_templates(job: Job, spec: RequestSpec) -> Compiled:
    from minijinja import TemplateError

    document = origin_of(job)
    compiled = Compiled(new_environment())
    for number, text in enumerate(texts_of(spec)):
        name = str(number)
        try:
            compiled.environment.add_template(name, text.source)
            reads = columns_of(text.source, compiled.environment)
            if reads.anything:
                slot = Slot(text, name, reads, _plain(text.source, reads))
                _probe(slot, compiled.environment)
                compiled.slots.append(slot)
            else:
                value = compiled.environment.render_template(name)
                if text.is_url and not value.startswith(URLS):
                    # A file: read for the rows, so that a run goes on when it is no longer there.
                    compiled.slots.append(Slot(text, name, reads, [value]))
                else:
                    compiled.constants[text.place] = value
        except TemplateError as error:
            compiled.defects.append(_template_defect(text, error, document))
        except NullWritten:
            compiled.defects.append(_defect(text, document, "the template writes out a null"))
    if not compiled.defects:
        compiled.defects = list(_constant_defects(spec, compiled, document))
    return compiled


def _plain(source: str, reads: Reads) -> list[str] | None:
    """Literals and column names in turn, when the template is nothing more."""
    pieces = _BARE_COLUMN.split(source)
    literals, names = pieces[0::2], pieces[1::2]
    more = any(mark in literal for literal in literals for mark in ("{{", "}}", "{%", "{#"))
    if more or reads.row_columns or reads.whole_row or set(names) != set(reads.columns):
        return None
    return pieces


def _probe(slot: Slot, environment: Environment) -> None:
    """Render once with stand-ins, to find a filter that does not exist before a million rows do."""
    from minijinja import TemplateError

    context: dict[str, Any] = dict.fromkeys(slot.reads.columns, "1")
    context[ROW] = dict.fromkeys(slot.reads.row_columns, "1")
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
    """For each turn of the user that can come out blank: the holes that decide it.

    Of a raw body nobody here knows which texts those are.
    """
    if spec.raw is not None:
        return []
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
        if value is not None and has_hole(value):
            yield _defect(text, document, "writes private-use characters that Bulkrate keeps for itself")
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
