"""The Compare page: what is asked, what comes back, the lists of test questions."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.desks import FAKE
from tests.fake_run import config_of
from tests.waiting import until
from workbench.app import asking, compare, held_out, questions, sittings
from workbench.app.asking import Asked, Form, Shown
from workbench.app.desk import Desk
from workbench.app.questions import Question, Sampling, follow, make_question
from workbench.app.sittings import Sittings
from workbench.decoding import decoder_for
from workbench.demonstrations import Demonstration
from workbench.demonstrations.record import row_of
from workbench.errors import InputError, WorkbenchError
from workbench.evaluation import answer
from workbench.models import load
from workbench.prompts import Prompts
from workbench.runs import Run
from workbench.runs.folder import create
from workbench.settings import Settings
from workbench.views.columns import change
from workbench.worker import Worker

EVIL = "<img src=x onerror=alert(1)></script>\u202e\u202b"
PROBES = [
    Demonstration(prompt=f"What is {i} plus 4?", answer=str(i + 4), tags=("add" if i < 4 else "opposite",))
    for i in range(6)
]


@pytest.fixture
def run(tmp_path: Path, rows: list[Demonstration]) -> Run:
    """A run with a student at two steps."""
    sides = {"teaching": rows[:8], "held-out": rows[8:], "keep": [Demonstration(prompt="Kept?", keep=True)]}
    made = create(tmp_path, "colours", config_of("sdft", "pocket", Settings(), "rows"), sides, PROBES)
    for step in (50, 100):
        (made.checkpoints / f"step-{step:06d}").mkdir()
    (made.checkpoints / ".tmp-step-000150-1").mkdir()
    made.adapter.mkdir()
    return made


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path, command=FAKE)
    made.start()
    yield made
    made.close()


@pytest.fixture
def desk(worker: Worker, tmp_path: Path) -> Desk:
    return Desk.at(tmp_path, worker)


def ask(desk: Desk, text: str, shown: str = "", filled: Any = ("", ""), run: str = "", **changes: Any) -> list[Shown]:
    return list(asking.ask(desk, Form(text, shown, filled, run, **changes)))


def test_a_question_of_the_run_brings_its_demonstration(run: Run, rows: list[Demonstration]) -> None:
    row = row_of(run.rows("held-out"), f"  {rows[9].question} ")
    assert row == rows[9]
    asked = make_question(rows[9].question, shown=questions.shown_by(row), row=row, run=run.name, step=50)
    assert asked.arguments(Sampling())["demonstration"] == rows[9].demonstration
    assert (asked.run, asked.step, asked.context) == ("colours", 50, None)
    assert row_of([Demonstration(prompt="Kept?", keep=True)], "Kept?") is None


def test_only_runs_of_the_folder_are_found(run: Run, tmp_path: Path) -> None:
    assert questions.run_names(tmp_path) == ["colours"]
    found = questions.find_run(tmp_path, "colours")
    assert found is not None and questions.saved_steps(found) == [50, 100]
    assert questions.find_run(tmp_path, "") is None
    inside = tmp_path / "deep"
    inside.mkdir()
    for name in ("../" + tmp_path.name + "/colours", str(run.path), "gone"):
        with pytest.raises(InputError, match="no run"):
            questions.find_run(inside if "/" in name else tmp_path, name)


def test_the_worker_understands_what_is_asked(run: Run, worker: Worker) -> None:
    asked = Question(({"role": "user", "content": "red?"},), "The reply is mipa.", None, run.name, 50)
    last = list(follow(worker.call("ask", **asked.arguments(Sampling())), lambda: 0.0))[-1]
    assert last.texts["student"] == "Learned at step 50."
    assert last.texts["teacher"] == "The reply is mipa."
    assert "The reply is mipa." in last.prompts["teacher"] and "mipa" not in last.prompts["student"]
    again = worker.call("ask", **asked.arguments(Sampling(temperature=1.0), times=5)).result()
    assert sum(n for _, n, _ in questions.tally(again["answers"]["base"])) == 5
    assert len(questions.tally(again["answers"]["base"])) == 5


def row(number: int, before: bool, after: bool, **more: Any) -> dict[str, Any]:
    values = {"id": str(number), "question": f"Q{number}", "answer": "A", "tags": ["add"], "base": "b", "teacher": "t"}
    rights = {"base_right": before, "teacher_right": True, "student_right": after}
    return {**values, "student": "s", **rights, **more}


ROWS = [row(1, True, True), row(2, False, False), row(3, False, True), row(4, True, False)]


def test_changed_rows_come_first_and_filters_let_through_what_they_say(run: Run, worker: Worker) -> None:
    done = Sittings(worker.runs).start(worker, run.name, None, "probes")
    done.call.result()
    assert done.rows is not None
    assert [change(r) for r in done.rows] == ["forgotten", *["still right"] * 5]
    assert [r["id"] for r in sittings.chosen(ROWS, "changed")] == ["3", "4"]
    assert [r["id"] for r in sittings.chosen(ROWS, "wrong")] == ["2", "4"]
    assert len(sittings.chosen(ROWS, "all")) == 4


def test_a_list_is_found_again_and_made_once(run: Run, worker: Worker) -> None:
    lists = Sittings(worker.runs)
    first = lists.start(worker, run.name, None, "held-out")
    first.call.result()
    assert lists.get(run.name, None, "held-out") is first
    assert lists.get(run.name, 50, "held-out") is None
    assert not first.going and first.problem is None
    assert "the base gets 0 right, the teacher 4, the student 4. It learned 4 and lost 0" in sittings.summary(
        first.rows or [], "held-out"
    )


def test_a_finished_list_outlives_a_restart_unless_the_run_has_changed(run: Run, worker: Worker) -> None:
    first = Sittings(worker.runs).start(worker, run.name, None, "held-out")
    first.call.result()

    def again() -> list[dict[str, Any]] | None:
        found = Sittings(worker.runs).get(run.name, None, "held-out")
        return None if found is None else found.rows

    until(lambda: again() is not None)
    assert again() == first.rows
    assert Sittings(worker.runs).get("../colours", None, "held-out") is None
    (run.checkpoints / "step-000150").mkdir()  # it was taught further
    assert again() is None


def test_a_list_that_fails_says_why(run: Run, worker: Worker) -> None:
    lists = Sittings(worker.runs)
    gone = lists.start(worker, "gone", None, "probes")
    with pytest.raises(InputError):
        gone.call.result()
    assert "There is no run 'gone'" in str(gone.problem)
    assert gone.rows is None and lists.download(gone) is None
    assert lists.start(worker, "gone", None, "probes") is not gone


def test_right_and_wrong_are_in_words_and_signs() -> None:
    [line] = sittings.table([row(1, True, False, base="", student="x" * 100_000)], "held-out")
    assert line[:4] == ["forgotten", "Q1", "A", "\u2713 right: (nothing)"]
    assert line[5].startswith("\u2717 wrong: xxx") and len(line[5]) < 320
    assert len(line) == len(sittings.headers("held-out"))
    [probe] = sittings.table([row(1, True, True, teacher=None, teacher_right=None)], "probes")
    assert len(probe) == len(sittings.headers("probes")) == 5


def test_what_was_forgotten_is_named() -> None:
    rows = [*ROWS, row(5, True, False, tags=["opposite"]), row(6, False, False, tags=["never known"])]
    assert sittings.by_skill(rows) == [["opposite", "1", "0", "1"], ["add", "2", "1", "1"]]
    assert sittings.by_skill([row(1, True, True, tags=[])]) == [["no name", "1", "1", "0"]]
    assert "the base knew 3. The student still knows 1 of those and forgot 2" in sittings.summary(rows, "probes")
    assert "nothing to mark" in sittings.summary([], "held-out")


def test_the_download_is_whole_and_harmless(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    formulas = ["=1+1", "+1", "-1", "@x", "\tx", "\rx"]
    long = "y" * 100_000
    sittings.write_csv(
        path, [row(i, True, False, question=q) for i, q in enumerate(formulas)] + [row(9, True, True, base=long)]
    )
    with path.open(encoding="utf-8-sig", newline="") as file:
        csv.field_size_limit(200_000)
        lines = list(csv.DictReader(file))
    assert [line["question"] for line in lines[:-1]] == ["'" + q for q in formulas]
    assert lines[-1]["base"] == long
    assert lines[0]["change"] == "forgotten" and lines[0]["student_right"] == "False"


def test_all_three_answer_and_the_prompts_are_behind_them(desk: Desk, run: Run, rows: list[Demonstration]) -> None:
    row = rows[9]
    seen = ask(desk, row.question, run=run.name, beside=50)
    assert seen[0].demonstration == row.demonstration
    assert "From the run" in seen[0].note
    answered = next(s for s in reversed(seen) if s.asked is not asking.SAME)
    assert answered.asked.texts["student"] == "Learned."
    assert row.demonstration in answered.teacher_prompt and row.demonstration not in answered.student_prompt
    last = [s for s in seen if s.student is not asking.SAME][-1]
    assert "Learned." in last.student and "0.05 s, 1 token" in last.student
    assert "Student at step 50" in seen[-1].earlier and "Learned at step 50." in seen[-1].earlier


def test_without_a_run_the_student_says_what_to_do(desk: Desk, rows: list[Demonstration]) -> None:
    desk.drafts.replace_rows([r.to_dict() for r in rows], "rows")
    seen = ask(desk, rows[0].question)
    assert "There is no student yet" in [s.student for s in seen if s.student is not asking.SAME][-1]
    assert seen[0].demonstration == rows[0].demonstration and "your examples" in seen[0].note
    unknown = ask(desk, "Why?")
    assert unknown[0].demonstration == "" and "no example is known" in unknown[0].note
    assert "reads what the base reads" in [s.teacher for s in unknown if s.teacher is not asking.SAME][-1]


def test_what_a_person_wrote_for_the_teacher_stays(desk: Desk, run: Run, rows: list[Demonstration]) -> None:
    first, second = rows[8], rows[9]
    known = questions.shown_by(first)

    def shown(text: str, field: str, filled: tuple[str, str]) -> str:
        return asking.prepare(desk, text, field, filled, run.name, 0)[0].shown

    assert shown(second.question, known, (first.question, known)) == second.demonstration  # untouched: follows
    assert shown(first.question, "Mine.", (first.question, known)) == "Mine."
    assert shown(first.question, "", (first.question, known)) == ""  # deleted: the teacher is to see nothing
    assert shown(second.question, "", (first.question, known)) == second.demonstration
    begun, held = ask(desk, " ", run=run.name)[0], run.rows("held-out")[0]  # without a question: the first of the test
    assert (begun.question, begun.demonstration) == (held.question, held.demonstration)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": " "}, "There is no question yet"),
        ({"run": "../other"}, "There is no run"),
        ({"top_p": 7}, "Top-p must be"),
        ({"text": "boom"}, "This question fails. Ask another."),
    ],
)
def test_what_is_wrong_is_said(desk: Desk, changes: dict[str, Any], said: str) -> None:
    last = ask(desk, **{"text": "Why?", **changes})[-1]
    assert said in last.notice


def test_evil_strings_make_no_element(desk: Desk, run: Run) -> None:
    for text in (EVIL, "y" * 100_000):
        seen = ask(desk, text, shown=EVIL, run=run.name)
        html = "".join(v for s in seen for v in s[:5] if isinstance(v, str))
        assert "<img" not in html and "</script>" not in html and "\u202e" not in html
        assert max(len(s.base) for s in seen if isinstance(s.base, str)) < 60_000
    assert "<img" not in held_out.skills([[EVIL, "1", "0", "1"], [EVIL, "1", "1", "0"]])


def test_five_times(desk: Desk, run: Run) -> None:
    notice, html = list(asking.ask_often(desk, Form("Why?", run=run.name)))[-1]
    assert notice == "" and html.count("1 of 5: ") == 15
    assert "temperature 1; at 0 all would be the same" in html


def test_a_token_map_of_either(desk: Desk, run: Run) -> None:
    asked = next(s.asked for s in reversed(ask(desk, "Why?", run=run.name)) if s.asked is not asking.SAME)
    notice, html = asking.look(desk, "student", asked)
    assert notice == "" and "The student&#x27;s answer, seen by the teacher" in html and 'class="tk' in html
    assert "Teacher agrees" in html and "The teacher disagrees most" in html
    html = asking.look(desk, "teacher", asked)[1]
    assert "The teacher&#x27;s answer, seen by the student" in html
    assert "Student agrees" in html and "The student disagrees most" in html
    assert "Ask a question first" in asking.look(desk, "student", None)[0]
    alone = Asked(Question(({"role": "user", "content": "Why?"},)), {"base": "b", "teacher": "t"})
    assert "There is no student yet" in asking.look(desk, "student", alone)[0]


def test_keep_this_puts_it_on_the_list_once(desk: Desk) -> None:
    assert "1 on the keep list" in asking.keep_question(desk, " What is 3 plus 4? ")
    assert "already" in asking.keep_question(desk, "What is 3 plus 4?")
    assert [row["prompt"] for row in desk.drafts.keep] == ["What is 3 plus 4?"]
    assert "Write a question" in asking.keep_question(desk, " ")
    desk.drafts.add({"prompt": "What is red?", "demonstration": "It is mipa."})
    refused = asking.keep_question(desk, "What is red?")
    assert "Not kept" in refused and "one of your examples" in refused and len(desk.drafts.keep) == 1


def test_the_page_is_rebuilt_from_disk(desk: Desk, run: Run, rows: list[Demonstration]) -> None:
    runs, step, beside, samples, _ = compare.restore(desk)
    assert runs["value"] == run.name and ("colours", "colours") in runs["choices"]
    assert step["choices"] == [("the newest", 0), ("100", 100), ("50", 50)] and step["value"] == 0
    assert beside["choices"][1] == ("100", 100)
    cursor: dict[str, Any] = {}
    compare.poll(desk, cursor)
    assert all(update == asking.SAME for update in compare.poll(desk, cursor))
    (run.checkpoints / "step-000150").mkdir()
    assert compare.poll(desk, cursor)[1]["choices"][1] == ("150", 150)
    text, shown, filled, note = compare.take(desk, [rows[8].question], run.name)
    assert shown == rows[8].demonstration and filled == (text, shown) and "From the run" in note


def test_what_is_chosen_stays_when_the_lists_are_drawn_again(
    desk: Desk, run: Run, tmp_path: Path, rows: list[Demonstration]
) -> None:
    cursor: dict[str, Any] = {}

    def shown() -> list[Any]:
        return [part["value"] for part in compare.poll(desk, cursor)[:3]]

    assert shown() == [run.name, 0, 0]
    compare.choose_steps(cursor, run.name, 50, 100)
    assert shown() == [run.name, 50, 100], "a poll that was under way may have overwritten it"
    (run.checkpoints / "step-000150").mkdir()  # it is being taught
    assert shown() == [run.name, 50, 100]
    compare.choose(desk, cursor, "")
    (run.checkpoints / "step-000200").mkdir()
    assert shown() == ["", 0, 0]
    other = create(tmp_path, "shapes", config_of("sdft", "pocket", Settings(), "rows"), {"held-out": rows}, [])
    other.adapter.mkdir()
    desk.drafts.choose(run="shapes")  # it came into view
    assert shown() == ["shapes", 0, 0]
    # A list that is opened and closed again chooses what was chosen before.
    assert [part["value"] for part in compare.choose(desk, cursor, run.name)[:2]] == [50, 100]
    assert shown() == [run.name, 50, 100]


def test_a_run_of_another_model_leaves_the_base_to_be_asked(
    desk: Desk, run: Run, tmp_path: Path, rows: list[Demonstration]
) -> None:
    until(lambda: desk.worker.status.model == "pocket")
    other = create(tmp_path, "other", config_of("sdft", "some/model", Settings(), "rows"), {"held-out": rows}, [])
    assert "Or choose No run under Student of run" in ask(desk, "boom", run=other.name)[-1].notice
    assert "No run" not in ask(desk, "boom", run=run.name)[-1].notice


def test_a_list_that_is_not_made_anew_leaves_the_one_that_is_there(desk: Desk, run: Run) -> None:
    lists, cursor = Sittings(desk.runs), {}
    held_out.start(desk, lists, cursor, run.name, 0, "probes", "all")
    until(lambda: Sittings(desk.runs).get(run.name, None, "probes"))
    desk.worker.close()
    said, *_ = held_out.start(desk, lists, cursor, run.name, 0, "probes", "all")
    again = lists.get(run.name, None, "probes")
    assert (
        again is not None and again.refused is not None and again.refused.problem in said and "Of 6 questions" in said
    )
    assert held_out.as_file(lists, run.name, 0, "probes") is not None


def test_lists_are_drawn_as_they_come(desk: Desk, run: Run) -> None:
    lists, cursor = Sittings(desk.runs), {}
    assert held_out.poll(lists, cursor) == [held_out.SAME] * 3
    assert "Press Ask them all" in held_out.draw(lists, cursor, run.name, 0, "held-out", "all")[0]
    assert "Choose a run" in held_out.start(desk, lists, cursor, "", 0, "held-out", "all")[0]
    held_out.start(desk, lists, cursor, run.name, 0, "probes", "wrong")
    sitting = lists.get(run.name, None, "probes")
    assert sitting is not None
    sitting.call.result()
    cursor["compare.lists"] = -1
    said, table, file = held_out.poll(lists, cursor)
    assert held_out.poll(lists, cursor) == [held_out.SAME] * 3
    assert "<td>add</td><td>4</td><td>3</td><td>1</td>" in said and "Nothing forgotten of: opposite" in said
    assert [line[0] for line in table["value"]["data"]] == ["forgotten"] and file["visible"]
    written = held_out.as_file(lists, run.name, 0, "probes")
    assert written is not None and written.read_text(encoding="utf-8-sig").count("\n") == 7
    assert held_out.pick(lists, run.name, 0, "probes", table["value"]["data"][0]) == "What is 0 plus 4?"
    version = lists.version
    held_out.start(desk, lists, cursor, run.name, 0, "probes", "all")
    assert lists.version > version


def test_the_endpoint_gives_answers_and_prompts(desk: Desk, run: Run, rows: list[Demonstration]) -> None:
    given = asking.compare_once(desk, run.name, rows[8].question, "", 0.0, 0, 50)
    assert list(given) == ["base", "teacher", "student", "prompts", "right", "answer"]
    assert given["answer"] == rows[8].answer and given["right"] == {"base": False, "teacher": True, "student": False}
    assert given["student"] == "Learned at step 50." and rows[8].demonstration in given["prompts"]["teacher"]
    with pytest.raises(WorkbenchError, match="fails"):
        asking.compare_once(desk, "", "boom", "", 0.0, 0, 0)


def test_the_code_is_that_of_the_fields(desk: Desk, run: Run) -> None:
    made = compare.show_code(desk, run.name, "Why?", "So.", 50, 0.5, 3)
    assert "--prompt 'Why?' --demonstration So. --step 50 --temperature 0.5 --seed 3" in made.shell
    compile(made.python, "code", "exec")
    turns = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    made = compare.show_code(desk, run.name, "Why?", "So.", 50, 0.5, 3, turns)
    assert made.shell.startswith("# The command line asks one question alone")
    assert "prompt=({'role': 'user', 'content': 'Hi.'}, " in made.python and "'Why?'})" in made.python
    with pytest.raises(InputError, match="no run is chosen"):
        compare.show_code(desk, "", "Why?", "", 0, 0, 0)


def test_the_pocket_can_and_cannot_what_the_page_says() -> None:
    loaded = load("pocket")
    asked = [*questions.POCKET_CAN, *questions.POCKET_CANNOT]
    prompts = Prompts(loaded.tokenizer)
    tokens = [prompts.tokenise(Demonstration(prompt=text)).student for text, _ in asked]
    said = answer(decoder_for(loaded.model), loaded, tokens, longest=32)
    right = [wanted in text for text, (_, wanted) in zip(said, asked, strict=True)]
    can = len(questions.POCKET_CAN)
    assert right == [True] * can + [False] * len(questions.POCKET_CANNOT), said
