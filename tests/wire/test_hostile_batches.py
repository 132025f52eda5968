"""Batch objects that no honest server sends: their ids, counts and times must be storable all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import pytest

from bulkrate.core.json_value import MOST_COUNT, count, moment, words
from bulkrate.core.usage import NONE
from bulkrate.ledger.ledger import Ledger
from bulkrate.ledger.records import BatchRecord
from bulkrate.pipeline.context import RunContext
from bulkrate.providers.anthropic.batches import parse_batch as anthropic
from bulkrate.providers.bedrock.jobs import parse_job as bedrock
from bulkrate.providers.bedrock.jobs import with_results
from bulkrate.providers.failures import json_object
from bulkrate.providers.google.batches import parse_batch as google
from bulkrate.providers.mistral.batches import parse_job as mistral
from bulkrate.providers.openai.wire import parse_batch as openai
from bulkrate.providers.openai.wire import queue_refusal
from bulkrate.providers.provider import BatchStatus
from conformance.ledger_records import NOW, RUN, SHARD

HALF = "batch_\ud800x\x00"
# As JSON texts, for a parser of ours to read.
NUMBERS = {
    "too large for a database": str(2**63),
    "too large for any integer": "9" * 5_000,
    "negative": "-1",
    "a fraction": "1.5",
    "too large for a float": "1e999",
    "not a number": "NaN",
    "a text": '"12"',
    "a truth": "true",
    "a list": "[3]",
}


def openai_batch(n: str) -> str:
    usage = f'"input_tokens": {n}, "output_tokens": {n}, "input_tokens_details": {{"cached_tokens": {n}}}'
    return (
        f'{{"id": ID, "status": "completed", "output_file_id": ID, "error_file_id": ID, "input_file_id": ID,'
        f'"request_counts": {{"total": {n}, "completed": {n}, "failed": {n}}}, "created_at": {n},'
        f'"usage": {{"total_tokens": 7, {usage}}}, "metadata": {{"bulkrate_run": ID}},'
        f'"errors": {{"data": [{{"code": ID, "message": ID, "line": {n}}}]}}}}'
    )


def anthropic_batch(n: str) -> str:
    names = ("succeeded", "errored", "canceled", "expired", "more")
    counts = ", ".join(f'"{name}": {n}' for name in names)
    return f'{{"id": ID, "processing_status": "ended", "request_counts": {{{counts}}}, "created_at": {n}}}'


def google_batch(n: str) -> str:
    stats = ", ".join(f'"{name}": {n}' for name in ("requestCount", "successfulRequestCount"))
    error = f'"error": {{"code": {n}, "message": ID}}'
    metadata = (
        f'"state": "BATCH_STATE_FAILED", "batchStats": {{{stats}}}, "displayName": ID, "createTime": {n}'
    )
    response = '"response": {"responsesFile": ID}'
    return f'{{"name": ID, "done": true, {error}, "metadata": {{{metadata}}}, {response}}}'


def mistral_batch(n: str) -> str:
    counts = ", ".join(f'"{name}_requests": {n}' for name in ("total", "succeeded", "failed"))
    errors = f'"errors": [{{"message": ID, "count": {n}}}]'
    return f'{{"id": ID, "status": "SUCCESS", "output_file": ID, {counts}, {errors}, "created_at": {n}}}'


def bedrock_batch(n: str) -> str:
    counts = ", ".join(f'"{name}RecordCount": {n}' for name in ("total", "success", "error"))
    tokens = f'"inputTokenCount": {n}, "outputTokenCount": {n}'
    return f'{{"jobArn": ID, "status": "Failed", "message": ID, {counts}, {tokens}}}'


def bedrock_with_manifest(fields: Mapping[str, Any]) -> BatchStatus:
    return with_results(bedrock(fields), "s3://b/" + (words(fields["jobArn"]) or ""), fields)


DIALECTS: dict[str, tuple[Callable[[str], str], Callable[[Mapping[str, Any]], BatchStatus]]] = {
    "openai": (openai_batch, openai),
    "anthropic": (anthropic_batch, anthropic),
    "google": (google_batch, google),
    "mistral": (mistral_batch, mistral),
    "bedrock": (bedrock_batch, bedrock_with_manifest),
}


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    with Ledger.open(tmp_path_factory.mktemp("ledger") / "ledger.sqlite") as opened:
        with opened.transaction("begin") as tx:
            tx.add_run(RUN)
        yield opened


def recorded(ledger: Ledger, status: BatchStatus) -> BatchRecord:
    """What the pipeline records of a batch, as the ledger gives it back."""
    context = SimpleNamespace(run=SHARD.run, provider="p", clock=SimpleNamespace(now=lambda: NOW))
    record = RunContext.batch_record(cast(RunContext, context), SHARD, status)
    with ledger.transaction("test") as tx:
        tx.put_batch(record)
    (found,) = [batch for batch in ledger.batches(SHARD.run) if batch.id == record.id]
    return found


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_a_batch_with_impossible_counts_is_recorded_without_them(
    ledger: Ledger, name: str, number: str
) -> None:
    text, parse = DIALECTS[name]
    fields = json_object(text(number).replace("ID", f'"{name}-{len(number)}"').encode())
    found = recorded(ledger, parse(fields))
    real = {12} if name == "google" and number == '"12"' else set()  # Google writes its counts as texts
    assert {found.total, found.completed, found.failed} <= {None, 0} | real
    assert (found.usage or NONE) == NONE


@pytest.mark.parametrize("name", DIALECTS)
def test_a_batch_whose_ids_have_half_characters_can_be_asked_for(ledger: Ledger, name: str) -> None:
    text, parse = DIALECTS[name]
    fields = json_object(text("3").replace("ID", json.dumps(HALF)).encode())
    status = parse(fields)
    assert status.id == "batch_\ufffdx\ufffd"
    assert quote(status.id)
    found = recorded(ledger, status)
    assert found.id == status.id
    assert "\ufffd" in found.results_json


def test_an_error_that_cannot_be_printed_is_mended_too() -> None:
    assert json_object(rb'{"error": {"message": "half \ud83d", "\udc00": 1}}') == {
        "error": {"message": "half \ufffd", "\ufffd": 1}
    }


def test_an_answers_own_numbers_stay_as_they_are() -> None:
    text = '{"id": 1234567890123456789, "big": 18446744073709551615, "low": -9223372036854775808}'
    assert json_object(text.encode()) == json.loads(text)
    assert isinstance(json_object(b'{"n": 18446744073709551616}')["n"], float)


def test_a_queue_limit_that_cannot_be_is_not_known() -> None:
    message = "Enqueued token limit reached. Limit: {} enqueued tokens."
    assert queue_refusal(message.format("90,000")).limit_tokens == 90_000
    assert queue_refusal(message.format("9" * 20)).limit_tokens is None
    assert queue_refusal("number of enqueued tokens ... limit of 99999999999999999999B").limit_tokens is None


def test_the_most_that_a_count_can_be_is_kept() -> None:
    assert count(MOST_COUNT) == MOST_COUNT
    assert count(float(40)) == 40
    assert count(MOST_COUNT + 1) is None


def test_a_time_at_the_edge_of_the_calendar_is_none() -> None:
    assert moment("0001-01-01T00:00:00+23:59") is None
    assert moment("9999-12-31T23:59:59-23:59") is None
    assert moment("2026-03-01T13:00:00.123456+01:00") == NOW
