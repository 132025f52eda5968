"""Our request bodies against what the official SDK itself makes of the same request, and its own types."""

from __future__ import annotations

import re
from typing import Any

import orjson
import pytest
from google import genai
from google.genai import batches, types

from bulkrate.core.request import (
    Choice,
    DocumentPart,
    FreeText,
    ImagePart,
    JsonSchema,
    Message,
    OpaquePart,
    Request,
    TextPart,
    Tool,
    hole,
)
from bulkrate.errors import JobError
from bulkrate.providers.google.provider import provider
from bulkrate.providers.google.wire import GoogleWire, create_body, model_path
from bulkrate.providers.provider import WIDEST_TAG, NeedsValues

MODEL = "gemini-2.5-flash"
WIRE = provider.wire(MODEL)
USER = Message("user", "hello")
PARAMETERS = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
client = genai.Client(api_key="x")


def sdk_body(contents: Any, **config: Any) -> Any:
    """What the SDK writes for one request of a batch."""
    inline = types.InlinedRequest(contents=contents, config=types.GenerateContentConfig(**config))
    return plain_json(batches._InlinedRequest_to_mldev(client._api_client, inline))["request"]


def plain_json(written: Any) -> Any:
    """The JSON the SDK sends, its names in one spelling: it mixes two, and the service reads both."""
    return _camel(genai._common.encode_unserializable_types(genai._common.convert_to_dict(written)))


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            re.sub("_([a-z])", lambda found: found[1].upper(), name): _camel(item)
            for name, item in value.items()
            if item is not None
        }
    return [_camel(item) for item in value] if isinstance(value, list) else value


def turn(role: str, *parts: Any) -> types.Content:
    return types.Content(
        role=role, parts=[types.Part(text=part) if isinstance(part, str) else part for part in parts]
    )


PNG = types.Part(inline_data=types.Blob(mime_type="image/png", data=b"\x00"))
CASES: dict[str, tuple[Request, Any]] = {
    "plain": (Request(MODEL, (USER,)), sdk_body([turn("user", "hello")])),
    "sampling": (
        Request(
            MODEL,
            (Message("system", "be brief"), USER, Message("assistant", "yes"), USER),
            max_output_tokens=9,
            temperature=0.5,
            top_p=0.25,
            seed=7,
            stop=("END",),
        ),
        sdk_body(
            [turn("user", "hello"), turn("model", "yes"), turn("user", "hello")],
            system_instruction=types.Content(parts=[types.Part(text="be brief")]),
            max_output_tokens=9,
            temperature=0.5,
            top_p=0.25,
            seed=7,
            stop_sequences=["END"],
        ),
    ),
    "parts": (
        Request(
            MODEL,
            (
                Message(
                    "user",
                    (
                        TextPart("look"),
                        ImagePart("data:image/png;base64,AA=="),
                        ImagePart("https://x/y.png?z=1"),
                        DocumentPart("data:text/plain,%00"),
                        OpaquePart({"fileData": {"fileUri": "files/abc"}}),
                    ),
                ),
            ),
        ),
        sdk_body(
            [
                turn(
                    "user",
                    "look",
                    PNG,
                    types.Part(
                        file_data=types.FileData(mime_type="image/png", file_uri="https://x/y.png?z=1")
                    ),
                    types.Part(inline_data=types.Blob(mime_type="text/plain", data=b"\x00")),
                    types.Part(file_data=types.FileData(file_uri="files/abc")),
                )
            ]
        ),
    ),
    "tools": (
        Request(MODEL, (USER,), tools=(Tool("f", "counts", PARAMETERS), Tool("g"))),
        sdk_body(
            [turn("user", "hello")],
            tools=[
                types.Tool(
                    function_declarations=[
                        types.FunctionDeclaration(
                            name="f", description="counts", parameters_json_schema=PARAMETERS
                        ),
                        types.FunctionDeclaration(name="g"),
                    ]
                )
            ],
        ),
    ),
    "choice": (
        Request(MODEL, (USER,), output=Choice(("a", "b"))),
        sdk_body(
            [turn("user", "hello")],
            response_mime_type="application/json",
            response_schema=types.Schema(type=types.Type.STRING, format="enum", enum=["a", "b"]),
        ),
    ),
    "schema": (
        Request(MODEL, (USER,), output=JsonSchema(PARAMETERS)),
        sdk_body(
            [turn("user", "hello")],
            response_mime_type="application/json",
            response_schema=types.Schema(
                type=types.Type.OBJECT,
                properties={"n": types.Schema(type=types.Type.INTEGER)},
                required=["n"],
                property_ordering=["n"],
            ),
        ),
    ),
    "a schema that Gemini's form cannot say": (
        Request(MODEL, (USER,), output=JsonSchema({"type": "object"})),
        sdk_body(
            [turn("user", "hello")],
            response_mime_type="application/json",
            response_json_schema={"type": "object"},
        ),
    ),
    "thinking": (
        Request(MODEL, (USER,), reasoning="low"),
        sdk_body([turn("user", "hello")], thinking_config=types.ThinkingConfig(thinking_budget=1_024)),
    ),
    "beside and inside": (
        Request(
            MODEL,
            (USER,),
            temperature=0.5,
            extra={
                "generationConfig": {"topK": 3.0, "temperature": 1.0},
                "safetySettings": [
                    {"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"},
                ],
                "cachedContent": "cachedContents/x",
            },
        ),
        sdk_body(
            [turn("user", "hello")],
            top_k=3.0,
            temperature=1.0,
            safety_settings=[
                types.SafetySetting(
                    category=types.HarmCategory.HARM_CATEGORY_HARASSMENT,
                    threshold=types.HarmBlockThreshold.BLOCK_NONE,
                )
            ],
            cached_content="cachedContents/x",
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_bodies_are_what_the_sdk_sends(name: str) -> None:
    request, theirs = CASES[name]
    ours = orjson.loads(orjson.dumps(WIRE.body(request)))
    theirs.setdefault("generationConfig", {})  # the SDK writes an empty one
    ours.setdefault("generationConfig", {})
    assert ours == theirs
    types.GenerationConfig.model_validate(ours["generationConfig"])
    for content in ours["contents"]:
        types.Content.model_validate(content)


def test_later_models_take_a_level() -> None:
    wire = provider.wire("gemini-3.8-flash")
    body: Any = wire.body(Request("gemini-3.8-flash", (USER,), reasoning="low"))
    assert (
        types.ThinkingConfig.model_validate(body["generationConfig"]["thinkingConfig"]).thinking_level
        == "LOW"
    )
    body = wire.body(Request("gemini-3.8-flash", (USER,), reasoning="2048"))
    assert body["generationConfig"]["thinkingConfig"] == {"thinkingBudget": 2_048}


def test_embeddings_are_what_the_sdk_sends() -> None:
    wire = provider.wire("gemini-embedding-001", "embed")
    request = Request(
        "gemini-embedding-001", kind="embed", inputs=("a",), dimensions=8, extra={"taskType": "CLUSTERING"}
    )
    source = types.EmbeddingsBatchJobSource(
        inlined_requests=types.EmbedContentBatch(
            contents=[types.Content(parts=[types.Part(text="a")])],
            config=types.EmbedContentConfig(output_dimensionality=8, task_type="CLUSTERING"),
        )
    )
    theirs = batches._EmbeddingsBatchJobSource_to_mldev(client._api_client, source)
    (element,) = plain_json(theirs)["requests"]["requests"]
    assert wire.body(request) == element["request"]


@pytest.mark.parametrize("kind", ["chat", "embed"])
def test_create_is_what_the_sdk_sends(kind: str) -> None:
    config = {"display_name": "bulkrate-x"}
    if kind == "chat":
        asked = types._CreateBatchJobParameters(model=MODEL, src="files/in", config=config)
        theirs = plain_json(batches._CreateBatchJobParameters_to_mldev(client._api_client, asked))
    else:
        source = types.EmbeddingsBatchJobSource(file_name="files/in")
        embed = types._CreateEmbeddingsBatchJobParameters(model=MODEL, src=source, config=config)
        theirs = plain_json(batches._CreateEmbeddingsBatchJobParameters_to_mldev(client._api_client, embed))
    assert theirs["batch"] == create_body("bulkrate-x", "files/in")["batch"]
    assert theirs["Url"]["model"] == model_path(MODEL)


def test_a_line_is_a_key_and_a_request() -> None:
    before, between, after = WIRE.envelope(WIDEST_TAG)
    line = (
        before + b"0123456789abcdefghij" + between + orjson.dumps(WIRE.body(Request(MODEL, (USER,)))) + after
    )
    assert line.endswith(b"}\n")
    assert orjson.loads(line) == {
        "key": "0123456789abcdefghij",
        "request": {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]},
    }


def tool_call() -> Message:
    return Message("assistant", None, {"tool_calls": []})


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        (Request("gemini-2.5-pro", (USER,)), "gemini-2.5-pro"),
        (Request(MODEL, (USER, Message("system", "s"))), "messages[1]"),
        (Request(MODEL, (USER, tool_call())), "messages[1].tool_calls"),
        (Request(MODEL, (Message("tool", "x"),)), "role tool"),
        (Request(MODEL, (Message("user", None),)), "messages[0].content"),
        (Request(MODEL, (Message("user", (OpaquePart({"type": "input_audio"}),)),)), "input_audio"),
        (Request(MODEL, (Message("user", (ImagePart("data:image/png"),)),)), "messages[0].content[0]"),
        (Request(MODEL, (USER,), extra={"logit_bias": {}}), "extra.logit_bias"),
        (Request(MODEL, (USER,), extra={"generationConfig": {"candidateCount": 2}}), "candidateCount"),
        (Request(MODEL, (USER,), extra={"generationConfig": {"safetySettings": []}}), "safetySettings"),
        (Request(MODEL, (USER,), reasoning="deeply"), "reasoning"),
        (Request(MODEL, kind="embed", inputs=("a",)), "embed"),
    ],
)
def test_what_gemini_cannot_carry_is_an_error_that_names_it(request_: Request, named: str) -> None:
    with pytest.raises(JobError) as caught:
        WIRE.body(request_)
    assert named in caught.value.message


def test_two_texts_in_one_embedding_request() -> None:
    wire = GoogleWire("e", "embed")
    with pytest.raises(JobError, match="one text per request"):
        wire.body(Request("e", kind="embed", inputs=("a", "b")))


def test_a_url_that_differs_from_row_to_row_makes_bodies_row_by_row() -> None:
    with pytest.raises(NeedsValues):
        WIRE.body(Request(MODEL, (Message("user", (ImagePart(hole(0)),)),)))
    body: Any = WIRE.body(Request(MODEL, (Message("user", hole(0)),)))
    assert body["contents"][0]["parts"] == [{"text": hole(0)}]


def test_what_is_left_out_is_said() -> None:
    parts = (ImagePart("https://x", "low"), DocumentPart("https://x", "a.pdf"))
    request = Request(MODEL, (Message("user", parts),), tools=(Tool("f", strict=True),))
    assert WIRE.dropped(request) == ("`detail` of images", "`name` of documents", "`strict` of tools")
    assert WIRE.dropped(Request(MODEL, (USER,))) == ()
    unique = {"type": "array", "items": {"type": "string"}, "uniqueItems": True}
    assert "uniqueItems" in WIRE.dropped(Request(MODEL, (USER,), output=JsonSchema(unique)))[0]
    assert "responseJsonSchema" in WIRE.dropped(Request(MODEL, (USER,), output=JsonSchema({})))[0]


def test_a_larger_cap() -> None:
    assert orjson.loads(WIRE.with_cap(b'{"contents":[]}', 9)) == {
        "contents": [],
        "generationConfig": {"maxOutputTokens": 9},
    }
    capped = orjson.loads(WIRE.with_cap(b'{"generationConfig":{"maxOutputTokens":1,"seed":3}}', 9))
    assert capped["generationConfig"] == {"maxOutputTokens": 9, "seed": 3}


def test_a_cap_is_derived_only_where_it_does_no_harm() -> None:
    assert provider.wire("gemini-2.0-flash").derived_cap("gemini-2.0-flash", Choice(("a",)), 3) == 12
    assert provider.wire("models/gemini-3.8-flash").derived_cap("", Choice(("a",)), 3) is None
    assert provider.wire("gemini-2.0-flash").derived_cap("", FreeText(), None) is None
