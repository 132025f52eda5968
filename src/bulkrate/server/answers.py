"""One answer as it stands in the answer log, and the response bodies and result lines made from it.

{"at": 1764000000, "text": "billing", "finish_reason": "stop",
 "input_tokens": 165, "cached_tokens": 111, "output_tokens": 3,
 "scores": {"billing": -1.2, "refund": -3.4}, "form": "label", "calibrate": false}
{"at": 1764000000, "embeddings": ["<base64>"], "encoding": "float",
 "input_tokens": 54, "cached_tokens": 0, "output_tokens": 0}
{"at": 1764000000, "error": {"status": 400, "message": ..., "code": ..., "type": ..., "param": ...}}
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import orjson

from bulkrate.server.api_error import ApiError, error_body
from bulkrate.server.calls import Call
from bulkrate.server.chat import write_label
from bulkrate.server.embed import EmbedCall, embedding_list

if TYPE_CHECKING:
    from bulkrate.server.engine import EngineAnswer

_UNRUN = {
    "batch_expired": "This request could not be executed before the completion window expired.",
    "batch_cancelled": "This request was not executed because the batch was cancelled.",
}


@dataclass(slots=True)
class Tally:
    """Rows and tokens of the answers on disk. `failed` are those with an error of their own."""

    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    @property
    def rows(self) -> int:
        return self.completed + self.failed

    def add(self, answer: Mapping[str, Any]) -> None:
        """Count one answer."""
        if "error" in answer:
            self.failed += 1
        else:
            self.completed += 1
            self.input_tokens += answer["input_tokens"]
            self.cached_tokens += answer["cached_tokens"]
            self.output_tokens += answer["output_tokens"]

    def copy(self) -> Tally:
        """The same numbers, apart."""
        return replace(self)


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a label was decided, told in the response: `batch` with the number of rows that shared the label
    set, or `none`, the highest raw score."""

    method: str
    rows: int = 1
    label: str | None = None


def from_engine(answer: EngineAnswer, call: Call, at: int) -> dict[str, Any]:
    """An engine's answer for the log."""
    if answer.error is not None:
        error = ApiError(500, answer.error, code="server_error", kind="server_error")
        return from_error(error, at)
    if isinstance(call, EmbedCall):
        return {
            "at": at,
            "embeddings": [base64.b64encode(packed).decode() for packed in answer.embeddings],
            "encoding": call.encoding,
            "input_tokens": answer.input_tokens,
            "cached_tokens": answer.cached_tokens,
            "output_tokens": answer.output_tokens,
        }
    entry: dict[str, Any] = {
        "at": at,
        "text": write_label(answer.text, call.form) if call.choice else answer.text,
        "finish_reason": answer.finish_reason,
        "input_tokens": answer.input_tokens,
        "cached_tokens": answer.cached_tokens,
        "output_tokens": answer.output_tokens,
    }
    if call.choice and answer.scores is not None:
        entry["scores"] = dict(answer.scores)
        if call.form is not None:
            entry["form"] = call.form
        if not call.calibrate:
            entry["calibrate"] = False
    return entry


def from_error(error: ApiError, at: int) -> dict[str, Any]:
    """A refusal or an engine's failure for the log."""
    return {
        "at": at,
        "error": {
            "status": error.status,
            "message": error.message,
            "code": error.code,
            "type": error.kind,
            "param": error.param,
        },
    }


def completion(
    answer: Mapping[str, Any], *, answer_id: str, model: str, calibration: Calibration | None = None
) -> dict[str, Any]:
    """The body of a `chat.completion` (shape of SDK openai 3.54), or of a list of embeddings; `bulkrate` is
    our addition."""
    if "embeddings" in answer:
        return embedding_list(answer, model)
    text = answer["text"]
    if calibration is not None and calibration.label is not None:
        text = write_label(calibration.label, answer.get("form"))
    body: dict[str, Any] = {
        "id": f"chatcmpl-{answer_id}",
        "object": "chat.completion",
        "created": answer["at"],
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, "refusal": None, "annotations": []},
                "logprobs": None,
                "finish_reason": answer["finish_reason"],
            }
        ],
        "usage": {
            "prompt_tokens": answer["input_tokens"],
            "completion_tokens": answer["output_tokens"],
            "total_tokens": answer["input_tokens"] + answer["output_tokens"],
            "prompt_tokens_details": {"cached_tokens": answer["cached_tokens"], "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
        "service_tier": "default",
        "system_fingerprint": None,
    }
    if calibration is not None:
        body["bulkrate"] = {"calibration": calibration.method, "rows": calibration.rows}
    return body


def result_line(
    batch_id: str, custom_id: str, model: str, answer: Mapping[str, Any], calibration: Calibration | None
) -> bytes:
    """The output or error line of a row that ran or was refused. The same answer gives the same line."""
    answer_id = _identity(batch_id, custom_id)
    error = answer.get("error")
    if error is None:
        status = 200
        body = completion(answer, answer_id=answer_id, model=model, calibration=calibration)
    else:
        status = error["status"]
        body = error_body(error["message"], kind=error["type"], param=error["param"], code=error["code"])
    response = {"status_code": status, "request_id": f"req_{answer_id}", "body": body}
    return _line(answer_id, custom_id, response, None)


def unrun_line(batch_id: str, custom_id: str, code: str) -> bytes:
    """The error line of a row whose turn never came: `batch_expired` or `batch_cancelled`."""
    return _line(_identity(batch_id, custom_id), custom_id, None, {"code": code, "message": _UNRUN[code]})


def _line(
    answer_id: str, custom_id: str, response: dict[str, Any] | None, error: dict[str, str] | None
) -> bytes:
    written = {"id": f"batch_req_{answer_id}", "custom_id": custom_id, "response": response, "error": error}
    return orjson.dumps(written, option=orjson.OPT_APPEND_NEWLINE)


def _identity(batch_id: str, custom_id: str) -> str:
    return blake2b(f"{batch_id}\0{custom_id}".encode(), digest_size=16).hexdigest()
