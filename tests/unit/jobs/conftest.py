from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from bulkrate.errors import JobError
from bulkrate.jobs.load import load_job

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
