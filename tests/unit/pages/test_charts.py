"""Charts are well-formed, in proportion, and say nothing that is not data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from bulkrate.pages.charts import Line, Span, bars, columns, spans, steps
from bulkrate.pages.figures import ranges

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def show(value: float) -> str:
    return f"{value:.2f} <USD>"


def drawn(svg: str, kind: str, name: str) -> list[dict[str, str]]:
    return [dict(each.attrib) for each in ET.fromstring(svg).iter(kind) if each.get("class") == name]


def test_columns_are_as_high_as_their_counts() -> None:
    found = drawn(columns([("1", 5), ("2–3", 10), ("4–7", 0)]), "rect", "bar")
    heights = [float(each["height"]) for each in found]
    assert heights == [heights[1] / 2, heights[1], 0]


def test_bars_are_as_long_as_their_values() -> None:
    svg = bars([("a <b>", 50.0), ("c", 100.0)], show=show)
    first, second = (float(each["width"]) for each in drawn(svg, "rect", "bar"))
    assert 2 * first == pytest.approx(second)
    assert "a <b>" in "".join(ET.fromstring(svg).itertext())


def test_a_line_climbs_to_its_level() -> None:
    line = Line("spent", "spent", [(AT, 1.0), (AT + timedelta(hours=2), 3.0)])
    svg = steps([line], level=("at most", 3.0), show=show)
    level = drawn(svg, "line", "level")[0]
    path = drawn(svg, "path", "spent")[0]["d"]
    assert path.startswith("M72.0 ")
    assert f"V{level['y1']}" in path


def test_spans_follow_one_another() -> None:
    hour = timedelta(hours=1)
    svg = spans(
        [Span("0", AT, AT + hour, AT + 2 * hour), Span("1*", AT + hour, AT + 2 * hour, AT + 4 * hour)]
    )
    waiting, fetching = drawn(svg, "rect", "waiting"), drawn(svg, "rect", "fetching")
    assert float(waiting[0]["x"]) + float(waiting[0]["width"]) == pytest.approx(float(fetching[0]["x"]))
    assert float(fetching[1]["width"]) == pytest.approx(2 * float(waiting[1]["width"]), abs=0.2)


def test_one_moment_and_nothing_at_all_are_no_error() -> None:
    assert steps([], level=None, show=show) == columns([]) == bars([], show=show) == spans([]) == ""
    ET.fromstring(steps([Line("spent", "spent", [(AT, 0.0)])], level=None, show=show))
    ET.fromstring(spans([Span("0", AT, AT, AT)]))


def test_sizes_become_ranges_without_a_gap() -> None:
    assert ranges({0: 9, 1: 4, 3: 2}) == [("1", 4), ("2–3", 0), ("4–7", 2)]
    assert ranges({0: 3}) == []
