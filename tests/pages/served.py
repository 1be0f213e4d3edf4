"""A workbench in a process of its own, and what a person does with its pages in a browser."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Locator, Page, Request, expect

from tests.waiting import until

ROOT = Path(__file__).resolve().parent.parent.parent
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WAIT = 60_000
"""Milliseconds: the machine may be busy with other tests."""
_POLL = re.compile(r'"data":\[null,-?\d+\]')
TABS = ("Examples", "Check", "Teach", "Compare", "Runs", "Model")


class Served:
    """The app with its runs in `runs`, on a free port, until the end of the block.

    Args:
        worker: how to start the worker; None for the real one.
        hold: the step at which the fake worker waits until it is stopped.
    """

    def __init__(self, runs: Path, worker: list[str] | None = None, hold: int | None = None) -> None:
        program = (
            "from pathlib import Path\nfrom workbench.app.server import Options, serve\n"
            f"serve(Options(Path({str(runs)!r}), port=0, worker={worker!r}))"
        )
        # As a person starts it, wherever the worker is the real one.
        typed = ["-m", "workbench", "app", "--runs", str(runs), "--port", "0"]
        # Away from the terminal of the tests, and with its own copy of their settings.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        if hold is not None:
            environment["FAKE_HOLD_AT"] = str(hold)
        self.runs = runs
        self._said = runs.with_name(f"{runs.name}-said.txt")
        self._said.parent.mkdir(parents=True, exist_ok=True)
        with self._said.open("w") as said:
            self.process = subprocess.Popen(
                [sys.executable, *(typed if worker is None else ["-c", program])],
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=environment,
                cwd=ROOT,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "http://" in line, "the server did not start"
        self.address = line.split()[-1]

    def __enter__(self) -> Served:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        said = self._said.read_text()
        assert "Traceback" not in said, said

    def worker_pid(self) -> int:
        """The process that owns the model."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        found = {int(child) for listed in children for child in listed.read_text().split()}
        assert len(found) == 1, found
        return found.pop()


@contextmanager
def desktop(browser: Browser, profile: Path) -> Iterator[BrowserContext]:
    """A window whose tabs hide one another, as a person's do.

    Playwright tells each page of a browser that it starts itself to take itself for the one in front. So this one is
    started by hand, and Playwright is asked to leave its pages alone.
    """
    command = [CHROMIUM, *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            where = next(line.split()[-1] for line in process.stderr if line.startswith("DevTools listening on "))
            joined = browser.browser_type.connect_over_cdp(where, no_defaults=True)
            yield joined.contexts[0]
            joined.close()
        finally:
            process.terminate()


@dataclass
class Visit:
    """A page of the app in a browser; notes what went wrong in it and whom it asked for anything."""

    page: Page
    context: BrowserContext
    address: str
    errors: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    @classmethod
    def to(cls, browser: Browser, address: str, **options: Any) -> Visit:
        """Open the app in a new window."""
        return cls.tab_of(browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}), address)

    @classmethod
    def tab_of(cls, context: BrowserContext, address: str) -> Visit:
        """Open the app in one more tab of a window."""
        context.set_default_timeout(WAIT)
        visit = cls(context.new_page(), context, address)
        own = urlsplit(address).netloc

        def asked(request: Request) -> None:
            where = urlsplit(request.url)
            if where.scheme not in ("data", "blob") and where.netloc != own:
                visit.elsewhere.append(request.url)

        context.on("request", asked)
        visit.page.on("pageerror", lambda error: visit.errors.append(str(error)))
        visit.page.on("dialog", lambda dialog: visit.errors.append(dialog.message) or dialog.accept())
        visit.page.goto(address)
        visit.ready()
        return visit

    def close(self) -> None:
        """Close the window; the page must have made no error and asked no other host for anything."""
        self.context.close()
        assert not self.elsewhere, self.elsewhere
        assert not self.errors, self.errors

    def ready(self) -> None:
        """Wait until the page has been told how things stand and the model is loaded, whatever it is doing."""
        self.says("#status", re.compile(r"Ready\.|Teaching|Stopping|Checking|Working"))

    def tab(self, name: str) -> None:
        """Go to a tab."""
        tab = self.page.get_by_role("tab", name=name, exact=True)
        tab.click()
        expect(tab).to_have_attribute("aria-selected", "true", timeout=WAIT)

    def polled(self) -> None:
        """Wait until a poll is answered that was begun after all that was done: nothing from before comes any more."""
        for _ in range(2):  # one may be under way
            with self.page.expect_response(lambda r: bool(_POLL.search(r.request.post_data or "")), timeout=WAIT):
                pass

    def at(self, selector: str) -> Locator:
        """What a selector names."""
        return self.page.locator(selector)

    def button(self, name: str) -> Locator:
        """A button that can be seen, by its name."""
        return self.page.get_by_role("button", name=name, exact=True).locator("visible=true")

    def press(self, name: str) -> None:
        """Press a button that can be seen, as soon as it can be pressed."""
        self.button(name).first.click()

    def says(self, selector: str, words: str | re.Pattern[str]) -> None:
        """Wait until a part of the page says something."""
        expect(self.at(selector)).to_contain_text(words, timeout=WAIT)

    def finished(self, run: str, steps: int) -> None:
        """Wait until this run has been taught; the one before has finished, too."""
        self.says("#teach-state", re.compile(rf"\b{run}\b.*Finished after {steps} steps\.", re.DOTALL))

    def becomes(self, script: str, wanted: Any, argument: Any = None) -> Any:
        """What a script gives as soon as that is `wanted`, or in the end: a page that is being drawn moves."""
        with suppress(AssertionError):
            until(lambda: self.page.evaluate(script, argument) == wanted, 15)
        return self.page.evaluate(script, argument)

    def use_set(self) -> None:
        """Choose the first sample set."""
        self.tab("Examples")
        self.press("Use this set")
        # What the steps say may be left from the test before.
        self.says("#examples-said", "200 examples are in use")
        self.says("#steps", "140 teach, 60 kept back")

    def start(self, steps: int, name: str = "") -> None:
        """Teach what is loaded."""
        self.tab("Teach")
        # The first poll fills in the form, and lets it be pressed; a number typed before that would be overwritten.
        expect(self.button("Start teaching")).to_be_enabled(timeout=WAIT)
        self.type("How long (steps)", str(steps))
        if name:
            self.type("Name of the run", name)
        self.press("Start teaching")

    def type(self, label: str, text: str) -> None:
        """Write into a field and leave it."""
        box = self.page.get_by_label(label).locator("visible=true").first
        box.fill(text)
        box.blur()
        expect(box).to_have_value(text, timeout=WAIT)
