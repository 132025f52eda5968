"""One result line of a batch of Responses into an outcome, by way of the chat completion that says the same.

Never raises. Shapes: openai SDK 3.54.0 (`types/responses`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bulkrate.core.json_value import mapping
from bulkrate.core.outcome import ErrorClass
from bulkrate.providers.openai.result_line import lenient
from bulkrate.providers.openai.results import outcome_of
from bulkrate.providers.provider import Decoded
from bulkrate.providers.result_json import read, trusted

# Codes of a failed response that no second try cures (SDK 3.54.0, ResponseError).
_BAD = (
    *("empty_image_file", "image_file_not_found", "image_file_too_large", "image_parse_error"),
    *("image_too_large", "image_too_small", "invalid_base64_image", "invalid_image", "invalid_image_format"),
    *("invalid_image_mode", "invalid_image_url", "invalid_prompt", "unsupported_image_media_type"),
)
CODES: Final[Mapping[str, ErrorClass]] = {
    **dict.fromkeys(_BAD, ErrorClass.BAD_REQUEST),
    "bio_policy": ErrorClass.REFUSED,
    "image_content_policy_violation": ErrorClass.REFUSED,
    "misalignment_policy_violation": ErrorClass.REFUSED,
}
_FINISH: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}
_CALLS: Final = ("function_call", "custom_tool_call")


def decode_line(line: bytes, *, label: str | None = None) -> Decoded | None:
    """Read one line; None when not even its custom_id can be read. `label` names the property that wraps the
    answer of a choice."""
    fields = mapping(read(line))
    response = mapping(fields.get("response"))
    body = response.get("body")
    if isinstance(body, Mapping) and isinstance(body.get("output"), list):
        error = fields.get("error") or _failure(body)
        fields = {**fields, "response": {**response, "body": as_completion(body)}, "error": error}
    parsed = lenient(fields)
    return (
        None if parsed is None else Decoded(parsed.custom_id, trusted(outcome_of(parsed, label, CODES), line))
    )


def _failure(body: Mapping[str, Any]) -> object:
    """Why a response is no answer, although the call was one."""
    if body.get("error"):
        return body["error"]
    status = body.get("status", "completed")
    if status == "completed" or (status == "incomplete" and _reason(body) in _FINISH):
        return None
    return {"message": f"the response is {status}"}


def _reason(body: Mapping[str, Any]) -> str:
    return str(mapping(body.get("incomplete_details")).get("reason"))


def as_completion(body: Mapping[str, Any]) -> dict[str, Any]:
    """A response in the shape of a chat completion."""
    items = [item for item in body["output"] if isinstance(item, Mapping)]
    # What a model says on its way ("commentary") is no answer.
    said = [item for item in items if item.get("type") == "message" and item.get("phase") != "commentary"]
    contents = [item.get("content") for item in said]
    parts = [mapping(part) for content in contents if isinstance(content, list) for part in content]
    usage = mapping(body.get("usage"))
    message = {
        "content": _joined(parts, "output_text", "text"),
        "refusal": _joined(parts, "refusal", "refusal"),
        "tool_calls": [item for item in items if item.get("type") in _CALLS] or None,
    }
    return {
        "model": body.get("model"),
        "choices": [{"message": message, "finish_reason": _FINISH.get(_reason(body), "stop")}],
        "usage": {
            "prompt_tokens": usage.get("input_tokens"),
            "completion_tokens": usage.get("output_tokens"),
            "prompt_tokens_details": usage.get("input_tokens_details"),
            "completion_tokens_details": usage.get("output_tokens_details"),
        },
    }


def _joined(parts: list[Mapping[str, Any]], kind: str, name: str) -> str | None:
    texts = [part.get(name) for part in parts if part.get("type") == kind]
    return "".join(text for text in texts if isinstance(text, str)) if texts else None
