"""The JSON Schema that editors read, and the reference page: both say what the model does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from bulkrate.errors import JobError
from bulkrate.jobs.load import job_schema, load_job, load_job_mapping
from bulkrate.jobs.spec import Job

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"

GOOD: list[dict[str, Any]] = [
    {"request": {"model": "openai/m", "prompt": "{{ a }}"}},
    {"request": {"model": "openai/m", "prompt": "a", "output": "text"}, "lane": None, "sink": None},
    {"request": {"model": "openai/m", "prompt": "a", "output": {"choice": ["a", "b"]}}, "reuse": "never"},
    {"request": {"model": "openai/m", "prompt": "a", "output": {"json_schema": {"type": "object"}}}},
    {"source": {"path": ["a.csv", "b/*.csv"], "key": ["a", "b"], "format": "csv"},
     "request": {"model": "a/b/c", "prompt": "a", "stop": ["x"], "temperature": 0, "seed": 1,
                 "extra": {"k": 1}},
     "lane": {"deadline": "1d12h", "poll": 0.5}, "sink": {"path": "x.csv", "include": "all"},
     "on_rejected": "fail", "max_failed": 0.01, "attempts": 10},
    {"request": {"model": "openai/m", "tools": [{"name": "f", "parameters": {"type": "object"}}],
                 "messages": [{"role": "user", "content": [{"text": "a"}, {"image": "https://e.org/a"}]}]}},
    {"source": {"path": "a.jsonl"}, "model": "local/m"},
]  # fmt: skip

BAD: list[dict[str, Any]] = [
    {"request": {"model": "m", "prompt": "a"}},
    {"request": {"model": "openai/m", "prompt": 1}},
    {"request": {"model": "openai/m", "prompt": "a", "promt": "b"}},
    {"request": {"model": "openai/m", "prompt": "a", "output": {"choice": ["a"]}}},
    {"request": {"model": "openai/m", "prompt": "a", "output": {"choice": ["a", "a"]}}},
    {"request": {"model": "openai/m", "prompt": "a", "output": "json"}},
    {"request": {"model": "openai/m", "prompt": "a", "stop": []}},
    {"request": {"model": "openai/m", "prompt": "a"}, "lane": {"deadline": "24"}},
    {"request": {"model": "openai/m", "prompt": "a"}, "attempts": 11},
    {"request": {"model": "openai/m", "prompt": "a"}, "name": "A"},
    {"request": {"model": "openai/m", "prompt": "a"}, "base": "/"},
]


def whole(part: dict[str, Any]) -> dict[str, Any]:
    return {"name": "a", "source": {"path": "a.csv"}, **part}


def test_it_is_a_valid_schema_without_what_users_cannot_set():
    schema = job_schema()
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert "base" not in schema["properties"]
    for section in (schema, *schema["$defs"].values()):
        assert section["additionalProperties"] is False
        for name, about in section["properties"].items():
            assert about.get("description"), name


@pytest.mark.parametrize("part", GOOD)
def test_what_the_model_takes_the_schema_takes(part):
    load_job_mapping(whole(part))
    jsonschema_rs.validator_for(job_schema()).validate(whole(part))


@pytest.mark.parametrize("part", BAD)
def test_what_the_model_refuses_the_schema_refuses(part):
    if "base" not in part:
        with pytest.raises(JobError):
            load_job_mapping(whole(part))
    assert not jsonschema_rs.validator_for(job_schema()).is_valid(whole(part))


def test_every_job_file_of_the_examples_is_valid():
    validator = jsonschema_rs.validator_for(job_schema())
    for path in (ROOT / "examples").rglob("*.bulk.yaml"):
        load_job(path)
        validator.validate(yaml.safe_load(path.read_text(encoding="utf-8")))


def test_the_reference_page_is_fresh():
    made = runpy.run_path(str(REFERENCE / "generate_job_file.py"))["page"]()
    page = (REFERENCE / "job-file.md").read_text(encoding="utf-8")
    assert page == made, "run python docs/reference/generate_job_file.py"


def test_the_job_on_the_reference_page_works(tmp_path):
    page = (REFERENCE / "job-file.md").read_text(encoding="utf-8")
    found = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert found is not None
    (tmp_path / "tickets.bulk.yaml").write_text(found[1])
    job = load_job(tmp_path / "tickets.bulk.yaml")
    assert isinstance(job, Job)
    jsonschema_rs.validator_for(job_schema()).validate(yaml.safe_load(found[1]))
