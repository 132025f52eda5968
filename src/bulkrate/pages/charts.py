"""Charts as SVG, drawn here: no script, no font, no address. Pure: numbers in, markup out.

Across, everything is in percent and letters are not: a chart is as wide as its place, on a desk or on a
telephone, and its letters are of one size. The style sheet leaves room beside a chart for what stands at its
edge. A chart is a picture beside a table of the same numbers, never their only form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

HEIGHT, TOP, BOTTOM = 220, 10, 26
_FLOOR = HEIGHT - BOTTOM
_BAR, _SPAN = 30, 14
_MOST_LABELS = 8  # beside one another on a telephone
_MOST_LETTERS = 16  # in front of a bar
_LEAST_COLUMNS = 6  # fewer are not drawn wider
_LAST = 97.0  # percent: where the last moment stands, so that what a line came to is seen

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """A quantity over time that grows in steps; `name` is its class in the style sheet."""

    name: str
    label: str
    points: Sequence[tuple[datetime, float]]


@dataclass(frozen=True, slots=True)
class Bar:
    """A quantity, and how it is written; `name` is its class in the style sheet."""

    name: str
    label: str
    value: float
    said: str


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted, with a moment in between: sent, ended, collected."""

    label: str
    begin: datetime
    middle: datetime
    end: datetime


def steps(lines: Sequence[Line], *, levels: Mapping[str, float], about: str, tick: Format) -> str:
    """Lines that grow in steps, and levels that they are held against, by their class in the style sheet."""
    moments = [at for line in lines for at, _ in line.points]
    if not moments:
        return ""
    begin, end = min(moments), max(moments)
    ticks = ticks_to(max([*(value for line in lines for _, value in line.points), *levels.values()]))
    x, y = _across(begin, end, _LAST), _up(ticks[-1])
    parts = [*_grid(ticks, y, tick), *_moments(begin, end, HEIGHT, _LAST)]
    for name, level in levels.items():
        parts.append(f'<line class="{name}" x1="0" x2="100%" y1="{y(level)}" y2="{y(level)}"/>')
    # Stretched to the width of the chart; the style sheet keeps the strokes from stretching, too.
    parts.append(
        f'<svg aria-hidden="true" viewBox="0 0 100 {HEIGHT}" height="{HEIGHT}" preserveAspectRatio="none">'
    )
    for line in lines:
        path = f"M{x(begin)} {y(0)}"
        for at, value in sorted(line.points):
            path += f"H{x(at)}V{y(value)}"
        parts.append(f'<path class="{line.name}" d="{path}H100"><title>{escape(line.label)}</title></path>')
    return _svg("steps", HEIGHT, [*parts, "</svg>"], about)


def columns(counts: Sequence[tuple[str, int]], *, about: str) -> str:
    """A histogram: how many there are in each range, from the lowest."""
    if not counts:
        return ""
    ticks = ticks_to(max(count for _, count in counts), whole=True)
    y = _up(ticks[-1])
    wide = 100 / max(len(counts), _LEAST_COLUMNS)
    first = (100 - len(counts) * wide) / 2
    parts = _grid(ticks, y, short)
    every = math.ceil(len(counts) / _MOST_LABELS)
    for place, (label, count) in enumerate(counts):
        left = first + place * wide
        parts.append(
            f'<rect class="bar" x="{left + 0.06 * wide:.2f}%" y="{y(count)}" width="{0.88 * wide:.2f}%" '
            f'height="{_FLOOR - y(count):.1f}"><title>{escape(label)}: {count:,}</title></rect>'
        )
        if place % every == 0:
            least = int(label.partition("–")[0].replace(",", ""))
            parts.append(_below(f"{left + wide / 2:.2f}%", HEIGHT, "middle", _power(least)))
    return _svg("columns", HEIGHT, parts, about)


def bars(values: Sequence[Bar], *, about: str) -> str:
    """Quantities beside one another, the label in front and the value behind."""
    if not values:
        return ""
    top = max(bar.value for bar in values) or 1.0
    parts = []
    for place, bar in enumerate(values):
        line, wide = place * _BAR, 100 * bar.value / top
        parts.append(
            f"{_left_of(line + 15, _cut(bar.label))}"
            f'<rect class="{bar.name}" x="0" y="{line}" width="{wide:.2f}%" height="{_BAR - 8}">'
            f"<title>{escape(bar.label)}: {escape(bar.said)}</title></rect>"
            f'<text class="axis" dx="6" x="{wide:.2f}%" y="{line + 15}">{escape(bar.said)}</text>'
        )
    return _svg("bars", len(values) * _BAR, parts, about)


def share(values: Sequence[Bar], *, about: str) -> str:
    """One bar, divided in proportion."""
    whole = sum(bar.value for bar in values)
    if not whole:
        return ""
    parts, left = [], 0.0
    for bar in values:
        wide = 100 * bar.value / whole
        parts.append(
            f'<rect class="{bar.name}" x="{left:.3f}%" y="0" width="{wide:.3f}%" height="12">'
            f"<title>{escape(bar.label)}: {escape(bar.said)}</title></rect>"
        )
        left += wide
    return _svg("share", 12, parts, about)


def spans(found: Sequence[Span], *, about: str) -> str:
    """When each thing began, ended and was fetched, a line each."""
    if not found:
        return ""
    begin, end = min(span.begin for span in found), max(span.end for span in found)
    x = _across(begin, end)
    tall = len(found) * _SPAN + TOP + BOTTOM
    parts = _moments(begin, end, tall)
    for place, span in enumerate(found):
        line = TOP + place * _SPAN
        for name, left, right in (("waiting", span.begin, span.middle), ("fetching", span.middle, span.end)):
            parts.append(
                f'<rect class="{name}" x="{x(left)}%" y="{line}" height="10" '
                f'width="{max(x(right) - x(left), 0.2):.3f}%"><title>{escape(span.label)}</title></rect>'
            )
        parts.append(_left_of(line + 9, span.label))
    return _svg("spans", tall, parts, about)


def ticks_to(top: float, *, whole: bool = False) -> list[float]:
    """Round numbers from zero to the first that is not below `top`, three to six of them."""
    if top <= 0:
        return [0.0, 1.0]
    unit = 10.0 ** math.floor(math.log10(top))
    step = next(unit * part for part in (0.2, 0.5, 1, 2) if top <= 5 * unit * part)
    if whole:
        step = max(step, 1.0)
    return [place * step for place in range(math.ceil(round(top / step, 9)) + 1)]


def short(value: float) -> str:
    """A count in a few letters, for an axis."""
    for size, letters in ((1e9, "bn"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letters}"
    return f"{value:g}"


def _power(number: int) -> str:
    """A power of two in a few letters, as it is usually said."""
    for size, letters in ((1 << 20, "M"), (1 << 10, "k")):
        if number >= size:
            return f"{number // size}{letters}"
    return str(number)


def _cut(label: str) -> str:
    """As much of a label as there is room for in front of a bar."""
    return label if len(label) <= _MOST_LETTERS else f"{label[: _MOST_LETTERS - 1]}…"


def _svg(kind: str, tall: float, parts: Sequence[str], about: str) -> str:
    return (
        f'<svg class="{kind}" height="{tall}" role="img" aria-label="{escape(about)}">{"".join(parts)}</svg>'
    )


def _across(begin: datetime, end: datetime, last: float = 100.0) -> Callable[[datetime], float]:
    lasted_s = (end - begin).total_seconds() or 1.0
    return lambda at: round(last * (at - begin).total_seconds() / lasted_s, 3)


def _up(top: float) -> Callable[[float], float]:
    return lambda value: round(TOP + (_FLOOR - TOP) * (1 - value / top), 1)


def _grid(ticks: Sequence[float], y: Callable[[float], float], tick: Format) -> list[str]:
    return [
        f'<line class="grid" x1="0" x2="100%" y1="{y(value)}" y2="{y(value)}"/>'
        + _left_of(y(value) + 4, tick(value))
        for value in ticks
    ]


def _left_of(at: float, text: str) -> str:
    return f'<text class="axis" text-anchor="end" x="-8" y="{at}">{escape(text)}</text>'


def _below(x: str, tall: float, anchor: str, text: str) -> str:
    return f'<text class="axis" text-anchor="{anchor}" x="{x}" y="{tall - 8}">{escape(text)}</text>'


def _moments(begin: datetime, end: datetime, tall: float, last: float = 100.0) -> list[str]:
    """Three moments under a chart, as precise as its length asks for; a day is named where it begins."""
    lasted = end - begin
    found = [(begin, "start", "0")]
    if lasted:
        found += [(begin + lasted / 2, "middle", f"{last / 2}%"), (end, "end", f"{last}%")]
    clock = "%H:%M:%S" if lasted < timedelta(hours=1) else "%H:%M"
    parts, day = [], None
    for at, anchor, x in found:
        form = clock if at.date() == day else f"%d %b {clock}"
        parts.append(_below(x, tall, anchor, at.strftime(form)))
        day = at.date()
    return parts
