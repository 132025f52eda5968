"""What the server keeps of a file and of a batch, as written to disk."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from bulkrate.server.batch_states import BATCH_TABLE, BatchState

_WINDOW = re.compile(r"([1-9]\d{0,6})([dhms])")
_UNIT_S = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


class FileRecord(msgspec.Struct, kw_only=True):
    """A file: an upload, or the results of a batch. Times are Unix seconds."""

    id: str
    sequence: int
    filename: str
    purpose: str
    size_bytes: int
    created_at: int
    expires_at: int | None = None


class Problem(msgspec.Struct, kw_only=True):
    """Why a batch failed; `line` counts from 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class BatchRecord(msgspec.Struct, kw_only=True):
    """A batch. Counts and tokens are final once the state is; until then the answer log knows better."""

    id: str
    sequence: int
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    state: BatchState = BatchState.VALIDATING
    metadata: dict[str, str] | None = None
    model: str | None = None
    times: dict[str, int] = {}
    total: int = 0
    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    problems: list[Problem] = []
    output_file_id: str | None = None
    error_file_id: str | None = None
    output_life_s: int | None = None
    window_closed: bool = False

    @property
    def ended(self) -> bool:
        return self.state in BATCH_TABLE.final


def window_s(text: str) -> int | None:
    """The seconds of a completion window such as `24h`, `90m`, `30s`, `7d`; None when it is not one."""
    match = _WINDOW.fullmatch(text)
    return int(match[1]) * _UNIT_S[match[2]] if match else None


def encode(record: FileRecord | BatchRecord) -> bytes:
    """A record as JSON."""
    return msgspec.json.encode(record)


def decode_file(data: bytes) -> FileRecord:
    """Read a file's record. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=FileRecord)


def decode_batch(data: bytes) -> BatchRecord:
    """Read a batch's record. Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=BatchRecord)


def answer_error(status: int, message: str, code: str | None, kind: str, param: str | None) -> dict[str, Any]:
    """An error as it is kept in the answer log."""
    return {"status": status, "message": message, "code": code, "type": kind, "param": param}
