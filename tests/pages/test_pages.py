"""The pages with a worker that answers at once: another look at a run, narrow, dark, by keyboard, by hostile words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.desks import FAKE
from tests.pages.served import TABS, WAIT, Served, Visit

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOLD = 3
IMAGE = "<img src=x onerror=window.broken=1>"
SCRIPT = "</script><script>window.broken=1</script>"
LONG = "long " * 20_000
HOSTILE = [
    {"prompt": f"{IMAGE} one", "demonstration": f"{SCRIPT} a", "answer": f"{IMAGE}"},
    {"prompt": f"{SCRIPT} two", "demonstration": f"{IMAGE} b", "answer": f"{SCRIPT}"},
    {"prompt": "\u202eright to left\u2067 three", "demonstration": "\u202edemonstration", "answer": "\u202eanswer"},
    {"prompt": f"{LONG} four", "demonstration": LONG, "answer": LONG},
]


@pytest.fixture(scope="module")
def served(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app with the fake worker, whose runs wait at step 3."""
    with Served(tmp_path_factory.mktemp("pages") / "runs", FAKE, HOLD) as made:
        yield made


def findings(page: Page) -> list[str]:
    """
    What axe finds that is serious or worse, in a line each.

    A button on its way to another state has a colour of neither, so states change at once here, as for who asks for it.
    One that changes while axe looks has a colour of neither all the same: what is found has to be there a second time.
    """
    page.emulate_media(reduced_motion="reduce")
    found: list[str] = []
    for again in (False, True):
        page.wait_for_function("document.getAnimations().every(a => a.playState !== 'running')")
        seen = [
            f"{one['impact']} {one['id']}: {node['html'][:200]}"
            for one in Axe().run(page).response["violations"]
            if one["impact"] in ("serious", "critical")
            for node in one["nodes"]
        ]
        found = [line for line in seen if line in found] if again else seen
        if not found:
            break
    return found


def wider(visit: Visit) -> int:
    """By how many pixels the page is wider than its window."""
    return int(visit.becomes("document.documentElement.scrollWidth - document.documentElement.clientWidth", 0))


def test_a_run_is_the_same_after_a_refresh_in_a_second_tab_and_until_it_is_stopped(
    browser: Browser, visit: Visit, served: Served
) -> None:
    visit.use_set()
    visit.start(50, "watched")
    visit.says("#teach-state", f"Step {HOLD} of 50")
    visit.page.reload()
    visit.says("#status", f"Teaching watched: step {HOLD} of 50")
    # It is the page that was open before.
    expect(visit.page.get_by_role("tab", name="Teach", exact=True)).to_have_attribute("aria-selected", "true")
    visit.says("#teach-state", f"Step {HOLD} of 50")
    expect(visit.at("#token-map .tk").first).to_be_attached(timeout=WAIT)
    second = visit.context.new_page()
    second.goto(served.address)
    second.get_by_role("tab", name="Teach", exact=True).click()
    expect(second.locator("#teach-state")).to_contain_text(f"Step {HOLD} of 50", timeout=WAIT)
    visit.press("Stop")
    visit.says("#teach-state", f"Stopped at step {HOLD} of 50")
    expect(second.locator("#teach-state")).to_contain_text(f"Stopped at step {HOLD} of 50", timeout=WAIT)
    expect(visit.button("Resume")).to_be_enabled(timeout=WAIT)


def test_an_answer_is_stopped_and_the_run_is_not(visit: Visit) -> None:
    visit.use_set()
    visit.start(50, "meanwhile")
    visit.says("#teach-state", f"Step {HOLD} of 50")
    visit.tab("Compare")
    visit.type("Question", "please hold this")
    expect(visit.at("#compare-stop")).to_be_disabled(timeout=WAIT)
    visit.press("Ask all three")
    visit.says("#answer-base", "Answering")
    visit.at("#compare-stop").click()
    visit.says("#compare-notice", "It was stopped before it had finished")
    visit.says("#answer-base", "Stopped here")
    expect(visit.at("#compare-stop")).to_be_disabled(timeout=WAIT)
    visit.says("#status", f"Teaching meanwhile: step {HOLD} of 50")
    visit.type("Question", "")
    visit.tab("Teach")
    visit.press("Stop")
    visit.says("#teach-state", f"Stopped at step {HOLD} of 50")


def test_the_first_two_clicks_by_keyboard_alone(visit: Visit) -> None:
    def go_to(name: str, key: str = "Tab") -> None:
        focused = "document.activeElement.textContent.trim()"
        for _ in range(80):
            visit.page.keyboard.press(key)
            if visit.page.evaluate(focused) == name:
                return
        pytest.fail(f"{name} is not reached by {key}")

    go_to("Use this set")
    visit.page.keyboard.press("Enter")
    visit.says("#examples-said", "200 examples are in use")
    visit.says("#steps", "140 teach, 60 kept back")
    expect(visit.button("Download")).to_be_enabled(timeout=WAIT)
    go_to("Download")
    with visit.page.expect_download() as downloaded:
        visit.page.keyboard.press("Enter")
    assert downloaded.value.suggested_filename == "zorbic.jsonl"
    assert len(downloaded.value.path().read_text().splitlines()) == 200
    go_to("Check", "Shift+Tab")
    visit.page.keyboard.press("Enter")
    go_to("Check the teacher")
    visit.page.keyboard.press("Enter")
    visit.says("#verdict", "Good to teach.")


def test_a_row_that_was_mended_is_as_low_as_the_others(visit: Visit) -> None:
    visit.type("Paste examples", "prompt,demonstration\nOne?,It is 1.\nTwo?,\nThree?,It is 3.")
    visit.press("Use what I pasted")
    visit.says("#examples-table", "The answer of the example is blank.")
    cell = visit.at("#examples-table .virtual-row").nth(1).locator(".body-cell").nth(3)
    cell.dblclick()
    cell.locator("textarea").fill("It is 2.")
    visit.page.keyboard.press("Enter")
    visit.says("#examples-said", "1 row changed.")
    expect(visit.at("#examples-table")).not_to_contain_text("blank", timeout=WAIT)
    heights = "[...document.querySelectorAll('#examples-table .virtual-row')].map(row => row.offsetHeight)"
    assert visit.becomes(f"new Set({heights}).size", 1) == 1, visit.page.evaluate(heights)


def test_no_serious_finding_of_axe_on_any_tab(visit: Visit) -> None:
    visit.use_set()
    found = {}
    for dark in (False, True):
        if dark:
            visit.page.goto(f"{visit.address}?__theme=dark")
            visit.ready()
            expect(visit.at("body.dark")).to_be_attached(timeout=WAIT)
        for tab in TABS:
            visit.tab(tab)
            found[f"{tab}{' dark' if dark else ''}"] = findings(visit.page)
    assert not any(found.values()), json.dumps({tab: lines for tab, lines in found.items() if lines}, indent=1)


def test_no_tab_is_wider_than_a_phone(browser: Browser, served: Served) -> None:
    visit = Visit.to(browser, served.address, viewport={"width": 390, "height": 844}, has_touch=True)
    found = {}
    for tab in TABS:
        visit.tab(tab)
        found[tab] = wider(visit)
    visit.close()
    assert found == dict.fromkeys(TABS, 0)


def test_how_it_goes_and_what_it_answers_are_in_view_on_a_laptop(browser: Browser, served: Served) -> None:
    height = 720
    visit = Visit.to(browser, served.address, viewport={"width": 1280, "height": height})
    lowest = "names => Math.max(...names.map(name => document.querySelector(name).getBoundingClientRect().bottom))"
    visit.use_set()
    visit.start(HOLD, "seen")
    visit.finished("seen", HOLD)
    visit.says("#meters", "Retention")
    assert 0 < visit.page.evaluate(lowest, ["#meters"]) < height
    visit.tab("Compare")
    expect(visit.page.get_by_label("Student of run")).to_have_value("seen", timeout=WAIT)
    visit.press("Ask all three")
    visit.says("#answer-student .wb-note", "token")
    assert 0 < visit.page.evaluate(lowest, [f"#answer-{role}" for role in ("base", "teacher", "student")]) < height
    visit.close()


def harmless(visit: Visit) -> None:
    """Nothing that was written became a part of the page."""
    assert visit.page.evaluate("window.broken") is None
    assert visit.at("img[src=x]").count() == 0
    assert visit.at("#status").is_visible()


def test_words_that_look_like_html_stay_words(visit: Visit) -> None:
    visit.tab("Examples")
    text = "\n".join(json.dumps(row) for row in HOSTILE).encode()
    name = f"{IMAGE.replace('/', '')}\u202e.jsonl"
    files = visit.page.locator("#upload input[type=file]")
    files.set_input_files([{"name": name, "mimeType": "application/json", "buffer": text}])
    visit.says("#steps", "2 teach, 1 kept back, 1 wrong")
    visit.says("#examples-table", "two")
    harmless(visit)
    visit.tab("Check")
    visit.press("Check the teacher")
    visit.says("#verdict", "Good to teach.")
    visit.says("#check-table", "two")
    harmless(visit)
    visit.start(HOLD, IMAGE)
    visit.says("#teach-problem", "name")
    harmless(visit)
    visit.type("Name of the run", "hostile")
    expect(visit.at("#teach-problem")).not_to_contain_text("name", timeout=WAIT)
    visit.press("Start teaching")
    visit.finished("hostile", HOLD)
    harmless(visit)
