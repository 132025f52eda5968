"""What to do next, with the name of the job file in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bulkrate.cli.summary import next_steps
from bulkrate.jobs.load import load_job, load_job_mapping, openai_batch_job
from bulkrate.ledger.home import Home
from bulkrate.pipeline.workspace import Workspace

JOB = """\
name: tickets
source: {path: rows.jsonl, key: id}
request: {model: openai/gpt-4o-mini, prompt: "{{ body }}", max_output_tokens: 20}
sink: {path: answers.jsonl}
"""
LINE = '{"custom_id":"a","body":{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}}\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"id": "1", "body": "hi"}\n', encoding="utf-8")
    return tmp_path


@pytest.fixture
def workspace(folder: Path) -> Iterator[Workspace]:
    opened = Workspace(Home.find(folder, env={}), env={})
    yield opened
    opened.close()


def hint_of(workspace: Workspace, run: str) -> str:
    (hint,) = next_steps(workspace, workspace.run(run), {})
    return hint.split("`")[1]


def test_a_run_knows_the_file_of_its_job(folder: Path, workspace: Workspace) -> None:
    path = folder / "my tickets.bulk.yaml"
    path.write_text(JOB, encoding="utf-8")
    run = workspace.prepare(load_job("my tickets.bulk.yaml"))
    assert run.job_path == str(path)
    assert hint_of(workspace, run.id) == "bulkrate run 'my tickets.bulk.yaml'"

    (folder / "sub").mkdir()
    os.chdir(folder / "sub")
    assert hint_of(workspace, run.id) == f"bulkrate run '{path}'"


def test_a_job_that_was_moved_is_known_by_its_new_name(folder: Path, workspace: Workspace) -> None:
    path = folder / "old.bulk.yaml"
    path.write_text(JOB, encoding="utf-8")
    run = workspace.prepare(load_job(path))
    path.rename(folder / "new.bulk.yaml")
    assert hint_of(workspace, run.id) == "bulkrate run FILE"
    assert workspace.prepare(load_job("new.bulk.yaml")).id == run.id
    assert hint_of(workspace, run.id) == "bulkrate run new.bulk.yaml"
    # One that comes without a file takes no name away.
    made = load_job_mapping(
        {
            "name": "tickets",
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": {"model": "openai/gpt-4o-mini", "prompt": "{{ body }}", "max_output_tokens": 20},
            "sink": {"path": "answers.jsonl"},
        }
    )
    assert workspace.prepare(made).id == run.id
    assert workspace.run(run.id).job_path == str(folder / "new.bulk.yaml")


def test_a_batch_file_is_its_own_job_unless_a_model_was_named(folder: Path, workspace: Workspace) -> None:
    (folder / "batch.jsonl").write_text(LINE, encoding="utf-8")
    shutil.copy(folder / "batch.jsonl", folder / "more.jsonl")
    run = workspace.prepare(openai_batch_job("batch.jsonl"))
    assert hint_of(workspace, run.id) == "bulkrate run batch.jsonl"
    other = workspace.prepare(openai_batch_job("more.jsonl", model="openai/gpt-4o"))
    assert other.job_path is None


def test_a_name_that_is_no_text_is_kept_as_far_as_it_is_one(folder: Path, workspace: Workspace) -> None:
    path = os.fsdecode(os.fsencode(folder) + b"/\xff.bulk.yaml")
    Path(path).write_text(JOB, encoding="utf-8")
    run = workspace.prepare(load_job(path))
    assert run.job_path == str(folder / "?.bulk.yaml")
    assert hint_of(workspace, run.id) == "bulkrate run FILE"
