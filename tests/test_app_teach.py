"""The page Teach: begin, watch, stop, resume, look back, go back; with a worker that has no model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from tests.desks import FAKE, Open, desks
from tests.fake_run import sample_of
from tests.test_views import a_run, a_step, harmless
from tests.waiting import until
from workbench.app import choosing, fields, teach, teaching, watching
from workbench.app.desk import Cursor, Desk, Shared
from workbench.demonstrations import Demonstration
from workbench.errors import InputError, WorkbenchError
from workbench.events import Evaluated, Measure, RunEnded, Step
from workbench.runs.folder import create
from workbench.runs.log import EventWriter
from workbench.settings import GROUPS, POCKET_DEFAULTS
from workbench.views.words import is_finished, step_of
from workbench.worker import Worker

EVIL = "<img src=x onerror=alert(1)></script>\u202e" + "a" * 100_000
KEYS = [(group, name) for group, kind in GROUPS.items() for name in kind.__dataclass_fields__]
RATE = POCKET_DEFAULTS["optim"]["lr"]
MORE = [key for key in KEYS if key not in fields.FIRST]


@pytest.fixture
def at(tmp_path: Path, rows: list[Demonstration]) -> Iterator[Open]:
    with desks(tmp_path / "runs", rows) as opened:
        yield opened


def pressed(desk: Desk, name: str = "", cursor: Cursor | None = None, **typed: Any) -> list[Any]:
    """Press Start teaching with the form as it is drawn."""
    first = {"steps": 20, "rate": f"{RATE:g}", "keep": True, "share": 0.2, "every": 5, "save": 5}
    first |= {name: typed[name] for name in first if name in typed}
    more = [typed.get(key[1], fields.shown(desk, key)) for key in MORE]
    chosen = typed.get("method", "sdft"), teach.PLAIN
    return teach.press_start(desk, MORE, {} if cursor is None else cursor, name, *chosen, *first.values(), *more)[:3]


def ended(desk: Desk, run: str) -> bool:
    return is_finished(teaching.events_of(desk, run)) and desk.worker.status.state == "idle"


def parts(desk: Desk, cursor: dict[str, Any]) -> dict[str, Any]:
    names = ["run", "state", "meters", "forgetting", "warning", "checkpoint", "back", "curves"]
    names += ["answer", "follow", "step", "loss", "which", "replay", "onward"]
    return dict(zip(names, watching.poll(desk, cursor), strict=True))


def is_skip(value: Any) -> bool:
    return bool(value == gr.skip())


def test_start_teaches_the_examples_and_returns_at_once(at: Open) -> None:
    desk = at(hold=3)
    problem, run, name = pressed(desk, rank=8, method="sft")
    assert (problem, run["value"], name) == ("", "colours", "")
    until(lambda: step_of(teaching.events_of(desk, "colours")) == 3)
    config = desk.run("colours").config
    assert config["method"] == "sft" and config["settings"]["lora"]["rank"] == 8
    assert config["settings"]["optim"]["steps"] == 20
    assert desk.drafts.settings == {"optim": {"steps": 20}, "lora": {"rank": 8}}  # only what differs
    assert len(desk.run("colours").rows("teaching")) == 8
    assert desk.drafts.run == "colours" and teach.poll_buttons(desk, {}) == [
        gr.update(interactive=False),
        gr.update(interactive=True),
        gr.update(interactive=False),
    ]


def test_stop_keeps_the_state_and_resume_ends_the_run(at: Open) -> None:
    desk = at(hold=7)
    before = parts(desk, {})
    assert before["replay"]["visible"] == "hidden" and before["meters"] == "", "nothing to replay and to measure yet"
    pressed(desk, "my run")
    until(lambda: step_of(teaching.events_of(desk, "my run")) == 7)
    assert "Step 7 of 20" in parts(desk, {})["state"] and parts(desk, {})["replay"]["visible"] is True
    assert teach.press_stop(desk) == ""
    until(lambda: desk.worker.status.state == "idle")
    assert "Stopped at step 7 of 20" in parts(desk, {})["state"]
    assert watching.can(desk) == [True, False, True]
    choosing.set_rate(desk, 0.5)
    assert "my run goes on as it began, whatever stands in the form now: 20 steps" in teach.press_resume(desk, "my run")
    desk.worker.call("go_on")
    until(lambda: ended(desk, "my run"))
    assert "Finished after 20 steps" in parts(desk, {})["state"]
    assert watching.can(desk) == [True, False, False]
    assert "is finished" in teach.press_resume(desk, "my run")
    assert "Nothing is being taught" in teach.press_stop(desk)


def test_what_is_wrong_is_said_and_nothing_begins(at: Open) -> None:
    desk = at()
    assert "cannot be a run" in pressed(desk, "../x")[0]
    assert "LoRA rank is 0" in pressed(desk, rank=0)[0]
    assert "steps is empty or no number" in pressed(desk, steps=None)[0]
    assert "is no learning rate" in pressed(desk, rate=EVIL)[0]
    assert "a divisor of the batch" in pressed(desk, rollouts=5)[0]
    assert "1 or more" in pressed(desk, rollouts=1, every=0)[0]
    desk.drafts.replace_rows([], "none")
    assert "There are no examples yet" in pressed(desk)[0]
    assert teaching.run_names(desk) == [] and desk.drafts.run is None
    harmless(pressed(desk, EVIL)[0])


def test_a_second_run_is_refused_while_one_goes(at: Open) -> None:
    desk = at(hold=2)
    pressed(desk)
    until(lambda: step_of(teaching.events_of(desk, "colours")) == 2)
    assert "busy" in pressed(desk)[0]
    assert desk.drafts.run == "colours" and teaching.run_names(desk) == ["colours"]
    assert "There is a run colours already" in pressed(desk, "colours")[0]


def test_a_run_that_fails_after_the_start_says_why(at: Open) -> None:
    desk = at()
    desk.tasks["teach"] = teaching.Lesson("gone", call := desk.worker.call("resume", run="gone"))
    with pytest.raises(InputError):
        call.result(30)
    desk.drafts.choose(run="gone")
    assert "There is no run" in parts(desk, {})["state"] and "It was not begun" in parts(desk, {})["state"]


def test_a_dead_worker_leaves_a_run_to_resume(at: Open) -> None:
    desk = at(hold=6)
    pressed(desk)
    until(lambda: step_of(teaching.events_of(desk, "colours")) == 6)
    desk.worker.call("die")
    until(lambda: desk.worker.status.restarts == 1)
    state = parts(desk, {})["state"]
    assert "Stopped at step 6 of 20" in state and "Resume" in state and "ended by itself" in state
    until(lambda: watching.can(desk) == [True, False, True])
    assert teach.press_resume(desk, "colours") == ""
    desk.worker.call("go_on")
    until(lambda: ended(desk, "colours"))
    assert "ended by itself" not in parts(desk, {})["state"]
    assert [e.step for e in desk.events("colours") if isinstance(e, Step)] == list(range(1, 21))


def test_everything_is_rebuilt_from_the_folder(at: Open, tmp_path: Path) -> None:
    desk = at()
    pressed(desk)
    until(lambda: ended(desk, "colours"))
    shown = parts(desk, {})
    later = Desk.at(tmp_path / "runs", Worker(tmp_path / "runs", command=FAKE))  # a new server; its worker is not there
    again = parts(later, {})
    for part in ("state", "meters", "curves", "answer", "step", "follow"):
        assert again[part] == shown[part], part
    assert 'id="skill"' in again["meters"] and 'id="retention"' in again["meters"]
    assert "100% (4 of 4" in again["meters"] and "step 20" in again["answer"]
    assert "Right answer:" in again["answer"] and again["onward"]["visible"] is True


def test_a_poll_sends_only_what_has_changed(at: Open) -> None:
    desk = at(hold=6)
    pressed(desk)
    until(lambda: step_of(teaching.events_of(desk, "colours")) == 6)
    until(lambda: desk.worker.status.phase == "Teaching")
    cursor: dict[str, Any] = {}
    parts(desk, cursor)
    assert all(is_skip(value) for value in parts(desk, cursor).values())
    desk.worker.call("stop")
    until(lambda: desk.worker.status.state == "idle")
    changed = {name for name, value in parts(desk, cursor).items() if not is_skip(value)}
    assert "state" in changed and not changed & {"meters", "curves", "step"}


def write_run(desk: Desk, steps: int, every: int, retention: Callable[[int], float]) -> str:
    """A run on disk that was stopped after `steps` of 10,000."""
    rows = [Demonstration(f"How? {i}", "So.", "So", id=str(i)) for i in range(4)]
    settings = {"optim": {"steps": 10_000}}
    config = {"method": "sdft", "model": "pocket", "settings": settings, "started": "2026-01-01T00:00:00+00:00"}
    run = create(desk.runs, "long", config, {"teaching": rows[:2], "held-out": rows[2:]}, [])
    writer = EventWriter(run.log, 0)
    for event in a_run(0, 10_000):
        writer.write(event)
    for step in range(1, steps + 1):
        writer.write(a_step(step, 10_000))
        if step % every == 0:
            kept = retention(step)
            writer.write(Evaluated(step, Measure(0.5, 100, 0.4, 0.6), Measure(kept, 100, kept, kept), 1.0))
            folder = run.checkpoints / f"step-{step:06d}"
            folder.mkdir()
            (folder / "state.json").write_text(json.dumps({"step": step, "events": writer.seq, "settled": True}))
    writer.close()
    return run.name


def test_a_poll_stays_small_however_long_the_run(at: Open) -> None:
    desk = at()
    desk.drafts.choose(run=write_run(desk, 1500, 10, lambda step: 1.0))
    everything = parts(desk, {"chosen.teach.losses": True})
    assert "loss" in everything["loss"].lower()
    cursor: dict[str, Any] = {}
    parts(desk, cursor)
    writer = EventWriter(desk.run("long").log, len(desk.events("long")))
    writer.write(a_step(1501, 10_000, samples=(sample_of("1", "How?", " ".join(f"w{i}" for i in range(96))),)))
    writer.close()
    changed = {name: value for name, value in parts(desk, cursor).items() if not is_skip(value)}
    assert set(changed) == {"state", "answer", "step", "which"}  # it is the first step with an answer
    assert len(json.dumps(changed)) < 20_000
    assert len(json.dumps([v for v in everything.values() if not is_skip(v)])) < 40_000


def test_a_step_that_was_taken_again_in_smaller_parts_is_told_of(at: Open) -> None:
    desk = at()
    desk.drafts.choose(run=write_run(desk, 2, 10, lambda step: 1.0))
    cursor: dict[str, Any] = {}
    assert "Memory ran out" not in parts(desk, cursor)["state"]
    writer = EventWriter(desk.run("long").log, len(desk.events("long")))
    writer.write(a_step(3, 10_000, smaller={"micro_batch": 8, "at_once": 0}))
    writer.write(a_step(4, 10_000))
    writer.close()
    said = "Memory ran out in step 3; it was taken again with answers 8 learned from at a time"
    assert said in parts(desk, cursor)["state"] and said in parts(desk, {})["state"]


def test_any_step_can_be_looked_at_again(at: Open) -> None:
    desk = at()
    pressed(desk)
    until(lambda: ended(desk, "colours"))
    cursor: dict[str, Any] = {}
    parts(desk, cursor)
    _, *shown = watching.choose_step(desk, 4, cursor)
    assert "answer at step 4" in shown[8] and shown[9] is False  # no longer following
    assert all(is_skip(value) for value in parts(desk, cursor).values())
    _, *shown = watching.choose_follow(desk, True, 4, cursor)
    assert "answer at step 20" in shown[8] and shown[9] is True
    watching.choose_run(desk, EVIL, cursor)
    assert desk.drafts.run == "colours"
    assert "answer at step 4" in watching.choose_step(desk, 4, {})[9], "also before the first poll"


def test_any_answer_of_a_step_can_be_looked_at_the_keep_rows_too(at: Open) -> None:
    desk = at()
    desk.drafts.choose(run=write_run(desk, 2, 10, lambda step: 1.0))
    writer = EventWriter(desk.run("long").log, len(desk.events("long")))
    said = [sample_of("1", "One?", "first"), sample_of("2", "Two?", "second"), sample_of("3", "Kept?", "k", keep=True)]
    writer.write(a_step(3, 10_000, samples=tuple(said)))
    writer.write(a_step(4, 10_000, samples=tuple(said[:1])))
    writer.close()
    cursor: dict[str, Any] = {}
    assert parts(desk, cursor)["which"]["visible"] is False
    _, *shown = watching.choose_step(desk, 3, cursor)
    assert shown[12]["choices"] == ["Answer 1", "Answer 2", "Keep row"] and "One?" in shown[8]
    _, *shown = watching.choose_answer(desk, "Keep row", cursor)
    assert "Kept?" in shown[8] and "keep row: this answer should stay" in shown[8]
    _, *shown = watching.choose_step(desk, 4, cursor)
    assert "One?" in shown[8], "a step without one shows its first"
    _, *shown = watching.choose_step(desk, 3, cursor)
    assert "Kept?" in shown[8], "the choice is kept"


def test_sft_has_no_answers_to_show_and_says_so(at: Open) -> None:
    desk = at()
    pressed(desk, method="sft")
    until(lambda: ended(desk, "colours"))
    assert "copies the examples" in parts(desk, {})["answer"]


def test_a_fall_of_retention_warns_and_offers_earlier_checkpoints(at: Open) -> None:
    desk = at()
    fallen = {10: 0.98, 20: 0.94, 30: 0.85}
    desk.drafts.choose(run=write_run(desk, 30, 10, lambda step: fallen[step]))
    shown = parts(desk, {})
    assert "retention was 100% before teaching and is 85% at step 30" in shown["warning"]
    assert shown["forgetting"]["visible"] and shown["back"]["value"] == "Go back"
    assert [step for _, step in shown["checkpoint"]["choices"]] == [20, 10]
    assert shown["checkpoint"]["choices"][0][0] == "Step 20: skill 50%, retention 94%"
    desk.drafts.type("teach.limit", "15")
    assert parts(desk, {})["warning"] == ""
    for points in ("3", "1"):  # 98% is enough, and then it is the best that there is
        desk.drafts.type("teach.limit", points)
        assert [step for _, step in parts(desk, {})["checkpoint"]["choices"]] == [10, 20]


def test_where_there_is_no_way_back_nothing_is_said_of_a_stop(at: Open) -> None:
    desk = at()
    desk.drafts.choose(run=write_run(desk, 10, 10, lambda _: 0.5))
    warned = parts(desk, {})["warning"]
    assert "There is no earlier checkpoint to go back to." in warned and "Stop" not in warned


def test_going_back_makes_a_run_that_ends_there(at: Open) -> None:
    desk = at()
    desk.drafts.choose(run=write_run(desk, 30, 10, lambda step: 1 - step / 100))
    before = (desk.run("long").path / "events.jsonl").read_bytes()
    made = teaching.go_back(desk.run("long"), 10)
    assert made.name == "long-step-10"
    assert (desk.run("long").path / "events.jsonl").read_bytes() == before
    events = desk.events(made.name)
    assert step_of(events) == 10 and isinstance(events[-1], Evaluated)
    assert {e.steps for e in events if isinstance(e, Step)} == {10} and events[0].run == made.name  # type: ignore[union-attr]
    assert made.config["settings"]["optim"]["steps"] == 10
    assert made.config["notes"] == ["Ends at step 10 of run long, which was planned for 10000 steps."]
    assert "no checkpoint of step 11" in teach.press_back(desk, "long", 11)[0]
    assert "Choose a checkpoint" in teach.press_back(desk, "long", None)[0]


def test_stop_and_go_back_stops_first(at: Open) -> None:
    desk = at(hold=7)
    pressed(desk)
    until(lambda: step_of(teaching.events_of(desk, "colours")) == 7)
    folder = desk.run("colours").checkpoints / "step-000005"
    # Run started, checked, five steps, one measurement, one checkpoint.
    (folder / "state.json").write_text(json.dumps({"step": 5, "events": 9, "settled": True}))
    said, run = teach.press_back(desk, "colours", 5)
    assert "The new run colours-step-5 ends at step 5" in said and run["value"] == "colours-step-5"
    until(lambda: ended(desk, "colours-step-5"))
    assert step_of(desk.events("colours-step-5")) == 5
    assert isinstance(desk.events("colours-step-5")[-1], RunEnded)
    assert step_of(desk.events("colours")) == 7 and not is_finished(desk.events("colours"))


def test_keep_rows_are_used_or_not(at: Open) -> None:
    desk = at()
    choosing.set_keep(desk, False, 0.2)
    assert "keep" not in desk.drafts.settings  # nothing to choose without any
    desk.drafts.add_keep("What is 2 plus 3?", "What is 4 plus 4?")
    assert "2 questions" in teach.keep_info(desk) and "6 of the 32" in teach.keep_info(desk)
    choosing.set_keep(desk, False, 0.2)
    assert desk.drafts.settings["keep"] == {"keep_share": 0.0} and not teach.keeps(desk)
    choosing.set_keep(desk, True, 0.5)
    assert "16 of the 32" in teach.keep_info(desk)
    pressed(desk, share=0.5)
    until(lambda: ended(desk, "colours"))
    assert [row.question for row in desk.run("colours").rows("keep")] == ["What is 2 plus 3?", "What is 4 plus 4?"]


def test_one_keep_row_is_one_question(at: Open) -> None:
    desk = at()
    desk.drafts.add_keep("What is 2 plus 3?")
    assert teach.keep_info(desk).startswith("1 question whose answer should stay as it is;")
    desk.drafts.add_keep("What is 4 plus 4?")
    assert teach.keep_info(desk).startswith("2 questions whose answers should stay as they are;")


def test_the_form_follows_the_draft_but_not_under_a_typing_hand(at: Open) -> None:
    desk = at()
    cursor: dict[str, Any] = {}
    first = teach.poll_form(desk, MORE, cursor)
    assert first[0] == 20 and len(first) == 9 + len(MORE)
    assert first[1]["value"] == f"as usual ({RATE:g})"
    assert all(is_skip(value) for value in teach.poll_form(desk, MORE, cursor))
    desk.drafts.set_setting("lora", "rank", 4)
    changed = [i for i, value in enumerate(teach.poll_form(desk, MORE, cursor)) if not is_skip(value)]
    assert changed == [9 + MORE.index(("lora", "rank"))]


def test_what_the_teaching_goes_on_from_is_said_where_it_is_begun(at: Open) -> None:
    desk = at()
    cursor: dict[str, Any] = {}
    assert teach.poll_form(desk, MORE, cursor)[6] == ""
    pressed(desk, "earlier")
    until(lambda: ended(desk, "earlier"))
    desk.drafts.choose(on="earlier")
    assert "This teaching goes on from earlier." in teach.poll_form(desk, MORE, cursor)[6]
    desk.drafts.choose(on=None)
    assert teach.poll_form(desk, MORE, cursor)[6] == ""


def test_the_form_is_filled_in_before_its_tab_comes_into_view(at: Open) -> None:
    desk = at()
    with gr.Blocks():
        shared = Shared(desk, gr.Tabs(), gr.HTML(), gr.Timer(), gr.State({}))
        teach.build(desk, shared)
    tabs = {part.label: tab for _, parts, tab in shared.ticks for part in parts if hasattr(part, "label")}
    assert tabs["How long (steps)"] is None and tabs["Step shown"] == "teach"


def test_each_setting_has_its_sentence_from_the_one_source(at: Open) -> None:
    desk = at()
    with gr.Blocks():
        made, places = fields.advanced(desk)
    assert set(made) == set(MORE) and set(places) == {group for group, _ in MORE}
    for (group, name), field in made.items():
        assert field.info == GROUPS[group].__dataclass_fields__[name].metadata["help"]
        assert field.value == teaching.default_of(desk, group, name)


def test_hostile_names_and_rows_stay_words(at: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = at()
    desk.drafts.choose(run=EVIL)
    harmless(parts(desk, {})["state"])
    monkeypatch.setattr(teaching, "problem_of", lambda *_: EVIL)
    harmless(watching.state_html(desk, "x", []))
    with pytest.raises(WorkbenchError):
        desk.run(EVIL)
