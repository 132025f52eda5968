"""A body in the provider's own words: rendered, counted, bounded, and sent as it is."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from bulkrate.core.request import fingerprint
from bulkrate.errors import JobError
from bulkrate.jobs.load import load_job_mapping
from bulkrate.jobs.template import RowTemplate
from bulkrate.pipeline.encode import Encoded, TemplateEncoder
from bulkrate.pipeline.setup import Setup
from bulkrate.providers.provider import Decoded

RAW: dict[str, Any] = {
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Is {{ text }} lost?"}]},
    ],
    "logprobs": True,
    "top_logprobs": 3,
}


def job(raw: dict[str, Any] = RAW, **request: Any) -> Any:
    fields = {"model": "openai/gpt-5-mini", "raw": raw, **request}
    return load_job_mapping({"name": "raw", "source": {"path": "rows.csv"}, "request": fields})


def encoded(raw: dict[str, Any] = RAW, row: dict[str, Any] | None = None, **request: Any) -> Encoded:
    found = Setup(job(raw, **request), {}).encoder.encode(row or {"text": 'a "parcel"'})
    assert isinstance(found, Encoded)
    return found


def test_the_body_is_what_was_written() -> None:
    wanted = orjson.loads(orjson.dumps(RAW).replace(b"{{ text }}", b'a \\"parcel\\"'))
    assert orjson.loads(encoded().body) == {"model": "gpt-5-mini", **wanted}


def test_every_text_is_counted_and_the_bytes_of_files_are_not() -> None:
    texts = ["developer", "Be brief.", "user", "text", 'Is a "parcel" lost?']
    assert encoded().texts == [("user", text) for text in texts]
    picture = "data:image/png;base64," + base64.b64encode(b"x" * 999).decode()
    parts = [{"image_url": {"url": picture}}, {"file": {"file_data": "{{ text }}"}}, {"text": "What?"}]
    assert encoded({"parts": parts}).texts == [("user", "What?")]


def test_the_cap_is_written_into_it() -> None:
    assert orjson.loads(encoded(max_output_tokens=99).body)["max_completion_tokens"] == 99
    assert orjson.loads(encoded({**RAW, "max_tokens": 7}, max_output_tokens=99).body)["max_tokens"] == 99


def test_what_is_asked_is_the_fingerprint() -> None:
    template = RowTemplate(job())
    values = template.render({"text": 'a "parcel"'})
    assert isinstance(values, list)
    assert encoded().fingerprint == fingerprint(template.request_for(values))
    assert encoded(max_output_tokens=9).fingerprint == encoded().fingerprint
    assert encoded({**RAW, "top_logprobs": 4}).fingerprint != encoded().fingerprint


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"raw": {}}, "request.raw: "),
        ({"raw": {**RAW, "model": "m"}}, "request.raw.model: is set by `request.model`"),
        ({"raw": {**RAW, "stream": True}}, "request.raw.stream: cannot be used in a batch"),
        ({"raw": {**RAW, "n": 3}}, "request.raw.n: would be paid and not read"),
        ({"prompt": "{{ text }}"}, "request.prompt: cannot stand beside `raw`"),
        ({"extra": {"a": 1}}, "request.extra: cannot stand beside `raw`"),
        ({"output": {"choice": ["a", "b"]}}, "request.output.choice: is asked for in the raw body itself"),
        ({"raw": {"prompt": "{{ text | nosuch }}"}}, "request.raw.prompt: "),
    ],
)
def test_what_cannot_go_with_it(request_: dict[str, Any], said: str) -> None:
    with pytest.raises(JobError, match=said.replace(".", r"\.")):
        job(**{"raw": RAW, **request_})


def test_a_provider_that_passes_nothing_through_says_so() -> None:
    class Foreign:
        def body(self, request: Any) -> dict[str, object]:
            return {}

        def decode(self, line: bytes, output: Any) -> Decoded | None:
            return None

    with pytest.raises(JobError, match="passes no bodies through"):
        TemplateEncoder(RowTemplate(job()), Foreign(), ())
