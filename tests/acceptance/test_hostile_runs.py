"""The public hostile sets through a whole run: rows in are rows out, by status, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import KEY, MODEL, CommandLine, Result

from bulkrate.testing import ProviderProcess

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def through(
    folder: Path, source: str, *, key: str | None, prompt: str = "{{ text }}"
) -> tuple[Result, CommandLine]:
    """Run the source, which lies in the folder, to its end."""
    job = {
        "name": "hostile",
        "source": {"path": source} | ({"key": key} if key else {}),
        "request": {"model": MODEL, "prompt": prompt, "max_output_tokens": 5},
        "sink": {"path": "answers.jsonl"},
    }
    (folder / "hostile.bulk.json").write_text(json.dumps(job), encoding="utf-8")
    with ProviderProcess("", seed=7, api_key=KEY) as provider:
        command = CommandLine(folder, provider)
        return command("run", "hostile.bulk.json", "--yes", "--poll", "0.02", "--json"), command


def folder_of(name: str) -> Path:
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"shared/data/{name} is not there")
    return path


def by_status(command: CommandLine) -> dict[str, list[dict[str, object]]]:
    found: dict[str, list[dict[str, object]]] = {"succeeded": [], "failed": [], "rejected": []}
    for row in command.answers():
        found[row["status"]].append(row)
    return found


def test_naughty_strings(tmp_path: Path) -> None:
    strings = json.loads((folder_of("blns") / "blns.json").read_text(encoding="utf-8"))
    lines = [json.dumps({"id": number, "text": text}) for number, text in enumerate(strings)]
    (tmp_path / "blns.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    done, command = through(tmp_path, "blns.jsonl", key="id")
    rows = by_status(command)
    empty = [number for number, text in enumerate(strings) if not text.strip()]
    assert done.json()["rows"]["total"] == len(strings)
    assert [row["id"] for row in rows["rejected"]] == empty, "an empty prompt, and nothing else, is rejected"
    assert len(rows["succeeded"]) == len(strings) - len(empty)
    assert [row["id"] for row in command.answers()] == list(range(len(strings)))


def test_every_json_document_as_a_line_of_one_file(tmp_path: Path) -> None:
    files = sorted((folder_of("jsontestsuite") / "test_parsing").glob("*.json"))
    texts = {path.stem: path.read_bytes().strip(b"\n") for path in files}
    texts = {name: text for name, text in texts.items() if b"\n" not in text}
    content = [b'{"id":"%s","v":%s}' % (name.encode(), text) for name, text in texts.items()]
    (tmp_path / "all.jsonl").write_bytes(b"\n".join(content) + b"\n")
    done, command = through(tmp_path, "all.jsonl", key="id", prompt="{{ id }}: {{ v }}")
    rows = command.answers()
    assert done.json()["rows"]["total"] == len(rows) == len(texts)
    accepted = {row["id"] for row in rows if row["status"] == "succeeded"}
    # A null has no text to put into a prompt.
    assert {name for name in texts if name.startswith("y_")} - accepted == {"y_structure_lonely_null"}
    assert not [name for name in accepted if name.startswith("n_")]
    rejected = {
        row["error"]["message"].split(" ")[0].rstrip(":") for row in rows if row["status"] == "rejected"
    }
    for number, name in enumerate(texts, 1):
        if name.startswith("n_"):
            assert f"all.jsonl:{number}" in rejected, name


def test_every_json_document_as_a_file_of_a_glob(tmp_path: Path) -> None:
    expected = 0
    for path in sorted((folder_of("jsontestsuite") / "test_parsing").glob("*.json")):
        content = path.read_bytes()
        (tmp_path / f"{path.stem}.jsonl").write_bytes(content)
        lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        expected += sum(bool(line.strip(b" \t\r")) for line in lines)
    done, command = through(tmp_path, "[iny]_*.jsonl", key=None, prompt="A question")
    rows = command.answers()
    assert done.json()["rows"]["total"] == len(rows) == expected
    errors = [row["error"]["message"] for row in rows if row["status"] == "rejected"]
    for name in ("y_object", "y_object_basic", "y_object_escaped_null_in_key", "y_object_string_unicode"):
        assert not [error for error in errors if error.startswith(f"{name}.jsonl")]
    broken = [path for path in tmp_path.glob("n_*.jsonl") if path.read_bytes().strip(b" \n\t\r\xef\xbb\xbf")]
    assert {path.name for path in broken} <= {error.split(":")[0] for error in errors}


def test_sequences_of_bytes(tmp_path: Path) -> None:
    content = (folder_of("utf8tests") / "utf8tests.bin").read_bytes().splitlines()
    rows = [b'%d,"%s"' % (number, raw.replace(b'"', b'""')) for number, raw in enumerate(content)]
    (tmp_path / "utf8.csv").write_bytes(b"id,text\n" + b"\n".join(rows) + b"\n")
    done, command = through(tmp_path, "utf8.csv", key="id")
    assert done.json()["rows"]["total"] == len(content)
    for number, row in enumerate(command.answers()):
        valid = b":valid:" in content[number]
        assert row["status"] == ("succeeded" if valid else "rejected"), content[number]
