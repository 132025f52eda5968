"""The local engine with the real model. Slow to load, so one engine serves the module."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openvino_genai")

import numpy as np
import openvino

from bulkrate.server.engine import Engine, EngineAnswer, EngineRequest
from bulkrate.server.engines import weights
from bulkrate.server.engines.chat import completion, render
from bulkrate.server.engines.labels import LabelScorer
from bulkrate.server.engines.openvino import OpenVINOEngine
from bulkrate.server.engines.paged import PASS_TOKENS, PagedModel
from bulkrate.server.engines.scoring import LabelTree, log_softmax

try:
    weights.gguf_path()
except weights.WeightsMissing as missing:
    pytest.skip(str(missing), allow_module_level=True)

QUEUES = ("delivery", "returns", "payment")
# One begins another, and several share one or two tokens.
BANKING = ("card", "card_arrival", "card_not_working", "card_not_accepted", "cash", "refund_not_showing_up")
SHOTS: tuple[dict[str, str], ...] = (
    {"role": "user", "content": "My parcel is a week late."},
    {"role": "assistant", "content": "delivery"},
    {"role": "user", "content": "How do I send back a jacket?"},
    {"role": "assistant", "content": "returns"},
    {"role": "user", "content": "I was charged twice."},
    {"role": "assistant", "content": "payment"},
)


def request(name: str, text: str, *, shots: bool = False, **more: Any) -> EngineRequest:
    return EngineRequest(name, (*(SHOTS if shots else ()), {"role": "user", "content": text}), **more)


def drain(engine: Engine, requests: Sequence[EngineRequest]) -> dict[str, EngineAnswer]:
    for each in requests:
        engine.submit(each)
    answers: dict[str, EngineAnswer] = {}
    for _ in range(2000):
        answers |= {answer.id: answer for answer in engine.step()}
        if len(answers) == len(requests):
            return answers
    raise AssertionError(f"no answer for {sorted({r.id for r in requests} - set(answers))}")


def drain_one(engine: Engine) -> EngineAnswer:
    for _ in range(2000):
        if answers := engine.step():
            (answer,) = answers
            return answer
    raise AssertionError("no answer")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.ir_directory(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module")
def engine(directory: Path) -> Iterator[OpenVINOEngine]:
    engine = OpenVINOEngine(cache_dir=directory.parent)
    yield engine
    engine.close()


def test_the_conversion_leaves_only_the_finished_directory(directory: Path) -> None:
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]
    assert (directory / "openvino_model.xml").is_file()
    assert not (directory / "model.gguf").exists()


def test_choices_come_from_the_set_and_share_their_prefix(engine: OpenVINOEngine) -> None:
    texts = ["Where is my box?", "I want my money back for the shoes.", "You billed me two times."] * 8
    answers = drain(
        engine, [request(str(n), text, shots=True, choice=QUEUES) for n, text in enumerate(texts)]
    )

    assert {answer.text for answer in answers.values()} <= set(QUEUES)
    for answer in answers.values():
        assert answer.error is None
        assert answer.finish_reason == "stop"
        assert answer.scores is not None
        assert list(answer.scores) == list(QUEUES)
        assert answer.scores[answer.text] == max(answer.scores.values())
        assert math.isclose(sum(map(math.exp, answer.scores.values())), 1.0, rel_tol=1e-6)
        assert answer.output_tokens == 1
        assert answer.cached_tokens < answer.input_tokens
    # The prefix is computed by one row and by no other.
    assert sum(answer.cached_tokens == 0 for answer in answers.values()) == 1
    assert answers["1"].cached_tokens > 30
    # Equal prompts score alike, whatever they were batched with.
    assert answers["0"].scores == pytest.approx(answers["21"].scores, abs=0.01)


def test_batched_scores_equal_plain_forward_passes(directory: Path, engine: OpenVINOEngine) -> None:
    """Prefix reuse, packing and the token tree change nothing but rounding."""
    texts = ["Where's my refund??", "card"]
    prompts = [engine._encode(render((*SHOTS, {"role": "user", "content": t}), BANKING)) for t in texts]
    labels = [tuple(engine._encode(completion(label)).tolist()) for label in BANKING]
    scorer = LabelScorer(PagedModel(directory, block_count=64, full_precision=True))
    tree = LabelTree.of(labels)
    plan = scorer.plan(prompts, tree)
    assert plan.members == (0, 1)
    batched = [row.scores for row in scorer.score(prompts, tree, plan.prefix_tokens)]
    again = [row.scores for row in scorer.score(prompts[::-1], tree, plan.prefix_tokens)][::-1]

    plain = plain_scores(directory, prompts, labels)
    assert np.abs(np.array(batched) - plain).max() < 0.02
    assert np.abs(np.array(again) - plain).max() < 0.02
    assert (np.array(batched).argmax(axis=1) == plain.argmax(axis=1)).all()


def plain_scores(directory: Path, prompts: Sequence[Any], labels: Sequence[tuple[int, ...]]) -> Any:
    """Each label after each prompt through the model as exported: no cache, no batch, no tree."""
    model = openvino.Core().compile_model(
        str(directory / "openvino_model.xml"),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "f32",
            "KV_CACHE_PRECISION": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        },
    )
    infer = model.create_infer_request()
    scores = np.zeros((len(prompts), len(labels)))
    for row, prompt in enumerate(prompts):
        for column, label in enumerate(labels):
            tokens = np.concatenate([prompt, label])[None, :]
            infer.reset_state()
            logits = infer.infer(
                {
                    "input_ids": tokens,
                    "attention_mask": np.ones_like(tokens),
                    "position_ids": np.arange(tokens.shape[1])[None, :],
                    "beam_idx": np.zeros(1, np.int32),
                }
            )[0][0]
            for depth, token in enumerate(label):
                possible = sorted({other[depth] for other in labels if other[:depth] == label[:depth]})
                at = log_softmax(logits[len(prompt) - 1 + depth, possible])
                scores[row, column] += at[possible.index(token)]
    return scores


def test_a_lone_prompt_serves_the_next_one_that_begins_like_it(engine: OpenVINOEngine) -> None:
    shots = ({"role": "system", "content": "Reviews of films, sorted by mood. " * 4}, *SHOTS)
    first, second = (
        EngineRequest(name, (*shots, {"role": "user", "content": text}), choice=("good", "bad"))
        for name, text in (("first", "I laughed and cried."), ("second", "Dull."))
    )
    drain(engine, [first])
    answer = drain(engine, [second])["second"]
    assert answer.input_tokens - 16 < answer.cached_tokens < answer.input_tokens


def test_several_prefixes_are_remembered_and_the_oldest_forgotten(engine: OpenVINOEngine) -> None:
    def of_shop(shop: int, turn: str) -> list[EngineRequest]:
        system = {"role": "system", "content": f"{shop} {shop} is the number of this shop. " * 4}
        users = ({"role": "user", "content": text} for text in ("Late.", "Broken.", "Charged twice."))
        return [
            EngineRequest(f"{turn}-{shop}-{n}", (system, user), choice=QUEUES) for n, user in enumerate(users)
        ]

    first = drain(engine, [each for shop in range(10) for each in of_shop(shop, "first")])
    second = drain(engine, [each for shop in (9, 5, 0) for each in of_shop(shop, f"second-{shop}")])
    assert second["second-9-9-0"].cached_tokens > 30
    assert second["second-5-5-0"].cached_tokens > 30
    assert second["second-0-0-0"].cached_tokens < 10  # eight are remembered
    for shop in (9, 5, 0):
        assert second[f"second-{shop}-{shop}-1"].scores == pytest.approx(
            first[f"first-{shop}-1"].scores, abs=0.01
        )


def test_a_long_prompt_is_read_over_several_steps(engine: OpenVINOEngine) -> None:
    engine.submit(request("long", "Once more. " * 450, choice=QUEUES))
    assert engine.step() == []
    assert set(drain(engine, [request("now", "Hi", choice=QUEUES, priority=1)])) == {"now"}
    answer = drain_one(engine)
    assert answer.id == "long"
    assert answer.input_tokens > PASS_TOKENS
    assert answer.cached_tokens == 0  # read in pieces, but all of it for itself


def test_text_json_and_a_bad_schema_together(engine: OpenVINOEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    }
    answers = drain(
        engine,
        [
            request("text", "What is the capital of France?", max_tokens=10),
            request("short", "Tell me a long story.", max_tokens=5),
            request("stop", "What is the capital of France?", max_tokens=10, stop=("Paris",)),
            request("json", "Name a city as JSON.", max_tokens=20, json_schema=schema),
            request("bad", "Anything.", max_tokens=10, json_schema={"type": "nonsense"}),
            request("choice", "Paris is in", choice=("France", "Italy")),
        ],
    )
    assert "Paris" in answers["text"].text
    assert (answers["short"].finish_reason, answers["short"].output_tokens) == ("length", 5)
    assert "Paris" not in answers["stop"].text
    assert answers["stop"].finish_reason == "stop"
    assert answers["json"].text.lstrip().startswith("{")
    assert answers["bad"].error is not None
    assert "schema" in answers["bad"].error
    assert answers["bad"].text == ""
    assert answers["choice"].text in ("France", "Italy")
    assert all(answer.error is None for name, answer in answers.items() if name != "bad")


def test_higher_priority_goes_first_and_cancelled_work_is_gone(engine: OpenVINOEngine) -> None:
    for n in range(40):
        engine.submit(request(f"batch-{n}", f"Ticket {n}: where is it?", choice=QUEUES))
    engine.cancel("batch-39")
    engine.submit(request("now", "Hello?", choice=QUEUES, priority=1))
    assert [answer.id for answer in engine.step()] == ["now"]
    seen = {answer.id for _ in range(20) for answer in engine.step()}
    assert seen == {f"batch-{n}" for n in range(39)}
    assert engine.step() == []


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (request("a", "word " * 9000, choice=("a", "b")), "8192"),
        (request("b", "Hello", max_tokens=9000), "8192"),
        (request("c", "Hello", choice=("a", "a")), "differ"),
        (request("d", "Hello", choice=("a", " b")), "single lines"),
        (EngineRequest("e", ({"role": "user", "content": [{"type": "image_url"}]},)), "text"),
        (EngineRequest("f", ()), "last message"),
    ],
)
def test_what_can_never_be_answered_is_said_at_once(
    engine: OpenVINOEngine, bad: EngineRequest, why: str
) -> None:
    assert why in str(engine.check(bad))
    answer = drain(engine, [bad])[bad.id]
    assert why in str(answer.error)
    assert engine.check(request("ok", "Hello")) is None
