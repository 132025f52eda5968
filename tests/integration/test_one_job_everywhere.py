"""One job file, every dialect: only `model` changes, and the outcomes are the same."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
import zstandard
from dialects import DIALECTS

from bulkrate.jobs.load import load_job_mapping
from bulkrate.ledger.home import Home
from bulkrate.pipeline.workspace import Workspace
from bulkrate.testing import FakeClock, MisbehavingProvider
from bulkrate.testing.answers import schema

WORDS = ("late", "broken", "lost", "wrong", "fine")


def text_of(value: Any) -> str:
    """Every text of a prompt, in whatever shape the dialect has it."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return " ".join(text_of(item) for name, item in value.items() if name not in ("role", "type"))
    return " ".join(map(text_of, value)) if isinstance(value, list) else ""


def answer(body: Mapping[str, Any]) -> str:
    """A model that finds the word in the question, and gives it as the schema of the dialect wants it."""
    word = next(word for word in WORDS if word in text_of(body["messages"]))
    wanted = schema(body)
    if wanted is None:
        return f"It is {word}."
    return json.dumps({"label": word} if "properties" in wanted else word)


PICTURE = b"\x89PNG\r\n\x1a\n of a parcel"
OPENAI_CHAT = {"messages": [{"role": "user", "content": "{{ text }}"}]}
RAW = {
    "openai": OPENAI_CHAT,
    "azure": OPENAI_CHAT,
    "mistral": OPENAI_CHAT,
    "anthropic": OPENAI_CHAT,
    "google": {"contents": [{"role": "user", "parts": [{"text": "{{ text }}"}]}]},
    "bedrock": {"messages": [{"role": "user", "content": [{"text": "{{ text }}"}]}]},
}


@pytest.fixture(scope="module")
def expected() -> list[str]:
    return [WORDS[number % len(WORDS)] for number in range(30)]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("form", ["text", "choice", "raw", "image"])
def test_the_outcomes_are_the_same(tmp_path: Path, dialect: str, form: str, expected: list[str]) -> None:
    lines = [
        json.dumps({"id": n, "text": f"parcel {n} is {word}", "picture": "parcel.png"})
        for n, word in enumerate(expected)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "parcel.png").write_bytes(PICTURE)
    parts = [{"text": "{{ text }}"}, {"image": "{{ picture }}"}]
    asked = {
        "raw": {"raw": RAW[dialect]},
        "image": {"messages": [{"role": "user", "content": parts}]},
    }.get(form, {"system": "Be brief.", "prompt": "{{ text }}"})
    request = {"model": DIALECTS[dialect].model, "max_output_tokens": 50, **asked}
    output = {"choice": list(WORDS)} if form == "choice" else None
    document = {
        "name": "everywhere",
        "source": {"path": "rows.jsonl", "key": "id"},
        "request": request if output is None else {**request, "output": output},
        "sink": {"path": "answers.jsonl"},
    }
    clock = FakeClock()
    with MisbehavingProvider(
        "missing=1 duplicate_rows=3",
        dialect=dialect,
        answer=answer,
        now=clock.now,
        seed=3,
        limits=DIALECTS[dialect].limits,
    ) as provider:
        env = DIALECTS[dialect].env_for(provider)
        workspace = Workspace(Home.find(tmp_path, env={}), clock=clock, env=env)
        run = workspace.prepare(load_job_mapping(document, tmp_path))
        if form == "image":
            (bodies,) = (tmp_path / ".bulkrate").rglob("00000.lines.zst")
            sent = zstandard.ZstdDecompressor().decompressobj().decompress(bodies.read_bytes())
            assert sent.count(base64.b64encode(PICTURE)) == len(expected)
        run = workspace.approve(run, decide=lambda quote: True)
        anyio.run(lambda: workspace.advance(run.id, poll_s=60))
        workspace.close()
        assert provider.meter.rows_accepted == 31
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == list(range(30))
    assert {row["status"] for row in rows} == {"succeeded"}
    assert {row["error"] for row in rows} == {None}
    wanted = expected if output else [f"It is {word}." for word in expected]
    assert [row["output"] for row in rows] == wanted
