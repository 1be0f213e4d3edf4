"""Picture the pages of the workbench from a real run: python docs/screenshots.py docs/pages

Starts the app on the bundled model with runs in a temporary folder, goes through the five clicks in Debian's Chromium,
and saves each page in light, dark and at the width of a phone; learning.png, what one watches while it learns; and
token-map.webp, in which the run is replayed: the student's own answers of some steps, one after the other. Needs the
test extra.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.pages.served import CHROMIUM, FLAGS, TABS, WAIT, Served, Visit  # noqa: E402

STEPS = "320"
FRAMES = (1, *range(40, int(STEPS) + 1, 40))
"""Steps of the animation."""

MIDWAY = "120"
"""A step at which the student has begun to learn, and the teacher still has much to say."""

LOOKS = {"light": (1200, "light"), "dark": (1200, "dark"), "phone": (390, "light")}


def go_through(browser: Browser, address: str) -> None:
    """The five clicks, up to a question asked of all three."""
    visit = Visit.to(browser, address)
    visit.use_set()
    visit.tab("Check")
    visit.press("Check the teacher")
    visit.says("#verdict", "Good to teach.")
    visit.start(int(STEPS), "zorbic")
    expect(visit.at("#teach-state")).to_contain_text("Finished after", timeout=10 * WAIT)
    visit.tab("Compare")
    expect(visit.page.get_by_label("Student of run")).to_have_value("zorbic", timeout=WAIT)
    visit.context.close()


def replayed(browser: Browser, address: str, width: int) -> Page:
    """The page Teach of the finished run, in light."""
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme="light").new_page()
    page.goto(f"{address}?__theme=light")
    expect(page.locator("#status")).to_contain_text("Ready.", timeout=WAIT)
    page.get_by_role("tab", name="Teach", exact=True).click()
    # It begins at 1, and moves when the run is there.
    expect(page.locator("#teach-step input[type=range]")).to_have_value(STEPS, timeout=WAIT)
    return page


def show_step(page: Page, step: str) -> Locator:
    """The token map, at this step."""
    page.locator("#teach-step input[type=range]").fill(step)
    place = page.locator("#token-map")
    expect(place).to_contain_text(f"answer at step {step}Question", timeout=WAIT)
    return place


def watch(browser: Browser, address: str, file: Path) -> None:
    """Skill, retention and an answer from midway, with what both considered at the first token they disagree on."""
    page = replayed(browser, address, 1280)
    place = show_step(page, MIDWAY)
    place.locator(".tk.wb-strong").first.focus()
    top, bottom = page.locator("#teach-state").bounding_box(), place.bounding_box()
    assert top is not None and bottom is not None
    margin = 16
    area = {
        "x": top["x"] - margin,
        "y": top["y"] - margin,
        "width": top["width"] + 2 * margin,
        "height": bottom["y"] + bottom["height"] - top["y"] + 2 * margin,
    }
    scrolled = page.evaluate("scrollY")
    page.screenshot(path=file, full_page=True, clip=area | {"y": area["y"] + scrolled})  # type: ignore[arg-type]
    page.context.close()


def animate(browser: Browser, address: str, file: Path) -> None:
    """The token map of a run's steps, replayed with the slider."""
    page = replayed(browser, address, 760)
    frames = []
    for step in FRAMES:
        shot = show_step(page, str(step)).screenshot()
        frames.append(Image.open(io.BytesIO(shot)).convert("RGB"))
    page.context.close()
    size = max(frame.width for frame in frames), max(frame.height for frame in frames)
    padded = []
    for frame in frames:
        whole = Image.new("RGB", size, frame.getpixel((0, 0)))
        whole.paste(frame, (0, 0))
        padded.append(whole)
    times = [900] * (len(padded) - 1) + [3000]
    padded[0].save(file, save_all=True, append_images=padded[1:], duration=times, loop=0, quality=80, method=6)


def picture(browser: Browser, address: str, look: str, folder: Path) -> None:
    """Every page in one look."""
    width, scheme = LOOKS[look]
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{address}?__theme={scheme}")
    expect(page.locator("#status")).to_contain_text("Ready.", timeout=WAIT)
    for tab in TABS:
        page.get_by_role("tab", name=tab, exact=True).click()
        if tab == "Compare":
            _ask(page)
        page.wait_for_timeout(2500)  # two polls, so that everything on the tab is up to date
        page.screenshot(path=folder / f"{tab.lower()}-{look}.png", full_page=True)
    context.close()


def _ask(page: Page) -> None:
    page.get_by_label("Question").locator("visible=true").first.fill("Translate hot cloud into Zorbic.")
    page.get_by_role("button", name="Ask all three", exact=True).locator("visible=true").first.click()
    expect(page.locator("#answer-student")).to_contain_text("token", timeout=WAIT)


def main() -> None:
    """Make all pictures."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as runs, Served(Path(runs) / "runs") as served, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        go_through(browser, served.address)
        for look in LOOKS:
            picture(browser, served.address, look, folder)
        watch(browser, served.address, folder / "learning.png")
        animate(browser, served.address, folder / "token-map.webp")
        browser.close()


if __name__ == "__main__":
    main()
