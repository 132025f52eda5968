"""A desk over Bedrock's counterpart: a folder with a source, jobs, and runs in virtual time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio

from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import FakeClock, MisbehavingProvider

NOVA = "bedrock/us.amazon.nova-lite-v1:0"
CLAUDE = "bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0"
LLAMA = "bedrock/us.meta.llama3-3-70b-instruct-v1:0"
ROWS = 120
UPPER = [f"TICKET {number}" for number in range(ROWS)]


def upper(body: Any) -> str:
    return str(body["messages"][-1]["content"]).upper()


class Desk:
    """A folder with a source, and workspaces over it against one provider."""

    def __init__(
        self, folder: Path, provider: MisbehavingProvider, clock: FakeClock, env: dict[str, str] | None = None
    ) -> None:
        self.folder, self.provider, self.clock = folder, provider, clock
        self.env = {
            "AWS_ENDPOINT_URL": provider.base_url,
            "AWS_ACCESS_KEY_ID": provider.api_key,
            "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
            "AWS_REGION": "us-east-1",
            "BULKRATE_BEDROCK_S3": "s3://a-bucket/batches",
            "BULKRATE_BEDROCK_ROLE_ARN": "arn:aws:iam::123456789012:role/batches",
            "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "5",
            "BULKRATE_LIMITS__LISTING_LAG_S": "0",
            **(env or {}),
        }

    def write(self, rows: int = ROWS) -> None:
        png = "data:image/png;base64,iVBORw=="
        lines = [json.dumps({"id": f"T-{n}", "body": f"ticket {n}", "image": png}) for n in range(rows)]
        (self.folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def job(
        self, model: str = NOVA, lane: Any = "batch", keep_remote: Any = "results", **request: Any
    ) -> Any:
        asked = {"model": model, "max_output_tokens": 100, **request}
        if "messages" not in asked:
            asked["prompt"] = "{{ body }}"
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
        return [batch["rows"] for batch in self.provider.snapshot()["batches"]]
