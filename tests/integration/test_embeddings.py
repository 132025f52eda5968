"""Embedding jobs: whole runs on the misbehaving provider, on the live lane, and on the local model."""

from __future__ import annotations

import json
import os
import shutil
import signal
from array import array
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from batch_server_running import running

from bulkrate.errors import JobError
from bulkrate.jobs.load import load_job_mapping
from bulkrate.jobs.spec import LaneSpec
from bulkrate.ledger.home import Home
from bulkrate.pipeline.report import report
from bulkrate.pipeline.workspace import Workspace
from bulkrate.providers.local.launch import find_server
from bulkrate.server.engines.static import StaticEngine
from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.dialects.openai_lines import OpenAICodec


class Shelf:
    """A folder with texts, and the workspace over it."""

    def __init__(self, folder: Path, server: MisbehavingProvider | None = None) -> None:
        self.folder, self.server = folder, server
        self.env = {"BULKRATE_LIMITS__LISTING_LAG_S": "0", "BULKRATE_LIMITS__CREATE_TIMEOUT_S": "5"}
        if server is not None:
            self.env |= {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": server.api_key}

    def write(self, texts: list[Any]) -> None:
        lines = [json.dumps({"id": n, "text": text}) for n, text in enumerate(texts)]
        (self.folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")

    def space(self) -> Workspace:
        clock = FakeClock() if self.server is not None else None
        return Workspace(Home.find(self.folder, env={}), clock=clock, env=self.env)

    def job(self, sink: str = "vectors.parquet", **request: Any) -> Any:
        request = {"model": "openai/text-embedding-3-small", "embed": "{{ text }}", **request}
        source = {"path": "rows.jsonl", "key": "id"}
        document = {"name": "shelf", "source": source, "request": request, "sink": {"path": sink}}
        return load_job_mapping(document, self.folder)

    def run(self, sink: str = "vectors.parquet", **request: Any) -> dict[str, Any]:
        poll_s = 60 if self.server is not None else 0.05
        with closing(self.space()) as space:
            run = space.approve(space.prepare(self.job(sink, **request)), decide=lambda quote: True)
            done = anyio.run(lambda: space.advance(run.id, poll_s=poll_s))
            return {**report(space.ledger, done), "quote": space.quote(done)}

    def column(self) -> pa.ChunkedArray:
        return pq.read_table(self.folder / "vectors.parquet")["output"]


def test_vectors_in_parquet_through_the_main_faults(tmp_path: Path, misbehaving_provider: Any) -> None:
    faults = "missing=2 duplicate_rows=3 unknown_ids=2 expire_after=20 create_cut=1 cut_lines=1"
    shelf = Shelf(tmp_path, misbehaving_provider(faults))
    shelf.write([f"text {n}" for n in range(40)])
    found = shelf.run()
    assert found["rows"]["succeeded"] == 40
    assert (found["quote"].output_tokens_max, found["quote"].input_method) == (0, "exact")
    assert found["usage"]["output_tokens"] == 0
    column = shelf.column()
    assert column.type == pa.list_(pa.float32(), 8)
    shelf.server = misbehaving_provider()
    shelf.env |= {"OPENAI_BASE_URL": shelf.server.base_url}
    shutil.rmtree(tmp_path / ".bulkrate")
    shelf.run()
    assert shelf.column() == column, "each row has its own vector, whatever happened on the way"


def test_equal_texts_are_embedded_once_and_bad_rows_never(tmp_path: Path, misbehaving_provider: Any) -> None:
    shelf = Shelf(tmp_path, misbehaving_provider())
    shelf.write(["same"] * 10 + ["other", "  ", None])
    found = shelf.run(dimensions=4)
    assert found["rows"] == {"total": 13, "succeeded": 11, "failed": 0, "rejected": 2, "pending": 0}
    assert shelf.server is not None
    assert shelf.server.meter.rows_accepted == 2
    vectors = shelf.column().to_pylist()
    assert vectors[0] == vectors[9] != vectors[10]
    assert vectors[11:] == [None, None]
    assert shelf.column().type == pa.list_(pa.float32(), 4)


def test_the_same_vectors_in_every_sink_and_in_python(tmp_path: Path, misbehaving_provider: Any) -> None:
    shelf = Shelf(tmp_path, misbehaving_provider())
    shelf.write([f"text {n}" for n in range(3)])
    shelf.run()
    shelf.run("vectors.jsonl")
    with closing(shelf.space()) as space:
        (run,) = space.ledger.runs()
        (rows,) = space.rows(run.id)
        space.recollect(run.id)
    packed = [array("f", vector) for vector in shelf.column().to_pylist()]
    assert [row["output"] for row in rows] == packed
    lines = (tmp_path / "vectors.jsonl").read_text(encoding="utf-8").splitlines()
    assert [array("f", json.loads(line)["output"]) for line in lines] == packed
    assert shelf.server is not None
    assert shelf.server.meter.rows_accepted == 3


class Mixing(OpenAICodec):
    """Gives every other text a vector of another size."""

    def result(self, line: bytes, *given: Any) -> Any:
        request = json.loads(line)
        size = 4 + int(request["body"]["input"][0].split()[-1]) % 2
        request["body"]["dimensions"] = size
        return super().result(json.dumps(request).encode(), *given)


def test_a_model_that_mixes_sizes(tmp_path: Path, misbehaving_provider: Any) -> None:
    server = misbehaving_provider()
    server.state.codec = Mixing()
    for name in ("writer", "_writer"):
        if hasattr(server.state, name):
            getattr(server.state, name)._codec = Mixing()
    shelf = Shelf(tmp_path, server)
    shelf.write([f"text {n}" for n in range(6)])
    shelf.run()
    assert shelf.column().type == pa.list_(pa.float32())
    assert [len(vector) for vector in shelf.column().to_pylist()] == [4, 5, 4, 5, 4, 5]


def test_geminis_vectors_are_the_same_kind_of_column(tmp_path: Path, misbehaving_provider: Any) -> None:
    server = misbehaving_provider("missing=2", dialect="google")
    shelf = Shelf(tmp_path, server)
    shelf.env |= {"GOOGLE_GEMINI_BASE_URL": server.base_url, "GEMINI_API_KEY": server.api_key}
    shelf.write([f"text {n}" for n in range(9)])
    found = shelf.run(model="google/gemini-embedding-001", dimensions=8)
    assert found["rows"]["succeeded"] == 9
    assert shelf.column().type == pa.list_(pa.float32(), 8)


@pytest.mark.parametrize("lane", ["batch", "live"])
def test_a_server_of_ones_own_embeds_on_both_lanes(tmp_path: Path, lane: str) -> None:
    shelf = Shelf(tmp_path)
    shelf.write(["A baker sells bread.", "The train leaves.", "A baker sells bread."])
    with running(tmp_path / "server", engine=StaticEngine()) as server:
        shelf.env |= {"BULKRATE_SERVER_URL": server.url}
        job = shelf.job(model="bulkrate-server/wordllama-256")
        job = job.model_copy(update={"lane": LaneSpec(use=lane, poll=0.05)})
        with closing(shelf.space()) as space:
            run = space.approve(space.prepare(job), decide=lambda quote: True)
            anyio.run(lambda: space.advance(run.id))
    vectors = shelf.column().to_pylist()
    assert vectors[0] == vectors[2] != vectors[1]


# -- the local model -----------------------------------------------------------------------------------------


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Shelf]:
    yield Shelf(tmp_path)
    server = find_server(tmp_path / ".bulkrate" / "server" / "wordllama-256")
    if server is not None:
        os.kill(server.pid, signal.SIGTERM)


def test_nearest_neighbours_of_the_local_model_are_sane(local: Shelf) -> None:
    np = pytest.importorskip("numpy")
    texts = [
        "A baker sells bread and cakes.",
        "The train to the city leaves at noon.",
        "She bought three loaves at the bakery.",
        "How fast does the express train travel?",
        "My dog chased a cat up the tree.",
        "The kitten sleeps beside the puppy.",
    ]
    local.write(texts)
    found = local.run(model="local/wordllama-256")
    assert found["rows"]["succeeded"] == 6
    assert found["quote"].free
    assert found["usage"]["input_tokens"] == found["quote"].input_tokens
    vectors = np.array(local.column().to_pylist(), dtype=np.float32)
    assert vectors.shape == (6, 256)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    likeness = vectors @ vectors.T - 2 * np.eye(6)
    assert likeness.argmax(axis=1).tolist() == [2, 3, 0, 1, 5, 4]
    local.run(model="local/wordllama-256", dimensions=64)
    assert local.column().type == pa.list_(pa.float32(), 64)
    shorter = np.array(local.column().to_pylist(), dtype=np.float32)
    assert np.allclose(shorter * np.linalg.norm(vectors[:, :64], axis=1)[:, None], vectors[:, :64], atol=1e-5)


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (
            {"model": "local/wordllama-256", "embed": None, "prompt": "{{ text }}"},
            "embeds texts, it does not",
        ),
        ({"model": "local/smollm2-135m-instruct"}, "answers chats, it does not embed texts"),
        ({"model": "local/wordllama-256", "dimensions": 512}, "the vectors of wordllama-256 have 256"),
        ({"model": "groq/llama"}, "groq has no embeddings"),
    ],
)
def test_what_a_model_does_not_do_is_an_error_of_the_job(
    tmp_path: Path, request_: dict[str, Any], said: str
) -> None:
    shelf = Shelf(tmp_path)
    shelf.write(["a"])
    fields = {"model": "openai/m", "embed": "{{ text }}", **request_}
    job = {"name": "shelf", "source": {"path": "rows.jsonl"}, "request": fields}
    with closing(shelf.space()) as space, pytest.raises(JobError, match=said):
        space.prepare(load_job_mapping(job, tmp_path))


def test_all_columns_of_json_lines_stand_beside_the_vectors(
    tmp_path: Path, misbehaving_provider: Any
) -> None:
    shelf = Shelf(tmp_path, misbehaving_provider())
    rows = [{"id": 1, "text": "a", "status": "old"}, {"id": 2, "text": "b", "more": [1]}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    job = shelf.job()
    job = job.model_copy(update={"sink": job.sink.model_copy(update={"include": "all"})})
    with closing(shelf.space()) as space:
        run = space.approve(space.prepare(job), decide=lambda quote: True)
        anyio.run(lambda: space.advance(run.id, poll_s=60))
    table = pq.read_table(tmp_path / "vectors.parquet").select(["id", "text", "status", "more"])
    assert table.to_pylist() == [
        {"id": "1", "text": "a", "status": "old", "more": None},
        {"id": "2", "text": "b", "status": None, "more": "[1]"},
    ]
