"""What a person entered: saved at each change, taken back, and split as the run will be."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from tests.on_disk import watch
from workbench.app import drafts
from workbench.app.drafts import Draft
from workbench.demonstrations import Demonstration, read, read_questions, split
from workbench.errors import InputError, RunError

ROWS = [{"prompt": f"Question {i}?", "demonstration": f"So it is {i}.", "answer": str(i)} for i in range(10)]
HALF = "\ud83d"


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    made = Draft(tmp_path / ".draft")
    made.replace_rows(ROWS, "numbers")
    return made


def again(draft: Draft) -> Draft:
    """As after a restart."""
    return Draft(draft.folder)


def test_everything_is_there_after_a_restart(draft: Draft) -> None:
    draft.edit(2, {**ROWS[2], "answer": "two"})
    draft.add({"prompt": "New?", "demonstration": "Yes."})
    draft.delete(0)
    draft.add_keep("What is 3 plus 4?")
    draft.set_setting("optim", "steps", 70)
    draft.choose(method="sft", run="numbers-2", held_out=0.2, strict=True)
    draft.set_check({"verdict": "ready", "rows": []})
    draft.type("examples.pasted", "half a wor")
    found = again(draft)
    assert [row["prompt"] for row in found.rows] == [f"Question {i}?" for i in range(1, 10)] + ["New?"]
    assert found.rows[1]["answer"] == "two"
    assert [row["prompt"] for row in found.keep] == ["What is 3 plus 4?"]
    assert (found.name, found.source, found.method, found.run) == ("numbers", "numbers", "sft", "numbers-2")
    assert found.settings == {"optim": {"steps": 70}}
    assert found.choices == draft.choices and found.choices.strict
    assert found.check is not None and found.check["of"] == draft.fingerprint() == found.fingerprint()
    assert found.typed("examples.pasted") == "half a wor" and found.typed("other") == ""


def test_each_change_is_taken_back_in_turn(draft: Draft) -> None:
    states = [draft.rows]
    for i in range(60):
        draft.add({"prompt": f"More {i}?", "demonstration": "Yes."})
        states.append(draft.rows)
    draft.add_keep("Keep me.")
    assert draft.changes == 62
    assert draft.undo() and draft.keep == ()
    for before in reversed(states[:-1]):
        assert draft.undo()
        assert draft.rows == before == again(draft).rows
    assert draft.undo() and draft.rows == ()
    assert not draft.undo()


def test_a_change_that_changes_nothing_is_none(draft: Draft) -> None:
    version, edition = draft.version, draft.edition
    draft.edit(3, dict(ROWS[3]))
    assert draft.add_keep("  ") == 0
    draft.choose(method="sdft")
    assert (draft.version, draft.edition, draft.changes) == (version, edition, 1)
    draft.add_keep("Keep me.")
    assert (draft.version, draft.edition) == (version + 1, edition)
    draft.delete(1)
    assert draft.edition != edition


def test_typing_does_not_ask_for_a_redraw(draft: Draft) -> None:
    version = draft.version
    draft.type("examples.pasted", "a")
    assert draft.version == version


def test_wrong_rows_are_kept_and_told_apart(draft: Draft) -> None:
    draft.edit(4, {"prompt": "Question 4?", "demonstration": 4})
    draft.add(
        {"prompt": "  ", "demonstration": "Yes."}, {"prompt": "No example?"}, {"prompt": "P?", "demonstration": HALF}
    )
    assert sorted(draft.problems) == [4, 10, 11, 12]
    assert "not a text" in draft.problems[4] and "blank" in draft.problems[10]
    assert len(draft.good) == 9 and len(draft.rows) == 13
    assert again(draft).problems == draft.problems
    draft.edit(4, ROWS[4])
    assert sorted(draft.problems) == [10, 11, 12]


def test_wrong_rows_block_the_others_only_on_request(draft: Draft) -> None:
    draft.add({"prompt": "No example?"})
    assert len(draft.split().teaching) == 7
    draft.choose(strict=True)
    with pytest.raises(InputError, match="1 of 11 rows"):
        draft.split()


def test_the_split_is_the_one_of_the_run(draft: Draft) -> None:
    draft.choose(held_out=0.4)
    draft.set_setting("optim", "seed", 5)
    rows = [Demonstration.from_dict(row) for row in ROWS]
    assert draft.split() == split(rows, held_out=0.4, seed=5)
    assert draft.split() != split(rows, held_out=0.4, seed=6)


@pytest.mark.parametrize("rows", [[], ROWS[:1]])
def test_too_few_rows_are_said(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    draft = Draft(tmp_path)
    draft.replace_rows(rows, "few")
    with pytest.raises(InputError):
        draft.split()


def test_keep_rows_go_on_the_list(draft: Draft) -> None:
    draft.replace_rows([*ROWS, {"prompt": "Stay?", "keep": True, "id": "k1", "answer": "no"}], "mixed")
    assert len(draft.rows) == 10
    assert draft.keep == ({"prompt": "Stay?", "keep": True, "id": "k1"},)
    assert draft.add_keep("Stay?", {"prompt": [{"role": "user", "content": "Hi"}]}, "New?", "New?") == 2
    assert [row["prompt"] for row in draft.keep] == ["Stay?", [{"role": "user", "content": "Hi"}], "New?"]
    draft.set_keep(["One?", "", "Two?"])
    assert [row["prompt"] for row in draft.keep] == ["One?", "Two?"]
    assert draft.undo() and len(draft.keep) == 3
    draft.replace_rows(ROWS, "without")
    assert len(draft.keep) == 3, "other rows do not take the list away"


@pytest.mark.parametrize(
    ("group", "name", "value"), [("optim", "steps", 0), ("optim", "speed", 3), ("nothing", "steps", 3)]
)
def test_a_wrong_setting_is_refused(draft: Draft, group: str, name: str, value: int) -> None:
    with pytest.raises(InputError):
        draft.set_setting(group, name, value)
    assert draft.settings == {}


def test_a_setting_goes_back_to_its_default(draft: Draft) -> None:
    draft.set_setting("optim", "steps", 70)
    draft.set_setting("optim", "steps", None)
    assert draft.settings == {} == again(draft).settings


def test_a_check_no_longer_holds_when_what_it_depends_on_has_changed(draft: Draft) -> None:
    seen = {draft.fingerprint()}
    draft.choose(run="another", method="sft")
    assert draft.fingerprint() in seen
    draft.set_setting("rollout", "max_new_tokens", 20)
    seen.add(draft.fingerprint())
    draft.choose(scorer="exact")
    seen.add(draft.fingerprint())
    draft.delete(0)
    seen.add(draft.fingerprint())
    assert len(seen) == 4


def test_files_are_what_commands_read(draft: Draft) -> None:
    draft.add({"prompt": "No example?"})
    draft.add_keep("Stay?")
    draft.replace_rows(draft.rows, "../../My numbers <b>")
    rows, keep = draft.files()
    assert rows.parent == draft.folder / "files" and rows.suffix == ".jsonl"
    assert read(rows).rows == tuple(Demonstration.from_dict(row) for row in ROWS)
    assert keep is not None and [row.prompt for row in read_questions(keep).rows] == ["Stay?"]


def test_a_damaged_file_is_put_aside_and_said(draft: Draft) -> None:
    draft.set_setting("optim", "steps", 70)
    (draft.folder / "rows.jsonl").write_text('{"prompt": "Quest')
    found = again(draft)
    assert found.rows == () and found.settings == {"optim": {"steps": 70}}
    assert "rows.jsonl" in found.notice
    assert (draft.folder / "rows.jsonl.damaged").read_text() == '{"prompt": "Quest'


def test_a_disk_that_cannot_be_written_changes_nothing(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    before, version = draft.rows, draft.version

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(drafts.os, "replace", full)
    with pytest.raises(RunError, match="full"):
        draft.delete(0)
    monkeypatch.undo()
    assert draft.rows == before == again(draft).rows and draft.version == version


def test_a_file_is_whole_or_not_at_all(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read at any moment is the old or the new text: the file is written beside it and put in its place."""
    seen: list[str] = []
    replace = os.replace

    def watch(part: Path, path: Path) -> None:
        if Path(path).name == "rows.jsonl":
            seen.extend((Path(path).read_text(), Path(part).read_text()))
        replace(part, path)

    monkeypatch.setattr(drafts.os, "replace", watch)
    draft.delete(*range(1, 10))
    assert [len(text.splitlines()) for text in seen] == [10, 1]
    assert all(json.loads(line) for text in seen for line in text.splitlines())


def test_a_row_that_is_not_there_is_said(draft: Draft) -> None:
    for act in (lambda: draft.edit(10, ROWS[0]), lambda: draft.delete(-1)):
        with pytest.raises(InputError, match="no row"):
            act()


def test_nothing_changes_the_rows_while_they_are_revised(draft: Draft) -> None:
    begun, added = threading.Event(), threading.Event()

    def add() -> None:
        begun.wait(30)
        draft.add({"prompt": "New?", "demonstration": "Yes."})
        added.set()

    def revise(rows: tuple[drafts.Row, ...]) -> tuple[drafts.Row, ...]:
        begun.set()
        assert not added.wait(0.2), "what was added now would be lost"
        return rows[1:]

    other = threading.Thread(target=add)
    other.start()
    draft.revise(revise)
    other.join(30)
    assert [row["prompt"] for row in draft.rows] == [f"Question {i}?" for i in range(1, 10)] + ["New?"]


def test_a_change_is_on_the_disk_before_it_takes_the_place_of_the_old_text(
    draft: Draft, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = watch(monkeypatch)
    draft.delete(0)
    draft.type("examples.pasted", "half a wor")
    for name in ("rows.jsonl", "draft.json", "typed.json"):
        assert done.index(("synced", f".{name}.part")) < done.index(("named", name))


def test_what_could_not_be_written_is_not_there_to_be_taken_back(draft: Draft, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    draft.delete(0)
    changes, after = draft.changes, draft.rows
    monkeypatch.setattr(drafts.os, "replace", full)
    with pytest.raises(RunError, match="full"):
        draft.delete(0)
    assert (draft.changes, draft.rows) == (changes, after)
    with pytest.raises(RunError, match="full"):
        draft.undo()
    assert (draft.changes, draft.rows) == (changes, after), "nor is it taken back, then"
    monkeypatch.undo()
    assert draft.undo() and [row["prompt"] for row in draft.rows] == [row["prompt"] for row in ROWS]


def test_an_edited_row_makes_a_table_old_though_none_came_or_went(draft: Draft) -> None:
    editions = [draft.edition]
    draft.edit(3, {**ROWS[3], "answer": "three"})
    editions.append(draft.edition)
    draft.set_rows([*ROWS[1:], ROWS[0]])
    editions.append(draft.edition)
    assert len(set(editions)) == 3
    draft.set_rows(ROWS)
    assert draft.edition == editions[0]


def test_a_question_to_keep_holds_its_name_and_tags_and_nothing_else(draft: Draft) -> None:
    draft.add_keep({"prompt": "Stay?", "id": "k1", "tags": ["capital"], "demonstration": "No.", "answer": "no"})
    assert draft.keep == ({"prompt": "Stay?", "keep": True, "id": "k1", "tags": ["capital"]},)
