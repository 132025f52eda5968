from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from bulkrate.errors import JobError
from bulkrate.jobs.load import load_job, load_job_mapping
from bulkrate.jobs.spec import Job
from bulkrate.jobs.template import RowTemplate

Complain = Callable[[str], tuple[list[str], str | None]]


@pytest.fixture
def complain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Complain:
    """Load job text that is wrong: the lines of the message, and the hint."""
    monkeypatch.chdir(tmp_path)

    def load(text: str, name: str = "job.bulk.yaml") -> tuple[list[str], str | None]:
        Path(name).write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        with pytest.raises(JobError) as caught:
            load_job(name)
        return str(caught.value).split("\n"), caught.value.hint

    return load


def job_asking(prompt: str | None = None, **request: Any) -> Job:
    """A job in memory whose request is of interest."""
    fields = {"model": "openai/gpt-5-mini", **request}
    if prompt is not None:
        fields["prompt"] = prompt
    return load_job_mapping({"name": "job", "source": {"path": "rows.csv"}, "request": fields})


def template(prompt: str | None = None, **request: Any) -> RowTemplate:
    return RowTemplate(job_asking(prompt, **request))
