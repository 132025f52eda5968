"""Azure's counterpart driven by OpenAI's own Azure client, and whole runs of ours against it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import anyio
import openai
import pytest
from dialect_desk import Desk, shouted, upper
from openai.types import Batch

from bulkrate.errors import RequestRefused
from bulkrate.jobs.load import openai_batch_job
from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.answers import Answer
from bulkrate.testing.pytest_plugin import ProviderFactory

DEPLOYMENT = "gpt-4o-mini-batch"
VERSION = "2025-03-01-preview"
ROWS = 30


# -- the SDK -------------------------------------------------------------------------------------------------


def classic(provider: MisbehavingProvider, **options: Any) -> openai.AzureOpenAI:
    given = {"api_key": provider.api_key, **options}
    return openai.AzureOpenAI(azure_endpoint=provider.base_url, api_version=VERSION, max_retries=0, **given)


def v1(provider: MisbehavingProvider) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{provider.base_url}/openai/v1/", api_key=provider.api_key, max_retries=0)


def line(number: int, url: str, **body: Any) -> dict[str, Any]:
    asked = {"model": DEPLOYMENT, "messages": [{"role": "user", "content": "hello"}], **body}
    return {"custom_id": f"row-{number}", "method": "POST", "url": url, "body": asked}


def submit(client: openai.OpenAI, rows: int = 3, url: str = "/chat/completions", bom: bytes = b"") -> Batch:
    content = bom + b"".join(json.dumps(line(number, url)).encode() + b"\n" for number in range(rows))
    file = client.files.create(file=("mine.jsonl", content), purpose="batch")
    endpoint: Any = url
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h")


def poll(client: openai.OpenAI, batch: Batch) -> Batch:
    for _ in range(20):
        batch = client.batches.retrieve(batch.id)
        if batch.status in ("completed", "failed", "cancelled", "expired"):
            return batch
    raise AssertionError(f"still {batch.status}")


@pytest.mark.parametrize(
    ("make", "url"),
    [(classic, "/chat/completions"), (v1, "/v1/chat/completions"), (v1, "/chat/completions")],
)
def test_the_sdk_goes_all_the_way(misbehaving_provider: ProviderFactory, make: Any, url: str) -> None:
    provider = misbehaving_provider("bad_rows=1", dialect="azure", polls=3)
    client = make(provider)
    batch = submit(client, 10, url)
    assert (batch.output_file_id, batch.request_counts, batch.endpoint) == ("", None, None)
    batch = poll(client, batch)
    assert (batch.status, batch.expires_at, batch.endpoint) == ("completed", None, url)
    found = [json.loads(row) for row in client.files.content(batch.output_file_id or "").text.splitlines()]
    assert len(found) == 9
    choice = found[0]["response"]["body"]["choices"][0]
    assert choice["content_filter_results"]["hate"] == {"filtered": False, "severity": "safe"}
    errors = client.files.content(batch.error_file_id or "").text.splitlines()
    assert {*(row["custom_id"] for row in found), json.loads(errors[0])["custom_id"]} == {
        f"row-{number}" for number in range(10)
    }
    assert (provider.meter.rows_accepted, provider.meter.rows_billed) == (10, 9)


def test_the_sdk_lists_cancels_and_deletes(misbehaving_provider: ProviderFactory) -> None:
    client = classic(misbehaving_provider(dialect="azure", polls=9))
    made = [submit(client).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1], "over two pages"
    client.batches.cancel(made[0])
    assert poll(client, client.batches.retrieve(made[0])).status == "cancelled"
    first = client.files.list(purpose="batch").data[0]
    assert client.files.delete(first.id).deleted


def test_the_sdk_meets_the_traps(misbehaving_provider: ProviderFactory) -> None:
    provider = misbehaving_provider("token_queue=3,at=create", dialect="azure", models=[DEPLOYMENT, "quick"])
    client = classic(provider)
    with pytest.raises(openai.BadRequestError, match="configured limit of 3 for the deployment") as caught:
        submit(client)
    assert caught.value.code == "token_limit_exceeded"
    provider.set_faults()
    with pytest.raises(openai.AuthenticationError):
        submit(classic(provider, api_key="wrong"))
    with pytest.raises(openai.NotFoundError):
        unversioned = openai.OpenAI(base_url=f"{provider.base_url}/openai", api_key=provider.api_key)
        unversioned.batches.list()
    marked = poll(client, submit(client, bom=b"\xef\xbb\xbf"))
    assert marked.errors is not None
    assert "extract the deployment name" in str(marked.errors.data)
    whole = poll(client, submit(client))
    assert client.files.content(whole.error_file_id or "").content == b"", "there, and of no bytes"
    messages: Any = [{"role": "user", "content": "x"}]
    with pytest.raises(openai.BadRequestError, match="does not work"):
        client.chat.completions.create(model=DEPLOYMENT, messages=messages)
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="none", messages=messages)
    given = classic(provider, api_key=None, azure_ad_token=provider.api_key).chat.completions.create(
        model="quick", messages=messages
    )
    assert given.choices[0].message.content


# -- whole runs ----------------------------------------------------------------------------------------------


@pytest.fixture
def desk_for(tmp_path: Path, misbehaving_provider: ProviderFactory, fake_clock: FakeClock) -> Any:
    def make(faults: str = "", *, env: dict[str, str] | None = None, **options: Any) -> Desk:
        options = {"answer": upper, **options}
        provider = misbehaving_provider(faults, dialect="azure", now=fake_clock.now, **options)
        return Desk(tmp_path, provider, fake_clock, model=f"azure/{DEPLOYMENT}", rows=ROWS, env=env)

    return make


UPPER = shouted(ROWS)


@pytest.mark.parametrize(("version", "url"), [(VERSION, "/chat/completions"), ("", "/v1/chat/completions")])
def test_both_apis(desk_for: Any, version: str, url: str) -> None:
    desk: Desk = desk_for(env={"OPENAI_API_VERSION": version})
    found = desk.run()
    assert (found["rows"]["succeeded"], desk.answers()) == (ROWS, UPPER)
    assert [batch.endpoint for batch in desk.provider.state.batches.values()] == [url]
    assert found["usage"]["output_tokens"] == desk.provider.meter.billed_output_tokens


@pytest.mark.parametrize("at", ["create", "poll"])
def test_a_quota_that_is_too_small_cuts_shards_and_pays_no_row_twice(desk_for: Any, at: str) -> None:
    """Refused at once in some regions, failed minutes later in the others."""
    desk: Desk = desk_for(f"token_queue=60,at={at}")
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert (desk.provider.meter.rows_accepted, desk.answers()) == (ROWS, UPPER)
    assert desk.provider.meter.batches_created > 1


@pytest.mark.parametrize(
    "faults",
    [
        "late_create=1,calls=6",
        "create_unanswered=1",
        "create_unanswered=1,when=before",
        "create_cut=1 list_lag=1",
        "create_cut=1 lookalikes=1",
        "file_lag=6",
        "empty_ids=9",
        "create_429=3",
    ],
)
def test_no_row_is_accepted_twice(desk_for: Any, faults: str) -> None:
    env = {"BULKRATE_LIMITS__CREATE_TIMEOUT_S": "0.2"} if "unanswered" in faults else {}
    desk: Desk = desk_for(faults, env={"BULKRATE_LIMITS__LISTING_LAG_S": "60", **env})
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert (desk.provider.meter.rows_accepted, desk.answers()) == (ROWS, UPPER)


def test_an_end_of_our_own_for_a_batch_that_never_expires(desk_for: Any) -> None:
    desk: Desk = desk_for("stuck=1,done=20", window_s=60, env={"BULKRATE_LIMITS__OVERDUE_S": "1800"})
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert desk.provider.snapshot()["batches"][0]["phase"] == "cancelled"
    assert (desk.answers(), desk.provider.meter.rows_accepted) == (UPPER, ROWS + 10)


def test_the_state_directory_is_lost(desk_for: Any) -> None:
    desk: Desk = desk_for(env={"BULKRATE_LIMITS__REQUESTS": "10"})
    with desk.begun() as (space, run):
        anyio.run(lambda: space.advance(run, poll_s=60, until_submitted=True))
    shutil.rmtree(desk.folder / ".bulkrate")
    assert desk.run()["rows"]["succeeded"] == ROWS
    assert (desk.provider.meter.rows_accepted, desk.answers()) == (ROWS, UPPER)


@pytest.mark.parametrize("faults", ["", "refused_in_output=3"])
def test_what_a_filter_stops_is_refused_once_and_says_why(desk_for: Any, faults: str) -> None:
    def answer(body: Any) -> Answer:
        return Answer(upper(body), finish_reason="content_filter" if not faults else "stop")

    desk: Desk = desk_for(faults, answer=answer)
    rows = desk.run()["rows"]
    assert rows["failed"] == (3 if faults else ROWS)
    assert desk.provider.meter.rows_accepted == ROWS
    errors = [json.loads(row)["error"] for row in (desk.folder / "answers.jsonl").read_text().splitlines()]
    assert "violence: high" in str(next(filter(None, errors)))


def test_a_ready_made_file_with_a_byte_order_mark(desk_for: Any) -> None:
    """Azure refuses the mark with words about deployments; ours never sends one."""
    desk: Desk = desk_for()
    lines = [json.dumps(line(number, "/v1/chat/completions")) for number in range(3)]
    path = desk.folder / "batch.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    assert desk.run(openai_batch_job(path, f"azure/{DEPLOYMENT}"))["rows"]["succeeded"] == 3


RESCUE = {"use": "batch", "deadline": "20m", "rescue": "live"}


def test_a_rescue_by_a_deployment_that_answers(desk_for: Any) -> None:
    desk: Desk = desk_for("stuck=1,done=20", env={"BULKRATE_AZURE_LIVE_DEPLOYMENT": "gpt-4o-mini"})
    assert desk.run(desk.job(lane=RESCUE))["rows"]["succeeded"] == ROWS
    assert desk.answers() == UPPER


def test_a_rescue_by_one_that_answers_nothing_gives_no_row_up(desk_for: Any) -> None:
    desk: Desk = desk_for("stuck=1,done=20")
    with pytest.raises(RequestRefused, match="no single requests"):
        desk.run(desk.job(lane=RESCUE))
    desk.env["BULKRATE_AZURE_LIVE_DEPLOYMENT"] = "gpt-4o-mini"
    assert desk.run(desk.job(lane=RESCUE))["rows"]["succeeded"] == ROWS
    assert desk.answers() == UPPER
