"""Jobs in memory whose request is of interest."""

from __future__ import annotations

from typing import Any

from bulkrate.jobs.load import load_job_mapping
from bulkrate.jobs.spec import Job
from bulkrate.jobs.template import RowTemplate


def job_asking(prompt: str | None = None, **request: Any) -> Job:
    fields = {"model": "openai/gpt-5-mini", **request}
    if prompt is not None:
        fields["prompt"] = prompt
    return load_job_mapping({"name": "job", "source": {"path": "rows.csv"}, "request": fields})


def template(prompt: str | None = None, **request: Any) -> RowTemplate:
    return RowTemplate(job_asking(prompt, **request))
