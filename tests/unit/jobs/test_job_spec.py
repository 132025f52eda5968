"""The model itself: defaults, identity, paths."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from bulkrate.errors import JobError
from bulkrate.jobs.fields import duration_s
from bulkrate.jobs.load import job_name, load_job, load_job_mapping, openai_batch_job
from bulkrate.jobs.spec import Job

FIELDS: dict[str, Any] = {
    "name": "tickets",
    "source": {"path": "tickets.csv", "key": "id"},
    "request": {"model": "openai/gpt-5-mini", "prompt": "{{ body }}"},
}


def with_(**changes: Any) -> Job:
    return load_job_mapping({**FIELDS, **changes}, "/data")


def test_a_job_in_python_takes_plain_dicts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = Job(**FIELDS)
    assert job.base == tmp_path
    assert job.sink_path == tmp_path / "tickets.answers.jsonl"
    assert (job.source.path, job.source.key, job.key) == (("tickets.csv",), ("id",), ("id",))
    assert (job.provider, job.model_name) == ("openai", "gpt-5-mini")
    assert (job.attempts, job.max_failed, job.on_rejected, job.lane.deadline_s) == (3, 0.0, "skip", None)
    assert pickle.loads(pickle.dumps(job)) == job
    assert "base" not in job.model_dump()
    with pytest.raises(ValidationError):
        job.name = "other"


def test_file_and_python_agree(tmp_path):
    path = tmp_path / "tickets.bulk.yaml"
    path.write_text(
        "# support\nrequest:\n  prompt: '{{ body }}'\n  model: openai/gpt-5-mini\n  output: text\n"
        "lane:\nsink:\nsource: {key: [id], path: [tickets.csv]}\nname: tickets\n"
    )
    job = load_job(path)
    assert job.base == tmp_path
    assert job.identity() == with_().identity()


def test_identity_holds_what_matters_to_the_answers():
    base = with_().identity()
    request = FIELDS["request"]
    for same in (
        with_(lane={"deadline": "24h", "poll": 5}),
        with_(sink={"path": "x.csv", "include": "all"}),
        with_(on_rejected="fail", max_failed=0.5, attempts=9),
        with_(source={"path": "elsewhere.csv", "key": ["id"]}),
        with_(request={**request, "output": "text", "extra": {}, "system": None}),
        with_(reuse="never"),
    ):
        assert same.identity() == base
    for other in (
        with_(name="tickets2"),
        with_(source={"path": "tickets.csv"}),
        with_(source={"path": "tickets.csv", "key": ["id", "lang"]}),
        with_(request={**request, "max_output_tokens": 5}),
        with_(request={**request, "model": "local/gpt-5-mini"}),
        with_(reuse="exact"),
    ):
        assert other.identity() != base


def test_a_schema_counts_by_its_content(tmp_path):
    request = {**FIELDS["request"], "output": {"json_schema": "s.json"}}
    (tmp_path / "s.json").write_text('{"type": "object", "required": []}')
    from_file = load_job_mapping({**FIELDS, "request": request}, tmp_path)
    assert from_file.request is not None
    inline = with_(
        request={**FIELDS["request"], "output": {"json_schema": {"required": [], "type": "object"}}}
    )
    assert from_file.identity() == inline.identity()
    assert pickle.loads(pickle.dumps(from_file)).request.answer == from_file.request.answer
    (tmp_path / "s.json").write_text('{"type": "object", "required": ["a"]}')
    assert load_job_mapping({**FIELDS, "request": request}, tmp_path).identity() != from_file.identity()


def test_reuse_defaults_by_output():
    request = FIELDS["request"]
    assert with_().reuse_mode == "never"
    assert with_(request={**request, "output": {"choice": ["a", "b"]}}).reuse_mode == "exact"
    assert with_(request={**request, "output": {"json_schema": {"type": "object"}}}).reuse_mode == "exact"
    assert with_(request={**request, "output": {"choice": ["a", "b"]}}, reuse="never").reuse_mode == "never"


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86_400), ("90m", 5_400), ("1d12h", 129_600), ("30s", 30), ("1h30m", 5_400)]
)
def test_durations(text, seconds):
    assert duration_s(text) == seconds
    assert with_(lane={"deadline": text}).lane.deadline_s == seconds


@pytest.mark.parametrize("text", ["", "24", "h", "1.5h", "30m1h", "-1h", "24 h", "1w", "٣h"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="must be a duration"):
        duration_s(text)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("requests.jsonl", "requests"),
        ("My Batch (1).jsonl.gz", "my-batch-1"),
        ("x.ndjson.zst", "x"),
        ("é.jsonl", "job"),
        ("_a_.jsonl", "a"),
    ],
)
def test_a_batch_file_is_a_job_by_itself(tmp_path, file, name):
    job = openai_batch_job(tmp_path / file)
    assert (job.name, job.source.path, job.base) == (name, (file,), tmp_path)
    assert (job.request, job.key, job.provider, job.model_name) == (None, ("custom_id",), "openai", None)
    assert job.sink_path == tmp_path / f"{name}.answers.jsonl"
    other = openai_batch_job(tmp_path / file, model="local/smollm2")
    assert (other.provider, other.model_name) == ("local", "smollm2")
    assert other.identity() != job.identity()
    assert job_name("a" * 99) == "a" * 64


def test_the_folder_of_the_file_is_the_base(tmp_path, monkeypatch):
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "a.bulk.yaml").write_text(
        "name: a\nsource: {path: a.csv}\nrequest: {model: openai/m, prompt: x}\nsink: {path: ../out.csv}"
    )
    monkeypatch.chdir(tmp_path)
    job = load_job("jobs/a.bulk.yaml")
    assert job.base == Path.cwd() / "jobs"
    assert job.sink_path == Path.cwd() / "jobs" / ".." / "out.csv"


@pytest.mark.parametrize(
    ("written", "month"),
    [(20, "20"), (0.5, "0.5"), ("20 USD", "20"), ("$0.10", "0.10"), (Decimal("1.25"), "1.25")],
)
def test_a_budget_is_an_exact_amount(written, month):
    job = with_(budget={"month": written})
    assert (job.budget.month, job.budget.run) == (Decimal(month), None)
    assert Job.model_validate({**job.model_dump(mode="json"), "base": "/data"}).budget == job.budget
    assert job.identity() == with_().identity(), "what it may cost changes no answer"


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"month": "1,500"}, "not an amount of money"),
        ({"month": "20 EUR"}, "prices are in USD"),
        ({"run": -1}, "not an amount of money"),
        ({"run": True}, "must be an amount of money"),
        ({"run": float("inf")}, "not an amount of money"),
        ({"day": 3}, "there is no such field"),
        (20, "budget"),
    ],
)
def test_a_budget_that_is_none(budget, said):
    with pytest.raises(JobError, match=said):
        with_(budget=budget)
