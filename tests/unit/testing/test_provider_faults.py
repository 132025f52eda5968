"""Each fault of rows and batches in the provider's model, without HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bulkrate.testing.blob import Blob
from bulkrate.testing.clock import FakeClock
from bulkrate.testing.dialects.openai_lines import CHAT, OpenAICodec
from bulkrate.testing.faults import UNKNOWN_WORDS, FaultPlan
from bulkrate.testing.provider_state import ProviderState
from bulkrate.testing.records import Batch, Limits, Phase, Reason, Refused

LIMITS = Limits(max_requests=500, max_file_bytes=1_000_000)
ROWS = 40


def line(number: int) -> bytes:
    body = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}
    return (
        json.dumps({"custom_id": f"r{number}", "method": "POST", "url": CHAT, "body": body}).encode() + b"\n"
    )


LINES = [line(number) for number in range(ROWS)]
IDS = {f"r{number}" for number in range(ROWS)}


def provider(faults: str = "", polls: int = 1, **options: Any) -> ProviderState:
    return ProviderState(OpenAICodec(), LIMITS, plan=FaultPlan.parse(faults, seed=3), polls=polls, **options)


def create(state: ProviderState, lines: list[bytes] = LINES, **metadata: str) -> Batch:
    stored = state.add_file(Blob(lines), name="x.jsonl", purpose="batch")
    return state.create_batch(stored.id, endpoint=CHAT, window="24h", metadata=metadata or None)


def raw(state: ProviderState, file_id: str | None) -> list[bytes]:
    return [] if file_id is None else list(state.file(file_id).blob.lines())


def rows(state: ProviderState, file_id: str | None) -> list[dict[str, Any]]:
    return [json.loads(written) for written in raw(state, file_id)]


def ended(state: ProviderState, **metadata: str) -> Batch:
    batch = create(state, **metadata)
    while not batch.ended:
        state.poll(batch.id)
    return batch


@pytest.mark.parametrize("status", [400, 429, 500, 0])
def test_refusals_among_the_answers_count_as_completed(status: int) -> None:
    state = provider(f"refused_in_output=3,status={status}")
    batch = ended(state)
    found = rows(state, batch.output_file_id)
    refused = [row for row in found if row["response"]["status_code"] != 200]
    assert (len(found), len(refused), batch.error_file_id) == (ROWS, 3, None)
    assert {row["response"]["status_code"] for row in refused} == {status}
    assert all(row["error"] is None and row["response"]["body"]["error"]["message"] for row in refused)
    assert (batch.done, batch.failed) == (ROWS, 0)
    assert (state.meter.rows_accepted, state.meter.rows_billed) == (ROWS, ROWS - 3)


def test_cut_lines_do_not_parse_and_the_others_do() -> None:
    state = provider("cut_lines=4")
    whole, cut = 0, 0
    for written in raw(state, ended(state).output_file_id):
        try:
            json.loads(written)
            whole += 1
        except json.JSONDecodeError:
            cut += 1
    assert (whole, cut) == (ROWS - 4, 4)
    assert state.meter.rows_billed == ROWS


def test_lines_that_are_not_text_are_json_but_for_that() -> None:
    state = provider("bad_utf8=4")
    bad = [written for written in raw(state, ended(state).output_file_id) if b"\xff" in written]
    assert len(bad) == 4
    for written in bad:
        with pytest.raises(UnicodeDecodeError):
            written.decode()
        assert json.loads(written.decode("utf-8", "replace"))["response"]["status_code"] == 200


def test_an_empty_body_stands_beside_status_200() -> None:
    state = provider("empty_body=4")
    bodies = [row["response"] for row in rows(state, ended(state).output_file_id)]
    assert sum(body == "" for body in (response["body"] for response in bodies)) == 4
    assert {response["status_code"] for response in bodies} == {200}


def test_answers_may_come_twice() -> None:
    state = provider("duplicate_rows=5")
    found = [row["custom_id"] for row in rows(state, ended(state).output_file_id)]
    assert (len(found), set(found)) == (ROWS + 5, IDS)
    assert state.meter.rows_billed == ROWS


def test_an_answered_row_may_be_in_the_error_file_too() -> None:
    state = provider("duplicate_rows=5,second=error")
    batch = ended(state)
    errors = rows(state, batch.error_file_id)
    assert {row["custom_id"] for row in rows(state, batch.output_file_id)} == IDS
    assert (len(errors), {row["response"]["status_code"] for row in errors}) == (5, {500})


def test_ids_that_nobody_sent() -> None:
    state = provider("unknown_ids=4")
    found = [row["custom_id"] for row in rows(state, ended(state).output_file_id)]
    strangers = [name for name in found if name not in IDS]
    assert len(found) == ROWS + 4
    assert sum(name.startswith("unknown-") for name in strangers) == 2
    assert sum(name.startswith("z") for name in strangers) == 2, "and some that look like the batch's own"


def test_a_batch_may_complete_without_an_output_file() -> None:
    state = provider("no_output=1,status=500")
    batch = ended(state)
    assert (batch.phase, batch.output_file_id, batch.failed) == (Phase.COMPLETED, None, ROWS)
    assert {row["response"]["status_code"] for row in rows(state, batch.error_file_id)} == {500}
    assert state.meter.rows_billed == 0
    assert len(rows(state, ended(state).output_file_id)) == ROWS


def test_somebody_else_cancels() -> None:
    state = provider("cancel_after=15")
    batch = ended(state)
    assert batch.phase is Phase.CANCELLED
    assert len(rows(state, batch.output_file_id)) == 15
    assert {row["error"]["code"] for row in rows(state, batch.error_file_id)} == {"batch_cancelled"}
    assert (state.meter.rows_accepted, state.meter.rows_billed) == (ROWS, 15)


@pytest.mark.parametrize("faults", ["slow_cancel=3", "slow_cancel=3 cancel_after=15"])
def test_a_cancel_takes_its_time(faults: str) -> None:
    state = provider(faults, polls=2)
    batch = create(state)
    if "cancel_after" in faults:
        state.poll(batch.id)
        state.poll(batch.id)
    else:
        state.cancel(batch.id)
    assert [str(state.poll(batch.id).phase) for _ in range(4)] == ["cancelling"] * 3 + ["cancelled"]


def test_a_batch_is_not_known_at_first() -> None:
    state = provider("status_404=2,from_poll=2")
    batch = create(state)
    assert state.poll(batch.id).phase is Phase.COMPLETED
    for _ in range(2):
        with pytest.raises(Refused) as caught:
            state.poll(batch.id)
        assert caught.value.reason is Reason.NOT_FOUND
    assert state.poll(batch.id).phase is Phase.COMPLETED


def test_words_of_no_published_name() -> None:
    state = provider("unknown_status=4")
    batch = create(state)
    words = [state.poll(batch.id).word for _ in range(5)]
    assert set(words[:4]) == set(UNKNOWN_WORDS)
    assert words[4] is None
    assert batch.phase is Phase.COMPLETED


def test_a_new_batch_is_missing_from_the_list() -> None:
    state = provider("list_lag=2")
    first, second = create(state), create(state)
    assert [[batch.id for batch in state.listed()] for _ in range(2)] == [[second.id]] * 2
    assert [batch.id for batch in state.listed(first_page=False)] == [second.id, first.id]


def test_usage_that_no_row_explains() -> None:
    plain, more = provider(), provider("extra_usage=100")
    expected, found = ended(plain).usage, ended(more).usage
    assert expected is not None and found is not None
    assert found.input_tokens == expected.input_tokens + 100
    assert found.output_tokens == expected.output_tokens + 100
    assert more.meter.billed_output_tokens == found.output_tokens


def test_usage_that_is_not_told() -> None:
    state = provider("no_usage=1")
    batch = ended(state)
    assert batch.usage is None
    assert all("usage" not in row["response"]["body"] for row in rows(state, batch.output_file_id))
    assert state.meter.billed_output_tokens > 0, "it is billed all the same"
    assert ended(state).usage is not None


def test_one_create_makes_two_batches() -> None:
    state = provider("duplicate_create=1 missing=2")
    batch = create(state, run="a")
    (twin,) = [other for other in state.batches.values() if other is not batch]
    assert (twin.input_file_id, twin.metadata) == (batch.input_file_id, {"run": "a"})
    assert (state.meter.batches_created, state.meter.rows_accepted) == (2, 2 * ROWS)
    for each in (batch, twin):
        assert len(rows(state, state.poll(each.id).output_file_id)) == ROWS - 2
    assert create(state).ordinal == 1


def test_somebody_elses_batches_look_like_ours_and_are_not_counted() -> None:
    state = provider("lookalikes=1 missing=2")
    batch = create(state, run="abc", shard="0", digest="d1")
    before, ours, after = state.batches.values()
    assert ours is batch
    assert before.metadata == {"run": "zbc", "shard": "0", "digest": "d1"}
    assert after.metadata == {"run": "abc", "shard": "0", "digest": "z1"}
    assert len({before.input_file_id, ours.input_file_id, after.input_file_id}) == 3
    assert before.created_at == ours.created_at == after.created_at
    assert (state.meter.batches_created, state.meter.rows_accepted) == (1, ROWS)
    for each in (before, ours, after):
        state.poll(each.id)
    assert [len(rows(state, each.output_file_id)) for each in (before, ours)] == [ROWS, ROWS - 2]
    assert state.meter.rows_billed == ROWS


@pytest.mark.parametrize(("way", "off_s"), [("behind", -90), ("ahead", 90)])
def test_the_providers_clock_may_be_off(way: str, off_s: int) -> None:
    clock = FakeClock()
    state = provider(f"clock_skew=90,way={way}", now=clock.now)
    batch = create(state)
    assert batch.created_at == int(clock.now().timestamp()) + off_s
    clock.advance(86_399)
    assert not state.batch(batch.id).ended
    clock.advance(1)
    assert state.batch(batch.id).phase is Phase.EXPIRED


def test_a_full_queue_may_refuse_at_create() -> None:
    state = provider("token_queue=100,at=create")
    with pytest.raises(Refused, match="Enqueued token limit") as caught:
        create(state)
    assert (caught.value.reason, caught.value.code) == (Reason.INVALID, "token_limit_exceeded")
    assert (state.meter.batches_created, state.meter.rows_accepted) == (0, 0)
    assert not create(state, LINES[:10]).scan.errors


def test_empty_ids_are_a_matter_of_the_batch() -> None:
    state = provider("empty_ids=1")
    assert [create(state).empty_ids for _ in range(2)] == [True, False]
