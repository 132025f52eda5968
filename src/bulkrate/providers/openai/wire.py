"""OpenAI's JSON, both ways. Pure: no I/O, no SDK.

Shapes: openai SDK 3.54.0 and the batch guide (copies of 2026); observed oddities are cited where they are
handled.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from bulkrate.core.json_value import count, mapping, moment, plain, words
from bulkrate.core.outcome import ErrorClass
from bulkrate.core.reconcile import BatchEnd
from bulkrate.core.request import Choice, FreeText, JsonSchema, Output, Request
from bulkrate.core.usage import Usage
from bulkrate.errors import JobError
from bulkrate.providers.labels import LABEL
from bulkrate.providers.openai.parts import message_of, response_format, tools_of
from bulkrate.providers.openai.results import CostField, decode_line
from bulkrate.providers.provider import BatchProblem, BatchStatus, Decoded, QueueRefusal, ResultFile, Tag

ENDPOINTS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "embed": "/v1/embeddings"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an OpenAI-shaped server differs from OpenAI."""

    # "json_schema": a strict schema with one enum; "structured_outputs": vLLM's own `choice`; "none": the
    # server cannot be held to any form, so the answer is only checked on our side.
    choice: str = "json_schema"
    cap_field: str = "max_completion_tokens"
    reasoning: tuple[str, ...] = ()
    endpoints: Mapping[str, str] = field(default_factory=lambda: ENDPOINTS)
    most_dimensions: int | None = None  # of an embedding
    bare_lines: bool = False  # a line is custom_id and body, without method and url
    error_codes: Mapping[str, ErrorClass] = field(default_factory=dict)  # beside those of OpenAI
    cost_field: CostField = "none"  # where an answer's usage says what it cost


@dataclass(frozen=True, slots=True)
class OpenAIWire:
    """Implements `bulkrate.providers.provider.Wire`."""

    dialect: Dialect
    kind: str = "chat"

    @property
    def endpoint(self) -> str:
        return self.dialect.endpoints[self.kind]

    def body(self, request: Request) -> dict[str, object]:
        if request.kind == "embed":
            most = self.dialect.most_dimensions
            if most is not None and (request.dimensions or 0) > most:
                raise JobError(f"request.dimensions: the vectors of {request.model} have {most}")
            return plain(
                {
                    "model": request.model,
                    "input": list(request.inputs),
                    "dimensions": request.dimensions,
                    **request.extra,
                }
            )
        body = plain(
            {
                "model": request.model,
                "messages": [message_of(message) for message in request.messages],
                "tools": tools_of(request.tools),
                self.dialect.cap_field: request.max_output_tokens,
                "temperature": request.temperature,
                "top_p": request.top_p,
                "seed": request.seed,
                "stop": list(request.stop) or None,
                "reasoning_effort": request.reasoning,
            }
        )
        body.update(self._output(request.output))
        body.update(request.extra)
        return body

    def _output(self, output: Output) -> dict[str, object]:
        match output:
            case Choice() | JsonSchema() if self.dialect.choice == "none":
                return {}
            case Choice(labels=labels) if self.dialect.choice == "structured_outputs":
                return {"structured_outputs": {"choice": list(labels)}}
            case _:
                return plain({"response_format": response_format(output)})

    def native(self, raw: Mapping[str, object], model: str) -> dict[str, object]:
        return {"model": model, **raw}

    def dropped(self, request: Request) -> tuple[str, ...]:
        if self.dialect.choice != "none" or isinstance(request.output, FreeText):
            return ()
        return (
            "output (the server cannot be held to a form: say it in the prompt, answers are checked here)",
        )

    def envelope(self, tag: Tag) -> tuple[bytes, bytes, bytes]:
        if self.dialect.bare_lines:
            return b'{"custom_id":"', b'","body":', b"}\n"
        middle = b'","method":"POST","url":"' + self.endpoint.encode() + b'","body":'
        return b'{"custom_id":"', middle, b"}\n"

    def with_cap(self, body: bytes, max_output_tokens: int) -> bytes:
        fields = orjson.loads(body)
        # A user's own line may name the cap twice: both must rise, or the smaller still cuts.
        known = {"max_tokens", "max_completion_tokens"} & fields.keys()
        fields.update(dict.fromkeys(known or {self.dialect.cap_field}, max_output_tokens))
        return orjson.dumps(fields)

    def decode(self, line: bytes, output: Output) -> Decoded | None:
        wrapped = isinstance(output, Choice) and self.dialect.choice == "json_schema"
        return decode_line(
            line,
            label=LABEL if wrapped else None,
            codes=self.dialect.error_codes,
            cost_field=self.dialect.cost_field,
        )

    def derived_cap(self, model: str, output: Output, answer_tokens: int | None) -> int | None:
        if answer_tokens is None or model.startswith(self.dialect.reasoning):
            return None
        # Room for the wrapper around a label and for the end-of-turn token, doubled: a cap is a fence
        # against runaways, and a truncated answer costs a whole resend.
        wrapper = 12 if isinstance(output, Choice) and self.dialect.choice == "json_schema" else 4
        return 2 * answer_tokens + wrapper


ENDS = {
    "completed": BatchEnd.COMPLETED,
    "expired": BatchEnd.EXPIRED,
    "cancelled": BatchEnd.CANCELLED,
    "failed": BatchEnd.FAILED,
}

RUNNING = frozenset({"validating", "in_progress", "finalizing", "cancelling"})

# "… Limit: 90000 enqueued tokens. Please try again …" (openai-python issues 1643 and 2084).
# Azure: "The number of enqueued tokens has surpassed the configured limit of 30K for the deployment …"
# (learn.microsoft.com Q&A 2285577).
_QUEUE_LIMIT = re.compile(
    r"[Ll]imit:\s*([\d,]{1,20})()\s*enqueued tokens|enqueued tokens .{0,40}limit of ([\d,]{1,20})([KMB]?)\b"
)
_THOUSANDS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
QUEUE_CODE = "token_limit_exceeded"


def queue_refusal(message: str) -> QueueRefusal:
    """Read the limit out of a token-queue refusal, where the message names it."""
    found = _QUEUE_LIMIT.search(message)
    digits = (found[1] or found[3]).replace(",", "") if found else ""
    unit = _THOUSANDS[(found[4] or "") if found else ""]
    return QueueRefusal(message, count(int(digits) * unit) if digits else None)


def parse_batch(fields: Mapping[str, Any]) -> BatchStatus:
    """A batch object; never raises. What has another type than it should have is read as absent.

    Unknown status words are kept and mean "not ended"; falsy file ids mean none: empty strings stand for
    absent ids on a clean batch (observed 2026-07). A batch may end `completed` without any output file when
    every request failed (observed 2026-03). An object without an id has the id "".
    """
    word = words(fields.get("status")) or "unknown"
    end = ENDS.get(word)
    results = tuple(
        ResultFile(kind, file_id)
        for kind, name in (("output", "output_file_id"), ("error", "error_file_id"))
        if (file_id := words(fields.get(name)))
    )
    errors = mapping(fields.get("errors")).get("data")
    problems = tuple(
        BatchProblem(
            words(str(item.get("code") or "unknown")) or "",
            words(str(item.get("message") or "")) or "",
            count(item.get("line")),
        )
        for item in (errors if isinstance(errors, list) else [])
        if isinstance(item, Mapping)
    )
    refusal = None
    if end is BatchEnd.FAILED:
        full = [problem for problem in problems if problem.code == QUEUE_CODE]
        refusal = queue_refusal(full[0].message) if full else None
    counts = mapping(fields.get("request_counts"))
    return BatchStatus(
        id=words(fields.get("id")) or "",
        word=word,
        end=end,
        strange=end is None and word not in RUNNING,
        tag=Tag.from_metadata(mapping(fields.get("metadata"))),
        queue_refusal=refusal,
        input_file_id=words(fields.get("input_file_id")),
        results=results,
        total=count(counts.get("total")),
        completed=count(counts.get("completed")),
        failed=count(counts.get("failed")),
        usage=_batch_usage(mapping(fields.get("usage"))),
        created_at=moment(fields.get("created_at")),
        expires_at=moment(fields.get("expires_at")),
        problems=problems,
    )


def _batch_usage(usage: Mapping[str, Any]) -> Usage | None:
    # Filled only on batches created after 2025-09-07, and with zeros until results exist.
    if not count(usage.get("total_tokens")):
        return None
    given = mapping(usage.get("input_tokens_details"))
    made = mapping(usage.get("output_tokens_details"))
    return Usage(
        input_tokens=count(usage.get("input_tokens")) or 0,
        output_tokens=count(usage.get("output_tokens")) or 0,
        cached_tokens=count(given.get("cached_tokens")) or 0,
        reasoning_tokens=count(made.get("reasoning_tokens")) or 0,
    )
