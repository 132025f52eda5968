"""Reading embedding requests, writing their answers, and the engine of word vectors."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import orjson
import pytest

from bulkrate.core.embedding import pack
from bulkrate.server.answers import completion, from_engine, result_line
from bulkrate.server.api_error import ApiError
from bulkrate.server.embed import EmbedCall, read_embed
from bulkrate.server.engine import EngineAnswer, EngineRequest
from bulkrate.server.engines.static import StaticEngine, read_safetensors
from bulkrate.tokens import counter_for


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "input": "text", **fields}


def test_a_body_is_read() -> None:
    assert read_embed(body()) == EmbedCall("m", ("text",))
    call = read_embed(body(input=["a", "b"], dimensions=8, encoding_format="base64", user="u"))
    assert call == EmbedCall("m", ("a", "b"), 8, "base64")


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        ({"input": None}, "input", "missing_required_parameter"),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", ""]}, "input", "invalid_value"),
        ({"input": [1, 2]}, "input", "unsupported_parameter"),
        ({"input": [[1, 2]]}, "input", "unsupported_parameter"),
        ({"input": ["a"] * 2_049}, "input", "invalid_value"),
        ({"input": {"text": "a"}}, "input", "invalid_value"),
        ({"model": None}, "model", "missing_required_parameter"),
        ({"model": 7}, "model", "invalid_value"),
        ({"dimensions": 0}, "dimensions", "invalid_value"),
        ({"dimensions": True}, "dimensions", "invalid_value"),
        ({"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ({"messages": []}, "messages", "unknown_parameter"),
    ],
)
def test_what_cannot_be_read_is_named(fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_embed(body(**fields))
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_an_answer_is_written_as_it_was_asked_for(encoding: str) -> None:
    packed = pack([0.5, -1.0])
    answer = EngineAnswer("id", "", "stop", 3, 0, 0, embeddings=(packed, packed))
    entry = from_engine(answer, EmbedCall("m", ("a", "b"), None, encoding), 1000)
    written = completion(orjson.loads(orjson.dumps(entry)), answer_id="x", model="m")
    vector = [0.5, -1.0] if encoding == "float" else base64.b64encode(packed).decode()
    assert [item["embedding"] for item in written["data"]] == [vector, vector]
    assert written["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    line = orjson.loads(result_line("b", "c", "m", entry, None))
    assert line["response"]["body"] == written


# -- the engine ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> StaticEngine:
    return StaticEngine()


def test_the_engine_embeds_by_priority_and_forgets_what_was_cancelled(engine: StaticEngine) -> None:
    for name, priority in (("later", 0), ("gone", 0), ("first", 1)):
        engine.submit(EngineRequest(name, inputs=(name, "and more"), priority=priority))
    engine.cancel("gone")
    answers = engine.step()
    assert [answer.id for answer in answers] == ["first", "later"]
    assert [len(packed) for packed in answers[0].embeddings] == [1_024, 1_024]
    assert answers[0].embeddings[1] == answers[1].embeddings[1]
    assert engine.step() == []


def test_what_can_never_be_answered(engine: StaticEngine) -> None:
    assert engine.check(EngineRequest("a", inputs=("x",), dimensions=257)) is not None
    assert "context window" in (engine.check(EngineRequest("a", inputs=("x " * 40_000,))) or "")
    assert engine.check(EngineRequest("a", inputs=("x" * 40_000,), dimensions=256)) is None


@pytest.mark.parametrize("text", ["How much does she earn?", " ", "\x00", "日本語 🎉", "a  b\n\nc"])
def test_the_counter_counts_what_the_engine_does(engine: StaticEngine, text: str) -> None:
    engine.submit(EngineRequest("a", inputs=(text,)))
    (answer,) = engine.step()
    counter = counter_for("local", "wordllama-256")
    assert counter.method == "exact"
    assert counter.count_texts([text]) == [answer.input_tokens]


@pytest.mark.parametrize(("kind", "size"), [("F16", 2), ("F32", 4)])
def test_a_file_of_one_tensor(tmp_path: Path, kind: str, size: int) -> None:
    np = pytest.importorskip("numpy")
    numbers = np.array([[1, 2], [3, 4]], f"<f{size}").tobytes()
    tensor = {"dtype": kind, "shape": [2, 2], "data_offsets": [0, len(numbers)]}
    header = orjson.dumps({"__metadata__": {"a": "b"}, "w": tensor})
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + numbers)
    assert read_safetensors(path).tolist() == [[1, 2], [3, 4]]
