"""The page of a run as a person sees it: true, legible on a desk and on a telephone, by day and by night."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal
from itertools import pairwise

import pytest
from looking import contrast, looking, overlapping
from playwright.sync_api import Browser
from shown_runs import HOSTILE, Shown

from bulkrate.pricing.money import format_money

PAGES = ("paid", "waiting", "hostile")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_asks_for_nothing_and_complains_of_nothing(browser: Browser, shown: Shown, name: str) -> None:
    path = getattr(shown, name)
    with looking(browser, path) as look:
        look.open_all()
        assert look.asked == [path.as_uri()]
        assert look.said == []


def test_what_it_says_is_what_the_report_says(browser: Browser, shown: Shown) -> None:
    report, bill = shown.report, shown.bill
    with looking(browser, shown.paid) as look:
        facts = look.page.locator(".facts").all_inner_texts()
        tables = look.tables()
    rows, money = ([line.strip() for line in text.splitlines() if line.strip()] for text in facts)
    assert rows == [
        part
        for name, count in report["rows"].items()
        for part in (f"{count:,}", "rows" if name == "total" else name)
    ]
    cost, saving = Decimal(bill["cost"]), Decimal(bill["saving"])
    assert money[:3] == [format_money(cost), "spent", format_money(saving)]
    assert money[-2:] == [f"{100 * cost / Decimal(bill['quoted']):.0f} %", "of the quote's ceiling"]
    assert tables["What it cost, as the answers came"][-1][1:] == [
        format_money(cost),
        format_money(Decimal(bill["live"])),
    ]
    assert tables["Rows that failed, by class"][1:] == [[k, f"{n:,}"] for k, n in report["failures"].items()]
    quoted = format_money(Decimal(bill["quoted"]), rounding=ROUND_CEILING)
    assert tables["Bill, live price and quote"][-1] == ["quote, most", quoted]
    wasted = {ended: format_money(Decimal(each["cost"])) for ended, each in bill["wasted"].items()}
    assert dict(tables["Paid for without an answer"][1:]) == wasted != {}
    # Every request that reported its tokens is in the histogram; what is missing came back without.
    counted = sum(int(count.replace(",", "")) for _, count in tables["Output tokens per request"][1:])
    assert counted == report["requests"]["sent"] - report["failures"]["bad_request"] - MISSING


MISSING = 10  # rows that came in no file, by `shown_runs.FAULTS`; they were sent again


def test_charts_are_drawn_to_scale(browser: Browser, shown: Shown) -> None:
    cost, live, quoted = (Decimal(shown.bill[each]) for each in ("cost", "live", "quoted"))
    with looking(browser, shown.paid) as look:
        tables = look.tables()
        spent, at_live, level = (
            next(mark for mark in look.marks("Cost in USD") if mark["name"] == name)
            for name in ("spent", "live", "level")
        )
        tall = spent["bottom"] - level["top"]
        assert spent["height"] / tall == pytest.approx(float(cost / quoted), abs=0.02)
        assert at_live["height"] / tall == pytest.approx(float(live / quoted), abs=0.02)
        assert spent["width"] == at_live["width"] > 600
        assert spent["width"] == pytest.approx(level["width"])

        rows = shown.report["rows"]
        shares = {mark["said"].partition(":")[0]: mark["width"] for mark in look.marks("Rows. ")}
        assert set(shares) == {name for name in rows if rows[name]} - {"total"}
        for name, width in shares.items():
            assert width / sum(shares.values()) == pytest.approx(rows[name] / rows["total"], abs=0.01)

        bars = {mark["name"]: mark["width"] for mark in look.marks("Bill, live price")}
        assert bars["spent"] / bars["live"] == pytest.approx(float(cost / live), abs=0.01)

        for what in ("Input", "Output"):
            heights = [mark["height"] for mark in look.marks(f"{what} tokens of")]
            counts = [int(n.replace(",", "")) for _, n in tables[f"{what} tokens per request"][1:]]
            assert len(heights) == len(counts) > 4
            assert [h / sum(heights) for h in heights] == pytest.approx(
                [count / sum(counts) for count in counts], abs=0.01
            )

        waiting = [mark for mark in look.marks("When each") if mark["name"] == "waiting"]
        fetching = [mark for mark in look.marks("When each") if mark["name"] == "fetching"]
        assert len(waiting) == len(fetching) == len(tables["Shards: with the provider, then fetched"]) - 1 > 6
        assert all(one["top"] < other["top"] for one, other in pairwise(waiting))
        assert waiting[0]["right"] == pytest.approx(fetching[0]["left"], abs=1)


@pytest.mark.parametrize("width", [1280, 390])
def test_texts_keep_apart_and_stay_on_the_page(browser: Browser, shown: Shown, width: int) -> None:
    for name in PAGES:
        with looking(browser, getattr(shown, name), width=width) as look:
            look.open_all()
            texts = look.texts()
            assert len(texts) > 15
            assert [each["text"] for each in texts if each["left"] < 0 or each["right"] > width] == []
            assert [mark for mark in look.marks() if mark["left"] < 0 or mark["right"] > width] == []
            assert look.page.evaluate("document.documentElement.scrollWidth") <= width
            assert overlapping(texts) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(browser: Browser, shown: Shown, scheme: str) -> None:
    texts, marks = [], []
    for name in ("paid", "hostile"):
        with looking(browser, getattr(shown, name), scheme=scheme) as look:
            look.open_all()
            texts += look.texts()
            marks += look.marks()
    assert {"spent", "live", "level", "expected", "good", "bad", "waiting"} < {each["name"] for each in marks}
    # WCAG 2.2: 4.5 for text (1.4.3), 3 for what graphics are understood by (1.4.11).
    faint = {(each["text"], each["ink"]) for each in texts if contrast(each["ink"], each["paper"]) < 4.5}
    assert faint == set()
    assert {each["name"] for each in marks if contrast(each["ink"], each["paper"]) < 3} == set()
    papers = {each["paper"] for each in texts}
    assert all((contrast(paper, "rgb(255,255,255)") < 2) == (scheme == "light") for paper in papers)


def test_it_can_be_used_without_eyes_or_a_mouse(browser: Browser, shown: Shown) -> None:
    with looking(browser, shown.paid) as look:
        page = look.page
        for landmark in ("banner", "main", "contentinfo"):
            assert page.get_by_role(landmark).count() == 1
        assert page.get_by_role("heading", level=1).all_inner_texts() == ["tickets"]
        titles = [each.locator("h2").first.inner_text() for each in page.locator("section").all()]
        assert [page.get_by_role("region", name=title, exact=True).count() for title in titles] == [1] * 7
        pictures = page.get_by_role("img").all()
        assert len(pictures) == 8
        assert all(len(each.get_attribute("aria-label") or "") > 20 for each in pictures)

        summaries = page.locator("summary")
        for place in range(summaries.count()):
            page.keyboard.press("Tab")
            focused = page.locator(":focus")
            assert focused.evaluate("(each, i) => each === document.querySelectorAll('summary')[i]", place)
            assert focused.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
            page.keyboard.press("Enter")
        tables = page.get_by_role("table").all()
        assert len(tables) == summaries.count() + 1
        for table in tables:
            assert table.is_visible()
            assert table.get_by_role("rowheader").count() > 0
        assert page.get_by_role("table", name="Shards").get_by_role("columnheader").all_inner_texts() == [
            "shard",
            "sent",
            "ended",
            "fetched",
        ]


def test_names_are_text_whatever_is_in_them(browser: Browser, shown: Shown) -> None:
    with looking(browser, shown.hostile) as look:
        assert look.page.get_by_role("heading", level=1).inner_text() == HOSTILE
        assert look.page.title().startswith(HOSTILE)
        assert look.page.locator("img, script, b:not(.facts b)").count() == 0
        assert look.page.locator("code").inner_text() == HOSTILE
        said = [mark["chart"] for mark in look.marks("Rows that failed")]
        assert said == [f"Rows that failed, by class. {HOSTILE}: 3"]
        assert HOSTILE in look.tables()["The bill"][0]
        assert look.said == []
