"""The provider as a model, without HTTP: steps, windows, queues, lines and meters."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bulkrate.testing.blob import Blob
from bulkrate.testing.clock import FakeClock
from bulkrate.testing.dialects.openai_lines import CHAT, EMBEDDINGS, OpenAICodec
from bulkrate.testing.faults import FaultPlan
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, Limits, Phase, Refused

LIMITS = Limits(max_requests=50, max_file_bytes=100_000, max_embedding_inputs=8)


def line(number: int, url: str = CHAT, **body: Any) -> bytes:
    content = (
        {"messages": [{"role": "user", "content": f"question {number}"}]} if url == CHAT else {"input": "x"}
    )
    row = {"custom_id": f"r{number}", "method": "POST", "url": url, "body": {"model": "m", **content, **body}}
    return json.dumps(row).encode() + b"\n"


def provider(faults: str = "", polls: int = 2, **options: Any) -> ProviderState:
    plan = FaultPlan.parse(faults, seed=3)
    return ProviderState(OpenAICodec(), LIMITS, plan=plan, polls=polls, **options)


def create(state: ProviderState, lines: list[bytes], endpoint: str = CHAT) -> Batch:
    stored = state.add_file(Blob(lines), name="x.jsonl", purpose="batch")
    return state.create_batch(stored.id, endpoint=endpoint, window="24h")


def lines_of(state: ProviderState, file_id: str | None) -> list[dict[str, Any]]:
    return [] if file_id is None else [json.loads(row) for row in state.file(file_id).blob.lines()]


@pytest.mark.parametrize(
    ("polls", "phases"),
    [
        (1, ["completed"]),
        (2, ["in_progress", "completed"]),
        (4, ["in_progress", "in_progress", "finalizing", "completed"]),
    ],
)
def test_a_batch_moves_a_step_per_poll(polls: int, phases: list[str]) -> None:
    state = provider(polls=polls)
    batch = create(state, [line(1), line(2)])
    assert batch.phase is Phase.VALIDATING
    assert [str(state.poll(batch.id).phase) for _ in phases] == phases
    assert str(state.poll(batch.id).phase) == "completed"
    assert sorted(row["custom_id"] for row in lines_of(state, batch.output_file_id)) == ["r1", "r2"]


def test_progress_is_shown_while_it_runs() -> None:
    state = provider(polls=5)
    batch = create(state, [line(number) for number in range(10)])
    assert [state.poll(batch.id).done for _ in range(5)] == [0, 2, 4, 10, 10]


def test_the_same_seed_gives_the_same_files_and_another_does_not() -> None:
    def output(seed: int) -> list[str]:
        plan = FaultPlan.parse("missing=3", seed=seed)
        state = ProviderState(OpenAICodec(), LIMITS, plan=plan, polls=1)
        batch = create(state, [line(number) for number in range(40)])
        return [row["custom_id"] for row in lines_of(state, state.poll(batch.id).output_file_id)]

    assert output(1) == output(1) != output(2)
    assert len(output(1)) == 37
    assert output(1) != sorted(output(1), key=lambda name: int(name[1:])), "results come shuffled"


def test_a_window_closes_by_the_clock() -> None:
    clock = FakeClock()
    state = provider("stuck=1,done=3", now=clock.now)
    batch = create(state, [line(number) for number in range(10)])
    for _ in range(5):
        state.poll(batch.id)
    clock.advance(86_399)
    assert state.batch(batch.id).phase is Phase.IN_PROGRESS
    clock.advance(1)
    assert state.batch(batch.id).phase is Phase.EXPIRED
    assert len(lines_of(state, batch.output_file_id)) == 3
    assert {row["error"]["code"] for row in lines_of(state, batch.error_file_id)} == {"batch_expired"}
    assert (state.meter.rows_accepted, state.meter.rows_billed) == (10, 3)


@pytest.mark.parametrize("phase", ["validating", "in_progress", "finalizing"])
def test_a_stuck_batch_stays_until_it_is_released(phase: str) -> None:
    state = provider(f"stuck=1,phase={phase}")
    batch = create(state, [line(1)])
    assert [str(state.poll(batch.id).phase) for _ in range(20)] == [phase] * 20
    state.release(batch)
    while not batch.ended:
        state.step(batch)
    assert batch.phase is Phase.COMPLETED
    assert create(state, [line(2)]).ordinal == 1


def test_a_stuck_batch_may_get_free_by_itself() -> None:
    state = provider("stuck=1,polls=3")
    batch = create(state, [line(1)])
    phases = [str(state.poll(batch.id).phase) for _ in range(5)]
    assert phases == ["in_progress"] * 4 + ["completed"]


def test_the_queue_counts_the_tokens_in_flight_per_model() -> None:
    state = provider("token_queue=10")
    rows = [line(number) for number in range(3)]  # 3 tokens each
    first = create(state, rows)
    second = create(state, rows)
    other = create(state, [line(1, model="another")])
    assert [batch.scan.prompt_tokens for batch in (first, second, other)] == [9, 9, 3]
    assert str(state.poll(second.id).phase) == "failed"
    assert second.scan.errors[0].code == "token_limit_exceeded"
    assert "Limit: 10 enqueued tokens" in second.scan.errors[0].message
    assert (state.meter.rows_accepted, state.meter.batches_refused) == (4, 1)
    for batch in (first, other):
        while not batch.ended:
            state.poll(batch.id)
    third = create(state, rows)
    assert str(state.poll(third.id).phase) == "in_progress"
    assert (state.meter.rows_accepted, state.meter.rows_accepted_again) == (7, 3)


@pytest.mark.parametrize(
    ("lines", "code", "at"),
    [
        ([], "empty_file", None),
        ([line(1), b"{nonsense}\n"], "invalid_json_line", 2),
        ([b"\xef\xbb\xbf" + line(1)], "invalid_json_line", 1),
        ([line(1), b"\n", line(2)], "invalid_json_line", 2),
        ([line(1).replace(b"question", b"\xff\xfe")], "invalid_json_line", 1),
        ([b"[]\n"], "invalid_request", 1),
        ([line(1), line(1)], "duplicate_custom_id", 2),
        ([line(1), line(2, EMBEDDINGS)], "url_mismatch", 2),
        ([line(1), line(2, model="other")], "model_mismatch", 2),
        ([line(1).replace(b'"method"', b'"verb"')], "missing_required_parameter", 1),
        ([line(1, stream=True)], "invalid_request", 1),
        ([line(number) for number in range(51)], "too_many_tasks", None),
    ],
)
def test_malformed_input_fails_the_batch_at_its_first_step(
    lines: list[bytes], code: str, at: int | None
) -> None:
    state = provider()
    batch = create(state, lines)
    assert batch.phase is Phase.VALIDATING
    assert state.poll(batch.id).phase is Phase.FAILED
    assert [(error.code, error.line) for error in batch.scan.errors] == [(code, at)]
    assert (state.meter.rows_accepted, state.meter.batches_created, state.meter.batches_refused) == (0, 1, 1)


def test_only_listed_models_run() -> None:
    state = provider(models=["m"])
    assert create(state, [line(1)]).scan.errors == []
    assert create(state, [line(1, model="n")]).scan.errors[0].code == "model_not_found"


def test_rows_no_model_would_take_are_refused_by_themselves() -> None:
    state = provider(polls=1)
    batch = create(state, [line(1), line(2, messages=[]), line(3, max_tokens=0)])
    state.poll(batch.id)
    refusals = {row["custom_id"]: row["response"] for row in lines_of(state, batch.error_file_id)}
    assert {name: answer["status_code"] for name, answer in refusals.items()} == {"r2": 400, "r3": 400}
    assert refusals["r2"]["body"]["error"]["param"] == "messages"
    assert (state.meter.rows_accepted, state.meter.rows_billed) == (3, 1)


def test_a_cut_answer_is_cured_by_a_larger_cap_only() -> None:
    state = provider("truncate=2,below=64", polls=1)

    def cut(cap: int | None) -> set[str]:
        extra = {} if cap is None else {"max_completion_tokens": cap}
        batch = create(state, [line(number, **extra) for number in range(10)])
        rows = lines_of(state, state.poll(batch.id).output_file_id)
        choices = {row["custom_id"]: row["response"]["body"]["choices"][0] for row in rows}
        return {name for name, choice in choices.items() if choice["finish_reason"] == "length"}

    first = cut(16)
    assert len(first) == 2
    assert cut(32) == first, "a batch that is not to misbehave still cuts what was cut, under a small cap"
    assert cut(64) == set()
    assert cut(None) == set()


def test_a_structured_answer_is_broken_once() -> None:
    state = provider("bad_json=2,batches=all", polls=1)
    labels = {"structured_outputs": {"choice": ["yes", "no"]}}

    def broken(numbers: range) -> set[str]:
        batch = create(state, [line(number, **labels) for number in numbers])
        rows = lines_of(state, state.poll(batch.id).output_file_id)
        texts = {
            row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows
        }
        return {name for name, text in texts.items() if text not in ("yes", "no")}

    first = broken(range(10))
    assert len(first) == 2
    second = broken(range(10))
    assert len(second) == 2
    assert not first & second
    assert create(state, [line(1)]).ordinal == 2


def test_free_text_is_not_broken() -> None:
    state = provider("bad_json=2", polls=1)
    batch = create(state, [line(1), line(2)])
    assert len(lines_of(state, state.poll(batch.id).output_file_id)) == 2
    assert state.writer.broken == set()


def test_embeddings_are_unit_vectors_by_input() -> None:
    state = provider(polls=1)
    batch = create(
        state, [line(1, EMBEDDINGS), line(2, EMBEDDINGS, input=["x", "y"], dimensions=3)], EMBEDDINGS
    )
    rows = {row["custom_id"]: row for row in lines_of(state, state.poll(batch.id).output_file_id)}
    one, two = (rows[name]["response"]["body"]["data"] for name in ("r1", "r2"))
    assert [len(item["embedding"]) for item in one + two] == [8, 3, 3]
    assert sum(value**2 for value in one[0]["embedding"]) == pytest.approx(1)
    assert (
        create(state, [line(1, EMBEDDINGS, input=["x"] * 9)], EMBEDDINGS).scan.errors[0].code
        == "too_many_tasks"
    )


def test_faults_can_be_changed_while_it_runs() -> None:
    state = provider("stuck=1")
    stuck = create(state, [line(1)])
    for _ in range(4):
        state.poll(stuck.id)
    state.set_plan(FaultPlan.parse("missing=1"))
    assert state.poll(stuck.id).phase is Phase.COMPLETED
    assert len(lines_of(state, stuck.output_file_id)) == 1
    later = create(state, [line(1), line(2)])
    for _ in range(2):
        state.poll(later.id)
    assert len(lines_of(state, later.output_file_id)) == 1


def test_a_batch_survives_the_deletion_of_its_input() -> None:
    state = provider()
    batch = create(state, [line(1)])
    state.delete_file(batch.input_file_id)
    with pytest.raises(Refused):
        state.file(batch.input_file_id)
    for _ in range(2):
        state.poll(batch.id)
    assert len(lines_of(state, batch.output_file_id)) == 1


def test_a_blob_reads_as_it_was_written_in_memory_and_on_disk() -> None:
    blob = Blob()
    wanted = [f"{number}".encode() * 40 for number in range(60_000)]
    for row in wanted:
        blob.append(row)
        blob.append(b"\n")
    blob.append(b"tail")
    assert blob.line_count == 60_001
    assert list(blob.lines()) == [*wanted, b"tail"]
    assert b"".join(blob.chunks(1_000)) == b"\n".join([*wanted, b"tail"])
    left, right = blob.chunks(7), blob.chunks(7)
    assert next(left) == next(right)
    assert next(left) == next(right)
