"""A page as it stands in the browser: who asked for what, where each text is, which colours meet."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

Box = dict[str, float]

# Each text that is shown: where its lines are, its colour, and that of the surface behind it.
TEXTS = """() => {
  const seen = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const surface = element => {
    for (let each = element; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
    return 'none';
  };
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement, range = document.createRange();
    if (!node.data.trim() || parent.closest('title, style, script')) continue;
    range.selectNodeContents(node);
    const style = getComputedStyle(parent);
    for (const at of range.getClientRects())
      if (at.width && at.height) seen.push({
        text: node.data.trim(), left: at.left, right: at.right, top: at.top, bottom: at.bottom,
        ink: parent.closest('svg') ? style.fill : style.color, paper: surface(parent),
      });
  }
  return seen;
}"""

# Each mark of a chart, its colour, and that of the surface behind it; `said` is what it says when pointed at.
MARKS = """() => [...document.querySelectorAll('svg rect, svg path, svg line:not(.grid)')].map(each => {
  const at = each.getBoundingClientRect(), style = getComputedStyle(each);
  const card = each.closest('section') || document.body, chart = each.closest('svg[role]');
  return {
    kind: each.tagName, name: each.getAttribute('class'), chart: chart.getAttribute('aria-label'),
    said: each.textContent, left: at.left, right: at.right, top: at.top, bottom: at.bottom,
    width: at.width, height: at.height,
    ink: each.tagName === 'rect' ? style.fill : style.stroke, paper: getComputedStyle(card).backgroundColor,
  };
})"""

# What a person reads in the tables: by the table's name, its lines.
TABLES = """() => Object.fromEntries([...document.querySelectorAll('table')].map(table => [
  table.getAttribute('aria-label') || table.closest('section').querySelector('h2').textContent,
  [...table.rows].map(row => [...row.cells].map(cell => cell.textContent)),
]))"""


@dataclass
class Look:
    """A page that is open, what it asked for over the network and what its console said."""

    page: Page
    asked: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def texts(self) -> list[dict[str, Any]]:
        return list(self.page.evaluate(TEXTS))

    def marks(self, chart: str = "") -> list[dict[str, Any]]:
        """The marks of the charts whose description begins so."""
        return [mark for mark in self.page.evaluate(MARKS) if mark["chart"].startswith(chart)]

    def tables(self) -> dict[str, list[list[str]]]:
        return dict(self.page.evaluate(TABLES))

    def open_all(self) -> None:
        """Open everything that can be opened."""
        self.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")


@contextmanager
def looking(browser: Browser, path: Path, *, width: int = 1280, scheme: Any = "light") -> Iterator[Look]:
    """Open a page in a window of this width."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    look = Look(page)
    page.on("request", lambda request: look.asked.append(request.url))
    page.on("console", lambda message: look.said.append(message.text))
    page.on("pageerror", lambda error: look.said.append(str(error)))
    page.on("dialog", lambda dialog: (look.said.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri())
    yield look
    context.close()


def overlapping(boxes: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other by more than a pixel."""
    return [
        (one["text"], other["text"])
        for one, other in combinations(boxes, 2)
        if min(one["right"], other["right"]) - max(one["left"], other["left"]) > 1
        and min(one["bottom"], other["bottom"]) - max(one["top"], other["top"]) > 1
    ]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG 2.2 defines it: from 1 to 21."""
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
