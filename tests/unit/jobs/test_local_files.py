"""Images and documents by path: read, turned into data: URLs, and never from outside the job's folder."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from bulkrate.core.problem import Problem
from bulkrate.core.request import DocumentPart, ImagePart
from bulkrate.errors import JobError
from bulkrate.jobs.load import load_job_mapping
from bulkrate.jobs.local_files import LARGEST_BYTES
from bulkrate.jobs.template import RowTemplate

PNG = b"\x89PNG\r\n\x1a\n not much of a picture"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A job's folder with scans in it, and a secret beside it."""
    (tmp_path / "secret.txt").write_text("a secret")
    home = tmp_path / "job"
    (home / "scans").mkdir(parents=True)
    (home / "scans.txt").mkdir()
    (home / "scans" / "1.PNG").write_bytes(PNG)
    (home / "scans" / "empty.png").write_bytes(b"")
    (home / "scans" / "1.pdf").write_bytes(b"%PDF-1.7")
    (home / "scans" / "out.txt").symlink_to(tmp_path / "secret.txt")
    (home / "scans" / "loop.txt").symlink_to(home / "scans" / "loop.txt")
    return home


def compiled(folder: Path, *parts: dict[str, Any], **request: Any) -> RowTemplate:
    chat = [{"role": "user", "content": [{"text": "What is it?"}, *parts]}]
    fields = {"model": "openai/gpt-5-mini", "messages": chat, **request}
    return RowTemplate(
        load_job_mapping({"name": "job", "source": {"path": "rows.csv"}, "request": fields}, folder)
    )


def test_a_file_becomes_the_part_it_is(folder: Path) -> None:
    template = compiled(
        folder,
        {"image": "scans/{{ id }}.PNG", "detail": "low"},
        {"document": "scans/{{ id }}.pdf", "name": "bill.pdf"},
        {"image": "https://example.org/{{ id }}.png"},
    )
    values = template.render({"id": 1})
    assert isinstance(values, list)
    _, image, document, remote = template.request_for(values).messages[0].content or ()
    assert image == ImagePart(f"data:image/png;base64,{base64.b64encode(PNG).decode()}", "low")
    assert document == DocumentPart("data:application/pdf;base64,JVBERi0xLjc=", "bill.pdf")
    assert remote == ImagePart("https://example.org/1.png")
    # Its place is a hole: what is counted are the texts.
    assert template.texts(values) == [("user", "What is it?")]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("scans/2.png", "no_file"),
        ("scans/1.PNG/more.txt", "no_file"),
        ("scans/loop.txt", "no_file"),
        ("scans/\ud800.txt", "no_file"),
        ("scans.txt/", "no_file"),
        ("scans.txt" * 100, "no_file"),
        ("scans/empty.png", "bad_file"),
        ("scans/1", "bad_file"),
        ("scans/1.exe", "bad_file"),
        ("../secret.txt", "bad_file"),
        ("scans/out.txt", "bad_file"),
        ("/etc/hosts.txt", "bad_file"),
        ("", "bad_url"),
        ("a\0b.png", "bad_url"),
        ("http://example.org/a.png", "bad_url"),
        ("file:///etc/hosts", "bad_url"),
    ],
)
def test_a_row_whose_file_cannot_be_sent_is_rejected(folder: Path, path: str, code: str) -> None:
    found = compiled(folder, {"document": "{{ path }}"}).render({"path": path})
    assert isinstance(found, Problem)
    assert found.code == code
    assert found.message.startswith("request.messages[0].content[1].document ")
    assert path not in found.message or not path


def test_a_document_is_no_image(folder: Path) -> None:
    found = compiled(folder, {"image": "{{ path }}"}).render({"path": "scans/1.pdf"})
    assert isinstance(found, Problem)
    assert ".webp" in found.message


def test_a_file_is_not_read_beyond_what_anybody_takes(folder: Path) -> None:
    with (folder / "large.png").open("wb") as file:
        file.truncate(LARGEST_BYTES + 1)
    found = compiled(folder, {"image": "{{ path }}"}).render({"path": "large.png"})
    assert isinstance(found, Problem)
    assert found.code == "too_large"


def test_files_may_lie_elsewhere(folder: Path) -> None:
    template = compiled(folder, {"document": "{{ path }}"}, files="..")
    assert isinstance(template.render({"path": "secret.txt"}), list)
    absolute = compiled(folder, {"document": "{{ path }}"}, files=str(folder / "scans"))
    assert isinstance(absolute.render({"path": str(folder / "scans" / "1.pdf")}), list)
    assert isinstance(absolute.render({"path": "../../secret.txt"}), Problem)


def test_a_file_of_every_row_is_looked_for_before_there_are_rows(folder: Path) -> None:
    part = {"document": "scans/1.pdf"}
    template = compiled(folder, part)
    assert isinstance(template.render({}), list)
    with pytest.raises(JobError, match="names no file that is there"):
        compiled(folder, {"document": "scans/2.pdf"})
    # A run that is under way goes on without it: its requests are made.
    (folder / "scans" / "1.pdf").unlink()
    assert RowTemplate(template._job).render({}) == Problem(
        "no_file", "request.messages[0].content[1].document names no file that is there"
    )
