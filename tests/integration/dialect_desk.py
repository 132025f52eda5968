"""A desk over one dialect's counterpart: a folder with a source, jobs, and runs in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import FakeClock, MisbehavingProvider

PNG = "data:image/png;base64,iVBORw=="
BRIEF = {"create_timeout_s": "5", "listing_lag_s": "0"}


def upper(body: Any) -> str:
    """A model that gives the last turn in capitals."""
    return str(body["messages"][-1]["content"]).upper()


def shouted(rows: int) -> list[str]:
    """What `upper` answers to the rows of a desk."""
    return [f"TICKET {number}" for number in range(rows)]


class Desk:
    """A folder with a source of `rows` tickets, and workspaces over it against one provider."""

    def __init__(
        self,
        folder: Path,
        provider: MisbehavingProvider,
        clock: FakeClock,
        *,
        model: str,
        rows: int,
        env: Mapping[str, str] | None = None,
        limits: Mapping[str, str] | None = None,
    ) -> None:
        self.folder, self.provider, self.clock, self._model = folder, provider, clock, model
        kept = {f"BULKRATE_LIMITS__{n.upper()}": value for n, value in {**BRIEF, **(limits or {})}.items()}
        self.env = {**provider.env, **kept, **(env or {})}
        lines = [
            {"id": f"T-{n}", "body": f"ticket {n}", "image": PNG, "url": f"data:text/plain,{n}"}
            for n in range(rows)
        ]
        (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")

    def job(self, lane: Any = "batch", keep_remote: Any = "results", **request: Any) -> Any:
        asked = {"model": self._model, "max_output_tokens": 100, **request}
        if "messages" not in asked:
            asked.setdefault("prompt", "{{ body }}")
        document = {
            "name": "desk",
            "source": {"path": "rows.jsonl", "key": "id"},
            "request": asked,
            "lane": lane,
            "keep_remote": keep_remote,
            "sink": {"path": "answers.jsonl"},
        }
        return load_job_mapping(document, self.folder)

    @contextmanager
    def begun(self, job: Any = None) -> Iterator[tuple[Workspace, str]]:
        """A workspace and its approved run."""
        space = Workspace(Home.find(self.folder, env={}), clock=self.clock, env=self.env)
        try:
            run = space.approve(space.prepare(job or self.job()), decide=lambda quote: True)
            yield space, run.id
        finally:
            space.close()

    def run(self, job: Any = None) -> dict[str, Any]:
        with self.begun(job) as (space, run):
            done = anyio.run(lambda: space.advance(run, poll_s=60, timeout_s=8 * 86_400))
            return report(space.ledger, done)

    def answers(self) -> list[Any]:
        lines = (self.folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        return [json.loads(line)["output"] for line in lines]

    def sizes(self) -> list[int]:
        """How many rows each batch has."""
        return [batch["rows"] for batch in self.provider.snapshot()["batches"]]
