"""Tests of the pages in Debian's Chromium; skipped where there is none. One server for each file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the pages are tested with playwright, which is missing")

from tests.pages.served import CHROMIUM, FLAGS, Served, Visit  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for one file's tests."""
    if not Path(CHROMIUM).exists():
        pytest.skip("the pages are tested in a browser: apt-get install chromium")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield made
        made.close()


@pytest.fixture
def visit(browser: Browser, served: Served) -> Iterator[Visit]:
    """The app, opened; the page must have asked no other host for anything and made no error."""
    made = Visit.to(browser, served.address)
    yield made
    made.close()
