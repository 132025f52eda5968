"""Charts are well-formed, in proportion, and say nothing that is not data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from bulkrate.pages.charts import Bar, Line, Span, bars, columns, share, short, spans, steps, ticks_to
from bulkrate.pages.figures import ranges

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ABOUT = 'so "much" <USD>'


def drawn(svg: str, kind: str, name: str) -> list[dict[str, str]]:
    return [dict(each.attrib) for each in ET.fromstring(svg).iter(kind) if each.get("class") == name]


def percent(each: dict[str, str], name: str) -> float:
    return float(each[name].removesuffix("%"))


def test_columns_are_as_high_as_their_counts() -> None:
    found = drawn(columns([("1", 5), ("2–3", 10), ("4–7", 0)], about=ABOUT), "rect", "bar")
    heights = [float(each["height"]) for each in found]
    assert heights == [heights[1] / 2, heights[1], 0]


def test_bars_are_as_long_as_their_values() -> None:
    svg = bars([Bar("bar", "a <b>", 50.0, "50 <USD>"), Bar("bar", "c" * 40, 100.0, "100")], about=ABOUT)
    first, second = (percent(each, "width") for each in drawn(svg, "rect", "bar"))
    assert 2 * first == pytest.approx(second)
    text = "".join(ET.fromstring(svg).itertext())
    assert "a <b>" in text
    assert "50 <USD>" in text
    assert f"{'c' * 40}: 100" in text, "what is cut in front of the bar is said when it is pointed at"


def test_shares_fill_the_whole() -> None:
    svg = share([Bar("good", "succeeded", 3, "3"), Bar("bad", "failed", 1, "1")], about=ABOUT)
    (good,), (bad,) = drawn(svg, "rect", "good"), drawn(svg, "rect", "bad")
    assert (percent(good, "width"), percent(bad, "x"), percent(bad, "width")) == (75, 75, 25)


def test_a_line_climbs_to_its_level() -> None:
    line = Line("spent", "spent", [(AT, 1.0), (AT + timedelta(hours=2), 3.0)])
    svg = steps([line], levels={"level": 3.0}, about=ABOUT, tick=short)
    level = drawn(svg, "line", "level")[0]
    path = drawn(svg, "path", "spent")[0]["d"]
    assert path.startswith("M0.0 ")
    assert f"V{level['y1']}" in path
    assert path.endswith("H100")


def test_spans_follow_one_another() -> None:
    hour = timedelta(hours=1)
    svg = spans(
        [Span("0", AT, AT + hour, AT + 2 * hour), Span("1*", AT + hour, AT + 2 * hour, AT + 4 * hour)],
        about=ABOUT,
    )
    waiting, fetching = drawn(svg, "rect", "waiting"), drawn(svg, "rect", "fetching")
    assert percent(waiting[0], "x") + percent(waiting[0], "width") == pytest.approx(percent(fetching[0], "x"))
    assert percent(fetching[1], "width") == pytest.approx(2 * percent(waiting[1], "width"), abs=0.01)


def test_a_day_is_named_where_it_begins() -> None:
    def moments(hours: int) -> list[str]:
        svg = spans([Span("0", AT, AT, AT + timedelta(hours=hours))], about=ABOUT)
        return [each.text or "" for each in ET.fromstring(svg).iter("text")][:3]

    assert moments(2) == ["01 Mar 12:00", "13:00", "14:00"]
    assert moments(22) == ["01 Mar 12:00", "23:00", "02 Mar 10:00"]


def test_a_chart_says_what_it_shows() -> None:
    svg = ET.fromstring(columns([("1", 1)], about=ABOUT))
    assert (svg.get("role"), svg.get("aria-label")) == ("img", ABOUT)


def test_one_moment_and_nothing_at_all_are_no_error() -> None:
    assert steps([], levels={}, about=ABOUT, tick=short) == columns([], about=ABOUT) == ""
    assert bars([], about=ABOUT) == share([], about=ABOUT) == spans([], about=ABOUT) == ""
    ET.fromstring(steps([Line("spent", "spent", [(AT, 0.0)])], levels={}, about=ABOUT, tick=short))
    ET.fromstring(spans([Span("0", AT, AT, AT)], about=ABOUT))


@pytest.mark.parametrize(
    ("top", "ticks"),
    [
        (0, [0, 1]),
        (1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.057, [0, 0.02, 0.04, 0.06]),
        (240, [0, 50, 100, 150, 200, 250]),
    ],
)
def test_an_axis_has_round_numbers(top: float, ticks: list[float]) -> None:
    assert ticks_to(top) == pytest.approx(ticks)


def test_counts_have_no_halves() -> None:
    assert ticks_to(2, whole=True) == [0, 1, 2]


def test_large_counts_are_short() -> None:
    assert [short(each) for each in (0, 950, 1_500, 2_000_000, 3e9)] == ["0", "950", "1.5k", "2M", "3bn"]


def test_sizes_become_ranges_without_a_gap() -> None:
    assert ranges({0: 9, 1: 4, 3: 2}) == [("1", 4), ("2–3", 0), ("4–7", 2)]
    assert ranges({0: 3}) == []
