"""From a row to the strings that differ: the job's templates, compiled once per run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from bulkrate.core.problem import Problem
from bulkrate.core.request import DocumentPart, ImagePart, Message, Part, Request, TextPart, has_hole, hole
from bulkrate.jobs.columns import ROW, Reads
from bulkrate.jobs.compiled import Slot, blank_groups, compile_templates, origin_of, texts_of
from bulkrate.jobs.document import Place, written
from bulkrate.jobs.environment import NotText, Nulls, NullWritten
from bulkrate.jobs.local_files import as_url
from bulkrate.jobs.messages import job_error
from bulkrate.jobs.openai_lines import is_blank, line_body, parse_body
from bulkrate.jobs.spec import Job, RequestSpec

_PLAIN = frozenset({str, int, float, bool})
_SHOWABLE = re.compile(r"""[A-Za-z_][\w.]*(?:\[["'][\w .-]+["']\])?""")
_MARKS = Problem(
    "forbidden_character", "private-use characters (U+F8FF U+E0B0), which Bulkrate keeps for itself"
)


class RowTemplate:
    """A job's request with holes, and the strings that fill them for a row.

    `request` is the neutral request with `hole(n)` where rows differ and everything constant rendered.
    `columns` are the columns the templates name; with `whole_row` they also read the row as a whole
    (`{{ row | tojson }}`). Pickled as the job and compiled again on the other side.
    """

    request: Request
    columns: frozenset[str]
    whole_row: bool

    def __init__(self, job: Job) -> None:
        if job.request is None:
            raise ValueError("a job without a request section has no templates")
        self._job = job
        self._spec = job.request
        compiled = compile_templates(job, job.request)
        if compiled.defects:
            raise job_error(origin_of(job), compiled.defects)
        self._slots = compiled.slots
        self._constants = compiled.constants
        self._render = compiled.environment.render_template
        self._holes = {slot.text.place: number for number, slot in enumerate(self._slots)}
        self._urls = [number for number, slot in enumerate(self._slots) if slot.text.is_url]
        self._prompts = blank_groups(job.request, self._holes, self._constants)
        chat = self._chat()
        self._constant_turns = [
            (role, "".join([piece for piece in pieces if isinstance(piece, str)])) for role, pieces in chat
        ]
        self._varying_turns = [
            (number, role, pieces)
            for number, (role, pieces) in enumerate(chat)
            if any(isinstance(piece, int) for piece in pieces)
        ]
        self.columns = frozenset(column for slot in self._slots for column in slot.reads.names)
        self.whole_row = any(slot.reads.whole_row for slot in self._slots)
        self.request = self.request_for([hole(number) for number in range(len(self._slots))])

    def __reduce__(self) -> tuple[type[RowTemplate], tuple[Job]]:
        return RowTemplate, (self._job,)

    def render(self, row: Mapping[str, Any]) -> list[str] | Problem:
        """The hole values of a row, or why it cannot be sent."""
        values: list[str] = []
        for slot in self._slots:
            text = None if slot.plain is None else slot.joined(row)
            if text is None:
                rendered = self._rendered(slot, row)
                if isinstance(rendered, Problem):
                    return rendered
                text = rendered
            if has_hole(text):
                return _MARKS
            values.append(text)
        for group in self._prompts:
            if all(not values[number].strip() for number in group):
                what = "prompt" if self._spec.embed is None else "text to embed"
                return Problem("empty_prompt", f"the {what} is empty")
        for number in self._urls:
            place, kind = self._slots[number].text.place, self._slots[number].text.kind
            url = as_url(values[number], kind, self._job.files)
            if isinstance(url, Problem):
                return Problem(url.code, f"{written(place)} {url.message}")
            values[number] = url
        return values

    def _rendered(self, slot: Slot, row: Mapping[str, Any]) -> str | Problem:
        context: dict[str, Any] = {}
        nulls: Nulls | None = None
        try:
            for column in slot.reads.columns:
                value = row.get(column)
                if type(value) in _PLAIN:
                    context[column] = value
                elif value is not None or column in row:
                    nulls = nulls or Nulls()
                    context[column] = nulls.guard(value, column)
            if slot.reads.whole_row or slot.reads.row_columns:
                nulls = nulls or Nulls()
                context[ROW] = _row_as_value(slot.reads, row, nulls)
            text: str = self._render(slot.name, **context)
        except Exception as error:
            return _problem(error, slot, nulls, row)
        if nulls is not None and nulls.written:
            return _null_problem(slot, nulls)
        return text

    def texts(self, values: Sequence[str]) -> list[tuple[str, str]]:
        """(role, text) of each turn of the chat, for counting tokens."""
        turns = self._constant_turns.copy()
        for number, role, pieces in self._varying_turns:
            if len(pieces) == 1:
                turns[number] = role, values[pieces[0]]  # type: ignore[index]  # a constant does not vary
            else:
                texts = [piece if isinstance(piece, str) else values[piece] for piece in pieces]
                turns[number] = role, "".join(texts)
        return turns

    def request_for(self, values: Sequence[str]) -> Request:
        """The whole request of one row, without the short cut through holes."""
        spec = self._spec

        def text_at(place: Place) -> str:
            number = self._holes.get(place)
            return self._constants[place] if number is None else values[number]

        if spec.embed is not None:
            return Request(
                model=spec.model_name,
                kind="embed",
                inputs=(text_at(("request", "embed")),),
                dimensions=spec.dimensions,
                output=spec.answer,
                extra=spec.extra,
            )
        if spec.raw is not None:
            return Request(
                model=spec.model_name,
                raw={
                    name: _filled(value, ("request", "raw", name), text_at)
                    for name, value in spec.raw.items()
                },
                output=spec.answer,
                max_output_tokens=spec.max_output_tokens,
            )
        return Request(
            model=spec.model_name,
            messages=_messages(spec, text_at),
            tools=spec.functions,
            output=spec.answer,
            max_output_tokens=spec.max_output_tokens,
            temperature=spec.temperature,
            top_p=spec.top_p,
            seed=spec.seed,
            stop=spec.stop or (),
            reasoning=spec.reasoning,
            extra=spec.extra,
        )

    def _chat(self) -> list[tuple[str, list[str | int]]]:
        turns: dict[int, tuple[str, list[str | int]]] = {}
        for text in texts_of(self._spec):
            if text.kind == "text":
                _, pieces = turns.setdefault(text.message, (text.role, []))
                pieces.append(self._holes.get(text.place, self._constants.get(text.place, "")))
        return list(turns.values())


class LineTemplate:
    """For a source that is an OpenAI batch file: each row is its own request."""

    def __init__(self, job: Job) -> None:
        if job.request is not None:
            raise ValueError("a job with a request section makes its requests from templates")
        self._model = job.model_name

    def request_for_row(self, row: Mapping[str, Any]) -> Request | Problem:
        """The request of a line (`custom_id`, `method`, `url`, `body`), or why it cannot be sent."""
        try:
            body = line_body(row)
            request = parse_body(body, row["url"], model=self._model)
            text = orjson.dumps(body).decode()
        except (ValueError, TypeError) as error:
            return Problem("bad_request_line", str(error))
        if has_hole(text):
            return _MARKS
        turns = [message for message in request.messages if message.role == "user"] or request.messages
        if request.kind == "chat" and request.raw is None and all(is_blank(message) for message in turns):
            return Problem("empty_prompt", "the prompt is empty")
        return request


def _messages(spec: RequestSpec, text_at: Any) -> tuple[Message, ...]:
    if spec.messages is None:
        turns = [] if spec.system is None else [Message("system", text_at(("request", "system")))]
        return (*turns, Message("user", text_at(("request", "prompt"))))
    messages: list[Message] = []
    for number, message in enumerate(spec.messages):
        place = ("request", "messages", number, "content")
        if isinstance(message.content, str):
            messages.append(Message(message.role, text_at(place)))
            continue
        parts: list[Part] = []
        for index, part in enumerate(message.content):
            if part.image is not None:
                parts.append(ImagePart(text_at((*place, index, "image")), part.detail))
            elif part.document is not None:
                parts.append(DocumentPart(text_at((*place, index, "document")), part.name))
            else:
                parts.append(TextPart(text_at((*place, index, "text"))))
        messages.append(Message(message.role, tuple(parts)))
    return tuple(messages)


def _filled(value: Any, place: Place, text_at: Any) -> Any:
    """A value of a raw body with its texts rendered."""
    match value:
        case str():
            return text_at(place)
        case dict():
            return {name: _filled(item, (*place, name), text_at) for name, item in value.items()}
        case list():
            return [_filled(item, (*place, number), text_at) for number, item in enumerate(value)]
        case _:
            return value


def _row_as_value(reads: Reads, row: Mapping[str, Any], nulls: Nulls) -> dict[str, Any]:
    names = row.keys() if reads.whole_row else [name for name in reads.row_columns if name in row]
    return {name: nulls.guard(row[name], name) for name in names}


def _null_problem(slot: Slot, nulls: Nulls | None) -> Problem:
    columns = "" if nulls is None else ", ".join(f"`{name}`" for name in sorted(nulls.columns))
    what = f"{columns} is null" if columns else "it reads a null"
    where = written(slot.text.place)
    return Problem("null_value", f"{where}: {what}; `| default(…)` puts a text in its place")


def _problem(error: Exception, slot: Slot, nulls: Nulls | None, row: Mapping[str, Any]) -> Problem:
    """Why a row could not be rendered, in words that hold nothing of the row or the prompt."""
    from minijinja import TemplateError

    where = written(slot.text.place)
    if isinstance(error, NullWritten) or (nulls is not None and nulls.written):
        # To a filter, what is not there looks like a null.
        missing = [name for name in slot.reads.names if name not in row]
        if missing and (nulls is None or not nulls.columns):
            return Problem("undefined_column", f"{where}: `{missing[0]}` is not in this row")
        return _null_problem(slot, nulls)
    if isinstance(error, NotText):
        return Problem("template_error", f"{where} reads a column that holds bytes, not text")
    if not isinstance(error, TemplateError):
        return Problem("template_error", f"{where} cannot be rendered ({type(error).__name__})")
    line = f"line {error.line} of " if error.line is not None else ""
    if error.kind == "UndefinedError":
        start, end = error.range or (0, 0)
        expression = slot.text.source.encode()[start:end].decode(errors="replace")
        name = f"`{expression}`" if _SHOWABLE.fullmatch(expression) else "a value"
        return Problem("undefined_column", f"{line}{where}: {name} is not in this row")
    if nulls is not None and nulls.columns:
        return _null_problem(slot, nulls)  # a null in a sum, a slice, a loop
    what = re.sub(r"(?<!^)(?=[A-Z])", " ", error.kind).lower()
    return Problem("template_error", f"{line}{where}: {what}")
