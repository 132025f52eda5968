"""`bulkrate report`: the page as a file, whatever the run has come to."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

from command_line import CommandLine

WithProvider = Callable[..., CommandLine]


class Page(HTMLParser):
    """A page's text, and every address it names."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.addresses, self.tags = "", list[str](), list[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_of_a_run(with_provider: WithProvider) -> None:
    command = with_provider("truncate=2 bad_rows=1")
    command.ran(command.tickets(20), code=1)
    done = command("report", "tickets", "--html", "page.html")
    assert (done.code, done.out) == (0, ""), done.err
    assert "the page is " in done.err
    html = (command.folder / "page.html").read_text(encoding="utf-8")
    page = Page(html)
    assert page.addresses == []
    assert "script" not in page.tags
    pictures = [line for line in map(str.strip, html.splitlines()) if line.startswith("<svg")]
    assert len(pictures) == 8
    for picture in pictures:
        ET.fromstring(picture)
    for words in ("19succeeded", "1failed", "The bill", "by the tokens reported", "bad_request", "USD"):
        assert words in page.text.replace("\n", ""), words
    lines = (command.folder / "answers.jsonl").read_text(encoding="utf-8").splitlines()
    answers = {json.loads(line)["output"] for line in lines} - {None}
    assert answers
    assert not [answer for answer in [*answers, "Which department?"] if answer in html]


def test_a_run_that_nothing_was_sent_of_has_a_page_too(with_provider: WithProvider) -> None:
    command = with_provider()
    assert command("run", command.tickets(3), "--max-cost", "0").code == 4
    (command.folder / "pages").mkdir()
    for more in ([], ["--html", "pages"]):
        assert command("report", "tickets", *more).code == 0
    assert len(list(command.folder.glob("*.html"))) == len(list(command.folder.glob("pages/*.html"))) == 1
    (command.folder / "file").touch()
    done = command("report", "tickets", "--html", "file/page.html")
    assert (done.code, done.err[:11]) == (2, "error[out]:")
