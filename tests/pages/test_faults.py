"""What goes wrong around the pages: a killed server, a page out of sight, files that are none, hostile words."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.desks import FAKE
from tests.pages.served import TABS, WAIT, Served, Visit, desktop
from tests.pages.test_pages import IMAGE, LONG, SCRIPT, findings, harmless, wider
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import APIResponse, Browser, Locator, Route

HOLD = 3


@pytest.fixture(scope="module")
def served(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The app with the fake worker, whose runs wait at step 3."""
    with Served(tmp_path_factory.mktemp("faults") / "runs", FAKE, HOLD) as made:
        yield made


def upload(visit: Visit, name: str, content: bytes) -> None:
    """Give a file to the page Examples."""
    visit.tab("Examples")
    files = visit.page.locator("#upload input[type=file]")
    files.set_input_files([{"name": name, "mimeType": "application/octet-stream", "buffer": content}])


def zipped() -> bytes:
    """A zip that is no spreadsheet."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr("hello.txt", "hello")
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("zip.xlsx", zipped(), "zip.xlsx"),
        ("broken.json", b'[{"prompt": "a", ', "broken.json"),
        ("zeros.jsonl", b'\0\0\0{"prompt"', "zeros.jsonl"),
        ("empty.csv", b"", "empty.csv"),
        ("picture.csv", b"\x89PNG\r\n\x1a\n", "picture.csv"),
    ],
)
def test_a_bad_file_is_refused_in_words_and_changes_nothing(visit: Visit, name: str, content: bytes, said: str) -> None:
    visit.use_set()
    upload(visit, name, content)
    visit.says("#examples-said", said)
    visit.says("#steps", "140 teach, 60 kept back")
    harmless(visit)


def test_a_number_that_cannot_be_is_refused_in_words(visit: Visit) -> None:
    visit.use_set()
    visit.tab("Teach")
    expect(visit.button("Start teaching")).to_be_enabled(timeout=WAIT)
    visit.type("How long (steps)", "0")
    visit.press("Start teaching")
    visit.says("#teach-problem", "How long (steps) is 0; it must be 1 or more.")
    visit.tab("Compare")
    visit.page.get_by_role("button", name="How the answers are drawn").click()
    visit.type("Longest answer", "-3")
    visit.type("Question", "What is red?")
    visit.press("Ask all three")
    visit.says("#compare-notice", "The longest answer must be between 1 and 4096 tokens.")
    visit.type("Longest answer", "0")


def test_a_file_that_is_too_big_is_refused_in_words(visit: Visit) -> None:
    visit.use_set()
    upload(visit, "big.csv", b"prompt,demonstration\n" + b"a,b\n" * 5_500_000)
    said = visit.page.get_by_test_id("toast-body").first
    expect(said).to_contain_text("20", timeout=WAIT)
    visit.says("#steps", "140 teach, 60 kept back")


def test_hostile_words_in_a_column_a_note_and_a_question(visit: Visit) -> None:
    column = f"{IMAGE}\u202e{SCRIPT}".replace('"', "")
    lines = [json.dumps({column: f"Q{i} {IMAGE}", "demonstration": f"{SCRIPT} {i}"}) for i in range(4)]
    upload(visit, "column.jsonl", "\n".join(lines).encode())
    visit.says("#examples-said", "column.jsonl")
    harmless(visit)
    visit.use_set()
    visit.start(HOLD, "noted")
    visit.finished("noted", HOLD)
    visit.tab("Runs")
    visit.polled()
    expect(visit.page.get_by_label("Run", exact=True)).to_have_value("noted", timeout=WAIT)
    visit.page.get_by_role("button", name="Rename, or note something").click()
    visit.type("Note on noted", f"{IMAGE} {SCRIPT} \u202e")
    visit.press("Keep the note")
    visit.says("#runs-said", "The note on noted is kept.")
    visit.says("#runs-table", "<img src=x")
    harmless(visit)
    visit.tab("Compare")
    expect(visit.page.get_by_label("Student of run")).to_have_value("noted", timeout=WAIT)
    asked = {f"{IMAGE} {SCRIPT}": IMAGE, "\u202e\u2067 right to left": "U+202EU+2067 right", LONG: LONG[:10]}
    for words, seen in asked.items():
        visit.page.get_by_label("Question").locator("visible=true").first.fill(words)
        visit.press("Ask all three")
        visit.says("#answer-base", f"I do not know: {seen}")  # what was asked before is still there
        visit.says("#answer-student .wb-note", "token")
        harmless(visit)
    visit.press("Ask them all")
    visit.says("#compare-list", "Of 60 test questions")
    harmless(visit)
    with visit.page.expect_download() as downloaded:
        visit.press("Download")
    assert downloaded.value.suggested_filename == "noted-end-held-out.csv"
    assert len(downloaded.value.path().read_text(encoding="utf-8-sig").splitlines()) == 61


def test_a_page_is_ready_when_what_is_loaded_has_arrived(browser: Browser, served: Served) -> None:
    first = Visit.to(browser, served.address)
    first.use_set()
    first.close()
    page = browser.new_context().new_page()
    held: list[tuple[Route, APIResponse]] = []

    def deliver(route: Route) -> None:
        answer = route.fetch()
        if "what is wrong" in answer.text() and not held:
            held.append((route, answer))
        else:
            route.fulfill(response=answer)

    polls = "**/gradio_api/run/**"
    page.route(polls, deliver)
    page.goto(served.address)
    for _ in range(4):
        with page.expect_response(polls, timeout=WAIT):
            pass
    expect(page.locator("#status")).not_to_contain_text("Ready.")
    for _ in range(12):
        page.keyboard.press("Tab")
        reached = page.evaluate("document.activeElement.closest('#pages')?.outerHTML.length ?? 0")
        assert not reached, "what a key brings now is overwritten"
    use = page.get_by_role("button", name="Use this set")
    expect(use).to_have_count(0)  # nor is it there for a pointer, or for who has the page read out
    route, answer = held[0]
    route.fulfill(response=answer)
    expect(page.locator("#status")).to_contain_text("Ready.", timeout=WAIT)
    expect(use).to_be_visible()
    expect(page.locator("#examples-table")).to_contain_text("Zorbic", timeout=WAIT)
    page.unroute_all(behavior="wait")
    page.context.close()


def test_an_answer_that_is_lost_on_its_way_is_given_again(visit: Visit) -> None:
    visit.use_set()
    visit.start(50, "unheard")
    visit.says("#teach-state", f"Step {HOLD} of 50")
    lost: list[str] = []

    def deliver(route: Route) -> None:
        answer = route.fetch()
        if "Stopped at step" in answer.text() and not lost:
            lost.append(answer.text())
            # As a tunnel or a proxy does in between.
            route.fulfill(status=502, json={"error": "Bad gateway"})
        else:
            route.fulfill(response=answer)

    visit.page.route("**/gradio_api/run/**", deliver)
    visit.press("Stop")
    visit.says("#teach-state", f"Stopped at step {HOLD} of 50")
    visit.page.unroute_all(behavior="wait")
    assert lost, "nothing was lost"


def test_a_page_that_was_closed_or_asleep_shows_the_run_as_it_is(
    browser: Browser, visit: Visit, served: Served
) -> None:
    visit.use_set()
    visit.start(50, "seen")
    visit.says("#teach-state", f"Step {HOLD} of 50")
    sleeper = visit.context.new_cdp_session(visit.page)
    sleeper.send("Page.setWebLifecycleState", {"state": "frozen"})  # as a browser does with a tab out of sight
    again = Visit.to(browser, served.address)
    again.says("#status", f"Teaching seen: step {HOLD} of 50")
    again.tab("Teach")
    again.says("#teach-state", f"Step {HOLD} of 50")
    again.press("Stop")
    again.says("#teach-state", f"Stopped at step {HOLD} of 50")
    again.close()
    sleeper.send("Page.setWebLifecycleState", {"state": "active"})
    visit.says("#teach-state", f"Stopped at step {HOLD} of 50")
    visit.says("#status", "Ready.")


def test_a_hidden_tab_shows_the_run_as_it_is_when_it_comes_back(
    browser: Browser, served: Served, tmp_path: Path
) -> None:
    with desktop(browser, tmp_path / "profile") as window:
        front, visit = (Visit.tab_of(window, served.address) for _ in range(2))
        visit.use_set()
        visit.start(50, "behind")
        visit.says("#teach-state", f"Step {HOLD} of 50")
        front.page.bring_to_front()
        woken = "window.woken = performance.now()"
        visit.page.evaluate(f"{woken}; setInterval(() => {{ {woken} }}, 100)")
        until(lambda: visit.page.evaluate("document.hidden"))
        # What the browser itself does with such a tab after some minutes.
        sleeper = window.new_cdp_session(visit.page)
        sleeper.send("Page.setWebLifecycleState", {"state": "frozen"})
        asleep = "document.hidden && performance.now() - window.woken > 2000"
        until(lambda: visit.page.evaluate(asleep))
        front.tab("Teach")
        front.press("Stop")
        front.says("#teach-state", f"Stopped at step {HOLD} of 50")
        expect(visit.at("#teach-state")).to_contain_text(f"Step {HOLD} of 50")
        assert visit.page.evaluate(asleep), "it followed the run all the time"
        visit.page.bring_to_front()
        expect(visit.at("#teach-state")).to_contain_text(f"Stopped at step {HOLD} of 50", timeout=WAIT)
        expect(visit.at("#status")).to_contain_text("Ready.", timeout=WAIT)
        for seen in (visit, front):
            assert not seen.errors + seen.elsewhere


def test_the_five_clicks_by_keyboard_alone(visit: Visit) -> None:
    def go_to(name: str, key: str = "Tab") -> None:
        focused = "document.activeElement.textContent.trim() || document.activeElement.getAttribute('aria-label')"
        for _ in range(160):
            visit.page.keyboard.press(key)
            if visit.page.evaluate(focused) == name:
                return
        pytest.fail(f"{name} is not reached by {key}")

    def enter(tab: str) -> None:
        go_to(tab, "Shift+Tab")
        visit.page.keyboard.press("Enter")
        expect(visit.page.get_by_role("tab", name=tab, exact=True)).to_have_attribute(
            "aria-selected", "true", timeout=WAIT
        )

    def go_into(field: Locator) -> None:
        expect(field).to_be_visible(timeout=WAIT)
        for _ in range(20):
            visit.page.keyboard.press("Tab")
            if field.evaluate("field => field === document.activeElement"):
                return
        pytest.fail("the field is not reached by Tab")

    go_to("Use this set")
    visit.page.keyboard.press("Enter")
    visit.says("#examples-said", "200 examples are in use")
    visit.says("#steps", "140 teach, 60 kept back")
    enter("Check")
    go_to("Check the teacher")
    visit.page.keyboard.press("Enter")
    visit.says("#verdict", "Good to teach.")
    enter("Teach")
    # What is greyed out is passed over.
    expect(visit.button("Start teaching")).to_be_enabled(timeout=WAIT)
    steps = visit.page.get_by_label("How long (steps)")
    go_into(steps)
    visit.page.keyboard.press("ControlOrMeta+a")
    visit.page.keyboard.type(str(HOLD))
    expect(steps).to_have_value(str(HOLD), timeout=WAIT)
    go_to("Start teaching")
    visit.page.keyboard.press("Enter")
    visit.says("#teach-state", f"Finished after {HOLD} steps.")
    enter("Compare")
    expect(visit.page.get_by_label("Student of run")).not_to_have_value("No run: base and teacher only", timeout=WAIT)
    go_into(visit.at("#question textarea"))
    visit.page.keyboard.type("What is 3 plus 4?")
    visit.page.keyboard.press("Enter")
    for role in ("base", "teacher", "student"):
        visit.says(f"#answer-{role} .wb-note", "token")


def fill(visit: Visit, run: str) -> None:
    """Something on every tab: examples, a check, a finished run, answers."""
    visit.use_set()
    visit.tab("Check")
    visit.press("Check the teacher")
    visit.says("#verdict", "Good to teach.")
    visit.start(HOLD, run)
    visit.finished(run, HOLD)
    visit.tab("Compare")
    expect(visit.page.get_by_label("Student of run")).to_have_value(run, timeout=WAIT)
    visit.type("Question", "What is 3 plus 4?")
    visit.press("Ask all three")
    # Another test may have left answers, which are shown until these are asked for.
    expect(visit.at("#compare-notice")).not_to_contain_text("The last answers", timeout=WAIT)
    visit.says("#answer-student .wb-note", "token")
    visit.press("Token map: student's answer")
    expect(visit.at("#compare-more .tk").first).to_be_attached(timeout=WAIT)
    visit.press("Ask them all")
    visit.says("#compare-list", "Of 60 test questions")


def test_no_serious_finding_of_axe_with_a_finished_run_and_everything_open(visit: Visit) -> None:
    fill(visit, "opened")
    found = {}
    for tab in TABS:
        visit.tab(tab)
        closed = visit.page.locator("button.label-wrap:not(.open)").locator("visible=true")
        while closed.count():
            closed.first.click()
        for details in visit.page.locator("details:not([open]) > summary").locator("visible=true").all():
            details.click()
        found[tab] = findings(visit.page)
    assert not any(found.values()), json.dumps({tab: lines for tab, lines in found.items() if lines}, indent=1)
    visit.tab("Teach")
    visit.page.emulate_media(forced_colors="active", reduced_motion="reduce")
    # A bar is its colour, whatever the system's colours are.
    expect(visit.at("#retention .wb-fill").first).to_have_css("background-color", "rgb(10, 122, 90)", timeout=WAIT)
    slow = "e => parseFloat(getComputedStyle(e).transitionDuration) > .01"
    assert visit.becomes(f"[...document.querySelectorAll('[role=tabpanel] *')].filter({slow}).length", 0) == 0


def over(selector: str) -> str:
    """By how many pixels what an element holds is wider than the element, as a script."""
    return f"(e => e.scrollWidth - e.clientWidth)(document.querySelector(`{selector}`))"


def test_no_tab_is_wider_than_a_phone_with_something_on_it(browser: Browser, served: Served) -> None:
    visit = Visit.to(browser, served.address, viewport={"width": 390, "height": 844}, has_touch=True)
    fill(visit, "narrow")
    visit.tab("Teach")
    tops = "['press', 'run-shown', 'form'].map(e => document.querySelector('#teach-' + e).getBoundingClientRect().top)"
    assert visit.page.evaluate(f"(tops => tops[0] < tops[1] && tops[1] < tops[2])({tops})"), "the run, then the form"
    found, tables = {}, {}
    for tab in TABS:
        visit.tab(tab)
        found[tab] = wider(visit)
        if table := {"Examples": "#examples-table", "Check": "#check-table", "Compare": "#compare-table"}.get(tab):
            expect(visit.at(f"{table} .body-cell:last-child").first).to_be_visible(timeout=WAIT)
            tables[table] = visit.becomes(f"table => {over('${table} .virtual-table-viewport')}", 0, table)
            each = "[...document.querySelectorAll(`${table} .virtual-row:first-child .body-cell`)]"
            narrow = f"table => {each}.map(e => e.offsetWidth).filter(width => width && width <= 250).length"
            assert visit.becomes(narrow, 0, table) == 0, "each cell has a line of its own"
            label = "getComputedStyle(document.querySelector(`${table} .body-cell:last-child`), '::before').content"
            tables[f"last of {table}"] = visit.page.evaluate(f"table => {label}", table)
        if tab == "Runs":
            expect(visit.at("#runs-table .wb-wide")).to_be_attached(timeout=WAIT)
            cut = visit.becomes(over("#runs-table .wb-wide"), 0)
    visit.close()
    assert cut == 0, "each run is a card, and nothing has to be moved sideways"
    assert found == dict.fromkeys(TABS, 0)
    last = {"#examples-table": "article", "#check-table": "model shown the example", "#compare-table": "Student"}
    assert tables == {**dict.fromkeys(last, 0), **{f"last of {table}": f'"{head}"' for table, head in last.items()}}


def test_the_tables_columns_fit_a_laptops_window(browser: Browser, served: Served) -> None:
    visit = Visit.to(browser, served.address, viewport={"width": 1200, "height": 900})
    rows = [{"prompt": f"{i}?", "demonstration": "word " * 20, "answer": "word " * 20} for i in range(10)]
    upload(visit, "long.jsonl", "\n".join(json.dumps(row) for row in rows).encode())
    visit.says("#steps", "7 teach, 3 kept back")
    visit.tab("Check")
    visit.press("Check the teacher")
    visit.says("#check-table", "wrong")
    viewport = ".virtual-table-viewport"
    cut = [visit.becomes(f"{over(f'#check-table {part}')} <= 1", True) for part in (".table-wrap", viewport)]
    lefts = """() => ['.header-table th', '.virtual-row:first-child .body-cell'].map(cells =>
        [...document.querySelectorAll('#check-table ' + cells)].map(e => Math.round(e.getBoundingClientRect().left)))"""
    visit.page.set_viewport_size({"width": 1280, "height": 900})
    room = "document.querySelector('#check-table .virtual-table-viewport').clientWidth"
    used = "document.querySelector('#check-table .header-table').offsetWidth"
    visit.page.wait_for_function(f"{room} > 1000 && Math.abs({room} - {used}) <= 1")
    visit.becomes(f"(([heads, cells]) => '' + heads === '' + cells)(({lefts})())", True)
    heads, cells = visit.page.evaluate(lefts)
    visit.close()
    assert cut == [True, True]
    assert len(heads) == 4 and heads == cells, "each column is below its head"
