"""The system's chromium, and pages to open in it. Nothing is downloaded."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright
from shown_runs import Shown, show

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def chromium() -> str:
    """The program. Without it: a skip, or a failure where CI is set."""
    found = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if found is None:
        reason = f"no browser is installed ({', '.join(PROGRAMS)})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module")
def shown(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The runs and their pages."""
    return show(tmp_path_factory.mktemp("shown"))


# For a module, not for the session: while it is open, Playwright has an event loop in this thread.
@pytest.fixture(scope="module")
def browser(chromium: str, shown: Shown) -> Iterator[Browser]:
    """Chromium, without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()
