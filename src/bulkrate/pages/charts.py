"""Charts as SVG, drawn here: no script, no font, no address. Pure: numbers in, markup out.

A chart is a picture beside a table of the same numbers, never their only form.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

# What is drawn over time has the page's whole width, the rest half of it: letters then are of one size.
WIDE, NARROW, HEIGHT = 1000, 470, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 14, 30
_BAR, _GAP = 22, 8

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Line:
    """A quantity over time that grows in steps; `name` is its class in the style sheet too."""

    name: str
    label: str
    points: Sequence[tuple[datetime, float]]


@dataclass(frozen=True, slots=True)
class Span:
    """Something that lasted, with a moment in between: sent, ended, collected."""

    label: str
    begin: datetime
    middle: datetime
    end: datetime


def steps(lines: Sequence[Line], *, level: tuple[str, float] | None, show: Format) -> str:
    """Lines that grow in steps, and a level that they are held against."""
    moments = [at for line in lines for at, _ in line.points]
    if not moments:
        return ""
    begin, end = min(moments), max(moments)
    values = [value for line in lines for _, value in line.points]
    top = max([*values, level[1] if level else 0]) or 1.0
    x, y = _scale(begin, end), _height(top)
    parts = [*_grid(top, y, show, WIDE), *_days(begin, end, x)]
    if level is not None:
        name, value = level
        parts.append(
            f'<line class="level" x1="{_LEFT}" x2="{WIDE - _RIGHT}" y1="{y(value)}" y2="{y(value)}"/>'
        )
        parts.append(
            f'<text class="note" text-anchor="end" x="{WIDE - _RIGHT}" y="{max(y(value) - 5, 10)}">'
            f"{escape(name)}: {escape(show(value))}</text>"
        )
    for line in lines:
        path = f"M{x(begin)} {y(0)}"
        for at, value in sorted(line.points):
            path += f"H{x(at)}V{y(value)}"
        path += f"H{WIDE - _RIGHT}"
        last = max(value for _, value in line.points)
        parts.append(
            f'<path class="{line.name}" d="{path}"><title>{escape(line.label)}: {escape(show(last))}'
            "</title></path>"
        )
    return _svg(WIDE, HEIGHT, parts)


def columns(counts: Sequence[tuple[str, int]]) -> str:
    """A histogram: how many there are in each range, from the lowest."""
    if not counts:
        return ""
    top = max(count for _, count in counts) or 1
    y = _height(top)
    wide = (NARROW - _LEFT - _RIGHT) / len(counts)
    parts = _grid(top, y, "{:,.0f}".format, NARROW)
    every = math.ceil(len(counts) / 10)
    for place, (label, count) in enumerate(counts):
        left = _LEFT + place * wide
        parts.append(
            f'<rect class="bar" x="{left + 1:.1f}" y="{y(count)}" width="{max(wide - 2, 1):.1f}" '
            f'height="{y(0) - y(count):.1f}"><title>{escape(label)}: {count:,}</title></rect>'
        )
        if place % every == 0:
            parts.append(
                f'<text class="axis" text-anchor="middle" x="{left + wide / 2:.1f}" y="{HEIGHT - 10}">'
                f"{escape(label.partition('–')[0])}</text>"
            )
    return _svg(NARROW, HEIGHT, parts)


def bars(values: Sequence[tuple[str, float]], *, show: Format) -> str:
    """Quantities beside one another, the label in front and the value behind."""
    if not values:
        return ""
    top = max(value for _, value in values) or 1.0
    front, behind = 110, 90
    parts = []
    for place, (label, value) in enumerate(values):
        line = place * (_BAR + _GAP)
        wide = max((NARROW - front - behind) * value / top, 1)
        parts.append(
            f'<text class="axis" text-anchor="end" x="{front - 8}" y="{line + 15}">{escape(label)}</text>'
            f'<rect class="bar" x="{front}" y="{line}" width="{wide:.1f}" height="{_BAR}"/>'
            f'<text class="note" x="{front + 6 + wide:.1f}" y="{line + 15}">{escape(show(value))}</text>'
        )
    return _svg(NARROW, len(values) * (_BAR + _GAP), parts)


def spans(found: Sequence[Span]) -> str:
    """When each thing began, ended and was fetched, a line each."""
    if not found:
        return ""
    begin, end = min(span.begin for span in found), max(span.end for span in found)
    x = _scale(begin, end)
    tall = len(found) * 14 + _TOP + _BOTTOM
    parts = _days(begin, end, x, tall)
    for place, span in enumerate(found):
        line = _TOP + place * 14
        for name, left, right in (("waiting", span.begin, span.middle), ("fetching", span.middle, span.end)):
            parts.append(
                f'<rect class="{name}" x="{x(left)}" y="{line}" height="10" '
                f'width="{max(x(right) - x(left), 1):.1f}"><title>{escape(span.label)}</title></rect>'
            )
        parts.append(_left_of(line + 9, span.label))
    return _svg(WIDE, tall, parts)


def _svg(width: int, tall: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {width} {tall}" role="img">{"".join(parts)}</svg>'


def _scale(begin: datetime, end: datetime) -> Callable[[datetime], float]:
    lasted_s = (end - begin).total_seconds() or 1.0
    room = WIDE - _LEFT - _RIGHT
    return lambda at: round(_LEFT + room * (at - begin).total_seconds() / lasted_s, 1)


def _height(top: float) -> Callable[[float], float]:
    room = HEIGHT - _TOP - _BOTTOM
    return lambda value: round(_TOP + room * (1 - value / top), 1)


def _grid(top: float, y: Callable[[float], float], show: Format, width: int) -> list[str]:
    return [
        _across("grid", y(value), width) + _left_of(y(value) + 4, show(value))
        for value in (0.0, top / 2, top)
    ]


def _across(name: str, at: float, width: int) -> str:
    return f'<line class="{name}" x1="{_LEFT}" x2="{width - _RIGHT}" y1="{at}" y2="{at}"/>'


def _left_of(at: float, text: str) -> str:
    return f'<text class="axis" text-anchor="end" x="{_LEFT - 6}" y="{at}">{escape(text)}</text>'


def _days(begin: datetime, end: datetime, x: Callable[[datetime], float], tall: float = HEIGHT) -> list[str]:
    """Three moments under a chart, as precise as its length asks for."""
    lasted = end - begin
    form = "%d %b %H:%M" if lasted > timedelta(hours=1) else "%H:%M:%S"
    found = [(begin, "start"), (begin + lasted / 2, "middle"), (end, "end")] if lasted else [(begin, "start")]
    return [
        f'<text class="axis" text-anchor="{anchor}" x="{x(at)}" y="{tall - 10}">{at.strftime(form)}</text>'
        for at, anchor in found
    ]
