"""How fast the page is: python benchmarks/page.py [--minutes 60 | --quick] [--json]

The bundled model, the real worker, pages in Debian's Chromium by Playwright; runs in a temporary folder. Nothing else
should be running. Without the hour of polling it takes about four minutes on two cores.

    start_s             seconds from `workbench app` to a page that says Ready, the browser being open already (median)
    rate_1, rate_10     steps a second of a run in the page with one and with ten viewers, over the command line's
    step_to_page_s      seconds from a step's line in events.jsonl until the page shows it or a later one (median)
    poll_kb             kilobytes of the largest answer to a poll while a run is watched
    poll_growth         time of a poll around step 5,000 over that around step 50, a new step each time
    first_token_idle_s  seconds from the click on Ask all three to the first text on the page (median)
    first_token_busy_s  the same while a run is being taught
    three_over_one      time of all three answers over that of the one of them that takes longest alone (median)
    memory_growth       by how much the memory of the server or of a page (the larger) has grown while two pages polled
                        for so many minutes, as a share, after the first tenth of them

Needs the test extra and chromium.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]

from teaching import machine, say  # noqa: E402

from tests.pages.served import CHROMIUM, FLAGS, WAIT, Visit  # noqa: E402
from workbench.app.desk import Desk  # noqa: E402
from workbench.app.watching import poll  # noqa: E402
from workbench.events import Step, from_dict, to_dict  # noqa: E402
from workbench.runs import Run, open_run  # noqa: E402
from workbench.worker import Worker  # noqa: E402

DATA = ROOT / "sample_data" / "zorbic.jsonl"
STEPS = 70
FROM, TO = 5, 65
"""Steps between which the rate is taken: a measurement of skill and retention is in between."""
QUESTION = "How do you say red ball in Zorbic?"
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}
KEYS = (
    "start_s",
    "rate_1",
    "rate_10",
    "step_to_page_s",
    "poll_kb",
    "poll_growth",
    "first_token_idle_s",
    "first_token_busy_s",
    "three_over_one",
    "memory_growth",
)


def command(*words: str) -> list[str]:
    """A workbench command."""
    return [sys.executable, "-m", "workbench", *words]


@contextmanager
def served(runs: Path) -> Iterator[tuple[str, int]]:
    """`workbench app` with its runs there: its address and process id."""
    process = subprocess.Popen(
        command("app", "--runs", str(runs), "--port", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1], process.pid
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


class Appearing:
    """When each step of a run's log appeared, by the clock on the wall."""

    def __init__(self, path: Path) -> None:
        self.path, self.at = path, dict[int, float]()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Appearing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        rest, offset = b"", 0
        while not self._over.wait(0.01):
            if not self.path.exists():
                continue
            with self.path.open("rb") as file:
                file.seek(offset)
                added = file.read()
            now, offset = time.time(), offset + len(added)
            *lines, rest = (rest + added).split(b"\n")
            for line in lines:
                event = from_dict(json.loads(line))
                if isinstance(event, Step):
                    self.at[event.step] = now

    def rate(self) -> float:
        """Steps a second."""
        return (TO - FROM) / (self.at[TO] - self.at[FROM])


def start_seconds(browser: Browser, times: int) -> float:
    """From the command to a page that can be used."""
    taken = []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as runs:
            began = time.perf_counter()
            with served(Path(runs)) as (address, _pid):
                visit = Visit.to(browser, address)
                taken.append(time.perf_counter() - began)
                visit.close()
    return statistics.median(taken)


def rate_of_command(folder: Path, name: str) -> float:
    """Steps a second of `workbench teach`."""
    words = ("teach", str(DATA), "--runs", str(folder), "--name", name, "--steps", str(STEPS))
    with Appearing(folder / name / "events.jsonl") as seen:
        subprocess.run(
            command(*words), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )
    return seen.rate()


_WATCH_STEPS = """() => {
    window.steps = [];
    const place = document.querySelector('#teach-state');
    const look = () => {
        const found = place.textContent.match(/(\\w+)\\s.*?Step (\\d+) of/);
        if (found) window.steps.push([performance.timeOrigin + performance.now(), +found[2]]);
    };
    new MutationObserver(look).observe(place, {childList: true, subtree: true, characterData: true});
}"""


def rate_in_page(browser: Browser, address: str, runs: Path, viewers: int) -> tuple[float, float, float]:
    """Steps a second of a run started in the page, the delay until a step is shown, and a poll's largest answer."""
    name = f"viewed-{viewers}"
    sizes: dict[str, list[int]] = {}

    def took(response: Response) -> None:
        if "/run/" in response.url or "/call/" in response.url:
            try:
                asked = json.loads(response.request.post_data or "{}").get("fn_index")
                sizes.setdefault(str(asked), []).append(len(response.body()))
            except Exception as error:
                say(f"  a response could not be read: {error}")

    with ExitStack() as open_pages:
        visits = [Visit.to(browser, address) for _ in range(viewers)]
        for visit in visits:
            open_pages.callback(visit.context.close)
        first = visits[0]
        first.use_set()
        for visit in visits[1:]:
            visit.tab("Teach")
        first.tab("Teach")
        first.page.evaluate(_WATCH_STEPS)
        first.page.on("response", took)
        with Appearing(runs / name / "events.jsonl") as seen:
            first.start(STEPS, name)
            # The run before it has finished after as many steps, so the name is waited for, too.
            done = re.compile(f"{name}.*Finished after {STEPS}", re.DOTALL)
            expect(first.at("#teach-state")).to_contain_text(done, timeout=5 * WAIT)
        shown: list[tuple[float, int]] = first.page.evaluate("window.steps")
        first.page.remove_listener("response", took)
    polls = max(sizes.values(), key=len)
    delays = []
    for step, at in seen.at.items():
        later = [stamp / 1000 for stamp, number in shown if number >= step and stamp / 1000 >= at]
        if later:
            delays.append(min(later) - at)
    say(f"  {viewers} viewers: {seen.rate():.2f} steps/s, {len(polls)} polls, {len(delays)} steps seen")
    return seen.rate(), statistics.median(delays), max(polls) / 1000


_FIRST_TEXT = """() => new Promise(done => {
    const places = ['base', 'teacher', 'student'].map(role => document.querySelector('#answer-' + role));
    // Not the last answers: those that stand there are taken away first.
    places.forEach(place => place.querySelectorAll('.wb-text').forEach(one => one.textContent = ''));
    const began = performance.now();
    const look = () => {
        if (places.some(p => [...p.querySelectorAll('.wb-text')].some(one => one.textContent.trim()))) {
            seen.disconnect();
            done((performance.now() - began) / 1000);
        }
    };
    const seen = new MutationObserver(look);
    places.forEach(place => seen.observe(place, {childList: true, subtree: true, characterData: true}));
    document.querySelector('#ask-all-three').click();
})"""


def first_token(visit: Visit, times: int) -> float:
    """From the click to the first text; each time the answer is waited for."""
    taken = []
    for _ in range(times):
        taken.append(float(visit.page.evaluate(_FIRST_TEXT)))
        for role in ("base", "teacher", "student"):
            visit.says(f"#answer-{role} .wb-note", "token")
    return statistics.median(taken)


def first_tokens(browser: Browser, address: str, times: int) -> tuple[float, float]:
    """On the idle model, and while it is being taught."""
    visit = Visit.to(browser, address)
    visit.tab("Compare")
    expect(visit.page.get_by_label("Student of run")).to_have_value("viewed-10", timeout=WAIT)
    visit.type("Question", QUESTION)
    first_token(visit, 1)  # the first one loads the student
    idle = first_token(visit, times)
    visit.start(4000, "busy")
    visit.says("#teach-state", re.compile(r"busy.*Step [1-9]\d* of 4000", re.DOTALL))
    visit.tab("Compare")
    expect(visit.page.get_by_label("Student of run")).to_have_value("busy", timeout=WAIT)
    first_token(visit, 1)
    busy = first_token(visit, times)
    visit.tab("Teach")
    visit.press("Stop")
    visit.says("#teach-state", "Stopped at step")
    visit.context.close()
    return idle, busy


def poll_growth(run: Run) -> float:
    """A run of 5,000 steps made of a real one's: how long the page Teach takes to work out what is new."""
    events = [from_dict(json.loads(line)) for line in run.log.path.read_text("utf-8").splitlines()]
    steps = [event for event in events if isinstance(event, Step)]
    lines = [json.dumps(to_dict(event)) for event in events if not isinstance(event, Step)][:2]
    # The same steps over and over, with numbers that rise.
    lines += [
        json.dumps({**to_dict(steps[i % len(steps)]), "step": i + 1, "steps": 5000, "seq": len(lines) + i})
        for i in range(5000)
    ]
    path = run.path.parent / "long"
    path.mkdir()
    (path / "config.json").write_bytes((run.path / "config.json").read_bytes())
    desk = Desk.at(run.path.parent, Worker(run.path.parent))
    desk.drafts.choose(run="long")
    taken = {}
    for at in (50, 5000):
        log = path / "events.jsonl"
        log.write_text("\n".join(lines[: at - 25]) + "\n", "utf-8")
        cursor: dict[str, Any] = {}
        poll(desk, cursor)
        each = []
        for line in lines[at - 25 : at + 2]:
            with log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
            began = time.perf_counter()
            poll(desk, cursor)
            each.append(time.perf_counter() - began)
        taken[at] = statistics.median(each)
        say(f"  a poll around step {at}: {taken[at] * 1000:.2f} ms")
    return taken[5000] / taken[50]


def three_over_one(runs: Path, run: str, times: int) -> float:
    """Three answers from one batch over the one of them that takes longest alone, in turn."""
    worker = Worker(runs)
    worker.start()
    try:
        questions = [row.question for row in open_run(run, runs).rows("held-out")[:times]]

        def seconds(question: str, *roles: str) -> float:
            began = time.perf_counter()
            messages = [{"role": "user", "content": question}]
            worker.call("ask", messages=messages, run=run, roles=list(roles)).result(120)
            return time.perf_counter() - began

        seconds(questions[0], "base", "teacher", "student")
        ratios = []
        for question in questions:
            alone = [min(seconds(question, role) for _ in range(3)) for role in ("base", "teacher", "student")]
            ratios.append(min(seconds(question, "base", "teacher", "student") for _ in range(3)) / max(alone))
        return statistics.median(ratios)
    finally:
        worker.close()


def memory_growth(browser: Browser, address: str, pid: int, minutes: float) -> float:
    """Growth of server and pages while two pages poll, one of them on a finished run, the other on Compare."""
    with ExitStack() as open_pages:
        visits = [Visit.to(browser, address) for _ in range(2)]
        for visit, tab in zip(visits, ("Teach", "Compare"), strict=True):
            open_pages.callback(visit.context.close)
            visit.tab(tab)
        held = [lambda: _resident(pid), *(_heap(visit.page) for visit in visits)]
        visits[0].page.wait_for_timeout(minutes * 6_000)
        before = [one() for one in held]
        for _ in range(9):
            visits[0].page.wait_for_timeout(minutes * 6_000)
            say(f"  server, pages: {', '.join(f'{one() / 1e6:.1f} MB' for one in held)}")
        return max(one() / was for one, was in zip(held, before, strict=True)) - 1


def _resident(pid: int) -> float:
    """Bytes of memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(float(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def _heap(page: Page) -> Callable[[], float]:
    """Bytes that a page's script holds, once its rubbish is collected."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")

    def held() -> float:
        session.send("HeapProfiler.collectGarbage")
        found = session.send("Performance.getMetrics")["metrics"]
        return next(float(one["value"]) for one in found if one["name"] == "JSHeapUsedSize")

    return held


def measure(minutes: float, times: int) -> dict[str, float | None]:
    """All figures; `memory_growth` is None for 0 minutes."""
    found: dict[str, float | None] = dict.fromkeys(KEYS)
    with sync_playwright() as driver, tempfile.TemporaryDirectory() as folder:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        say("starting")
        found["start_s"] = start_seconds(browser, times)
        runs, plain = Path(folder) / "runs", Path(folder) / "plain"
        say("teaching, by the command line and in the page")
        with served(runs) as (address, pid):
            # The command line before and after, so that a machine that changes its pace is no gain and no loss.
            before = rate_of_command(plain, "before")
            one, delay, size = rate_in_page(browser, address, runs, 1)
            ten, *_ = rate_in_page(browser, address, runs, 10)
            after = rate_of_command(plain, "after")
            say(f"  command line: {before:.2f} and {after:.2f} steps/s")
            usual = (before + after) / 2
            found |= {"rate_1": one / usual, "rate_10": ten / usual, "step_to_page_s": delay, "poll_kb": size}
            say("asking")
            found["first_token_idle_s"], found["first_token_busy_s"] = first_tokens(browser, address, 3 + 2 * times)
            if minutes:
                say(f"polling for {minutes:g} minutes")
                found["memory_growth"] = memory_growth(browser, address, pid, minutes)
        browser.close()
        found["poll_growth"] = poll_growth(open_run("viewed-1", runs))
        found["three_over_one"] = three_over_one(runs, "viewed-1", 3 + 3 * times)
    return {key: None if found[key] is None else round(float(found[key] or 0), 3) for key in KEYS}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="of polling by two pages; 0: leave that out")
    parser.add_argument("--quick", action="store_true", help="one minute of polling, one start")
    parser.add_argument("--json", action="store_true", help="one line of JSON on standard output, and nothing else")
    options = parser.parse_args(arguments)
    load = os.getloadavg()[0]
    say(f"load before: {load:.1f}")
    figures = measure(1.0 if options.quick else options.minutes, 1 if options.quick else 3)
    about = machine()
    if options.json:
        how = {"load_before": round(load, 1), "threads": os.environ.get("OMP_NUM_THREADS"), "minutes": options.minutes}
        print(json.dumps({**figures, "machine": {**about, **how}}))
        return
    for key, value in figures.items():
        print(f"{key:20} {'not measured' if value is None else f'{value:g}'}")
    print(f"{about['cores']} cores, {about['processor']}, load before {load:.1f}")


if __name__ == "__main__":
    main()
