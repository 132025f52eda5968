"""Encode: one source row into one request, ready to be stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import orjson

from bulkrate.core.problem import Problem
from bulkrate.core.request import Fingerprints, Pieces, Request, canonical_bytes, fingerprint, split
from bulkrate.errors import JobError
from bulkrate.jobs.raw_body import is_data, strings_in
from bulkrate.providers.provider import Native, NeedsValues, Wire


@dataclass(slots=True)
class Encoded:
    """A row's request, ready to send: body, fingerprint, and its texts for counting."""

    body: bytes
    fingerprint: bytes
    texts: list[tuple[str, str]]


class Encoder(Protocol):
    """Turns a source row into an encoded request. It can be pickled: worker processes get a copy."""

    choice: Sequence[str]
    embeds: bool

    def encode(self, row: Mapping[str, Any]) -> Encoded | Problem:
        """The row's request, or why it has none."""


class TemplateEncoder:
    """Rows through a job's template: a join and a hash each, thanks to the holes."""

    def __init__(self, template: Any, wire: Wire, choice: Sequence[str]) -> None:
        self.choice = choice
        self.embeds = template.request.kind == "embed"
        self._template = template
        self._wire = wire
        self._body: Pieces | None
        try:
            self._body = split(_encoded(wire, template.request))
        except NeedsValues:
            self._body = None
        self._fingerprints = Fingerprints(split(canonical_bytes(template.request)))

    def encode(self, row: Mapping[str, Any]) -> Encoded | Problem:
        values = self._template.render(row)
        if isinstance(values, Problem):
            return values
        strings = [orjson.dumps(value) for value in values]
        body = self._made(values) if self._body is None else self._body.fill(strings)
        if isinstance(body, Problem):
            return body
        return Encoded(
            body=body,
            fingerprint=self._fingerprints.of(strings),
            texts=self._template.texts(values),
        )

    def _made(self, values: list[str]) -> bytes | Problem:
        cap = self._template.request.max_output_tokens
        return _body(self._wire, replace(self._template.request_for(values), max_output_tokens=cap))


class LineEncoder:
    """Rows that are requests already: a ready-made OpenAI batch file."""

    choice: Sequence[str] = ()

    def __init__(self, template: Any, wire: Wire, *, kind: str) -> None:
        self.embeds = kind == "embed"
        self._kind = kind
        self._template = template
        self._wire = wire

    def encode(self, row: Mapping[str, Any]) -> Encoded | Problem:
        request = self._template.request_for_row(row)
        if isinstance(request, Problem):
            return request
        if request.raw is not None and self._kind != "responses":
            return Problem("not_carried", "a line for /v1/responses in a batch of another url")
        body = _body(self._wire, request)
        if isinstance(body, Problem):
            return body
        return Encoded(
            body=body,
            fingerprint=fingerprint(request),
            texts=_texts(request),
        )


def _encoded(wire: Wire, request: Request) -> bytes:
    """The body of a request; of a raw one, what was written and the cap."""
    if request.raw is None:
        return orjson.dumps(wire.body(request))
    if not isinstance(wire, Native):
        raise JobError(
            "request.raw cannot be sent: this provider passes no bodies through", code="not_carried"
        )
    body, cap = orjson.dumps(wire.native(request.raw, request.model)), request.max_output_tokens
    return body if cap is None else wire.with_cap(body, cap)


def _body(wire: Wire, request: Request) -> bytes | Problem:
    try:
        return _encoded(wire, request)
    except JobError as error:
        return Problem("not_carried", error.message)


def _texts(request: Request) -> list[tuple[str, str]]:
    if request.kind == "embed":
        return [("user", text) for text in request.inputs]
    if request.raw is not None:
        return [("user", text) for place, text in strings_in(request.raw) if not is_data(place, text)]
    return [(message.role, text) for message in request.messages for text in message.texts()]
