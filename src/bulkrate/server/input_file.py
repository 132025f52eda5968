"""Reading a batch's input file: is it a batch, and where does each line begin?

Codes are OpenAI's, as documented by Azure for the same API and seen in public issues (2026-11). A line
whose body the engine will not have is no reason to fail the batch: that row is answered 400 later.
"""

from __future__ import annotations

from array import array
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bulkrate.server.records import Problem

MAX_PROBLEMS = 100
_READ_BYTES = 1 << 20


@dataclass(slots=True)
class Scan:
    """A file read once. `offsets` has one entry per line and one for the end; `waiting` are the row numbers
    (from 0) whose custom_id has no answer yet. Meaningful only without `problems`."""

    offsets: array[int] = field(default_factory=lambda: array("Q", [0]))
    waiting: array[int] = field(default_factory=lambda: array("Q"))
    problems: list[Problem] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return len(self.offsets) - 1


def scan(
    path: Path, *, endpoint: str, model: str, max_rows: int, answered: Container[str] = frozenset()
) -> Scan:
    """Validate a whole input file in one pass; memory is its custom_ids and 16 bytes per row."""
    found, seen, first_model = Scan(), set[str](), ""
    with path.open("rb", buffering=_READ_BYTES) as file:
        for number, line in enumerate(file, 1):
            if number > max_rows:
                message = f"The batch contains more than the maximum of {max_rows} requests."
                found.problems.append(Problem(code="too_many_tasks", message=message))
                break
            if len(found.problems) >= MAX_PROBLEMS:
                break
            found.offsets.append(found.offsets[-1] + len(line))
            row = _read(line, number, endpoint)
            if isinstance(row, Problem):
                found.problems.append(row)
                continue
            custom_id, row_model = row
            problem = None
            if custom_id in seen:
                problem = ("duplicate_custom_id", "This custom_id is used by an earlier line.", "custom_id")
            elif first_model and row_model != first_model:
                problem = ("model_mismatch", "All requests of a batch must name one model.", "body.model")
            elif not first_model and row_model != model:
                message = f"This server does not have that model; it serves '{model}'."
                problem = ("model_not_found", message, "body.model")
            if problem is not None:
                code, message, param = problem
                found.problems.append(Problem(code=code, message=message, line=number, param=param))
            first_model = first_model or row_model
            seen.add(custom_id)
            if custom_id not in answered:
                found.waiting.append(number - 1)
    if found.rows == 0:
        found.problems.append(Problem(code="empty_file", message="The input file is empty."))
    return found


def read_row(line: bytes) -> tuple[str, Mapping[str, Any]]:
    """The custom_id and the body of a line that `scan` accepted."""
    row = orjson.loads(line)
    return row["custom_id"], row["body"]


def _read(line: bytes, number: int, endpoint: str) -> tuple[str, str] | Problem:
    """The custom_id and model of a well-formed line, or what is wrong with it."""
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:  # also a byte order mark, broken UTF-8 and a blank line
        message = "This line is not parseable as valid JSON."
        return Problem(code="invalid_json_line", message=message, line=number)
    if not isinstance(row, dict):
        return Problem(code="invalid_request", message="Each line must be a JSON object.", line=number)
    for name, kind in (("custom_id", str), ("method", str), ("url", str), ("body", dict)):
        if name not in row:
            return _absent(name, number)
        if not isinstance(row[name], kind):
            message = f"Invalid type for '{name}'."
            return Problem(code="invalid_request", message=message, line=number, param=name)
    if row["method"] != "POST":
        message = "Invalid 'method': must be POST."
        return Problem(code="invalid_request", message=message, line=number, param="method")
    if row["url"] != endpoint:
        message = f"The URL does not match the endpoint '{endpoint}' of the batch."
        return Problem(code="url_mismatch", message=message, line=number, param="url")
    if not isinstance(row["body"].get("model"), str):
        return _absent("body.model", number)
    if row["body"].get("stream"):
        message = "Streaming is not supported in a batch."
        return Problem(code="invalid_request", message=message, line=number, param="body.stream")
    return row["custom_id"], row["body"]["model"]


def _absent(name: str, number: int) -> Problem:
    message = f"Missing required parameter: '{name}'."
    return Problem(code="missing_required_parameter", message=message, line=number, param=name)
