"""The documents stay true: what they name exists, what they link to is there, what they show loads."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml

from bulkrate.jobs.load import load_job

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "src" / "bulkrate"
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")],
    key=lambda page: page.relative_to(ROOT),
)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
# Places of one machine. `/home/you` stands for the reader's.
OUTSIDE = re.compile(r"(?:^|[\s`\"'(=:])(?:/(?:tmp|root|mnt|srv|work|workspace)/|/home/(?!you\b))")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual renderers make them."""
    titles = (
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(prose(page))
    )
    return set(titles)


def named_paths(page: Path) -> list[str]:
    """What looks like a path among a page's code words."""
    words = INLINE_CODE.findall(prose(page))
    return [word for word in words if re.fullmatch(r"[\w.-]*\w(/[\w.-]+)*(/|\.py|\.toml)", word)]


def test_there_are_pages() -> None:
    assert {"README.md", "ARCHITECTURE.md"} <= {page.name for page in PAGES}


@pytest.mark.parametrize("page", ["ARCHITECTURE.md", "CONTRIBUTING.md", "AGENTS.md"])
def test_paths_that_are_named_exist(page: str) -> None:
    named = named_paths(ROOT / page)
    assert named
    # `wire.py` alone means the file of any provider.
    missing = [
        path
        for path in named
        if not (PACKAGE / path).exists() and not (ROOT / path).exists() and not any(PACKAGE.rglob(path))
    ]
    assert missing == []


def test_every_room_is_in_the_table() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    table = set(re.findall(r"^\| `(\w+)/` \|", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"), re.M))
    assert table == rooms


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial/first-run.md"])
def test_jobs_that_are_shown_load(page: str, tmp_path: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = [
        block
        for block in re.findall(r"^```yaml\n(.*?)^```$", text, re.M | re.S)
        if "name" in yaml.safe_load(block)
    ]
    assert blocks
    for number, block in enumerate(blocks):
        file = tmp_path / f"{number}.bulk.yaml"
        file.write_text(block, encoding="utf-8")
        assert load_job(file).request is not None


@each_page
def test_links_resolve(page: Path) -> None:
    broken = []
    for link in LINK.findall(prose(page)):
        if re.match(r"https?://|mailto:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        lost = not target.is_relative_to(ROOT) or not target.exists()
        if lost or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@each_page
def test_no_places_outside_the_project(page: Path) -> None:
    lines = page.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if OUTSIDE.search(line)] == []


def test_every_decision_is_listed() -> None:
    listed = set(LINK.findall(prose(ROOT / "docs" / "adr" / "README.md")))
    there = {page.name for page in (ROOT / "docs" / "adr").glob("[0-9]*.md")}
    assert there <= listed


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(index))}
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "adr"} - {index}
    assert sorted(str(page.relative_to(ROOT)) for page in pages - listed) == []


def test_the_page_of_providers_is_fresh() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "reference" / "generate_providers.py"))["page"]()
    page = (ROOT / "docs" / "reference" / "providers.md").read_text(encoding="utf-8")
    assert page == made, "run python docs/reference/generate_providers.py"
