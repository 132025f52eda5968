"""One line of a result file into an outcome. Never raises: a line that cannot be read is the row's problem.

The line is OpenAI's, and so is its reader. What differs: two further words for how an answer ended, and
errors whose message stands in the body itself.
"""

from __future__ import annotations

import re

from bulkrate.core.json_value import mapping
from bulkrate.core.outcome import ErrorClass, Outcome
from bulkrate.providers.mistral.failures import code_and_message
from bulkrate.providers.openai.results import decode_line as decode_openai_line
from bulkrate.providers.provider import Decoded
from bulkrate.providers.result_json import read

# How an answer ends beside OpenAI's words (SDK 3.7.0, `chatcompletionchoice.py`).
_ENDINGS = {
    "model_length": (ErrorClass.TOO_LONG, "prompt and answer are longer than the model's context"),
    "error": (ErrorClass.TRANSIENT, "the answer ended in an error"),
}
# "Prompt contains 65673 tokens …, too large for model with 32768 maximum context length"
_TOO_LONG = re.compile("maximum context length|too large for model")


def decode_line(line: bytes, *, label: str | None = None) -> Decoded | None:
    """Read one line; None when not even its custom_id can be read."""
    decoded = decode_openai_line(line, label=label)
    if decoded is None:
        return None
    outcome = decoded.outcome
    if outcome.finish_reason in _ENDINGS:
        error, reason = _ENDINGS[outcome.finish_reason]
        outcome = _failed(outcome, error, reason)
    elif not outcome.succeeded and outcome.finish_reason is None:
        outcome = _explained(outcome, line)
    return Decoded(decoded.custom_id, outcome)


def _explained(outcome: Outcome, line: bytes) -> Outcome:
    """The outcome with the reason that Mistral gives, if it gives one."""
    fields = mapping(read(line))
    response = mapping(fields.get("response"))
    status, body = response.get("status_code"), response.get("body")
    if isinstance(status, int) and 200 <= status <= 299:
        body = None
    code, message = code_and_message(fields.get("error") or body)
    if not message or outcome.error is None:
        return outcome
    said = ": ".join(part for part in (code, message) if part)
    error = ErrorClass.TOO_LONG if _TOO_LONG.search(message) else outcome.error
    return _failed(
        outcome, error, f"{status} {said}" if isinstance(status, int) and body is not None else said
    )


def _failed(outcome: Outcome, error: ErrorClass, reason: str) -> Outcome:
    return Outcome(error, reason, outcome.text, outcome.finish_reason, outcome.model, outcome.usage)
